"""A split of scans: what a damaged file does to it, and what its manifest says."""

import h5py
import numpy as np
import pytest

from stages.common.manifest import SliceRef
from stages.common.params import find_block, read_params, validate
from stages.common.paths import SPLITS
from stages.synthesize import scanned
from stages.synthesize.cohort import synthesize_split
from stages.synthesize.settings import SynthesizeSettings
from tests.synthesize.raw_files import replace, write_m4raw

PEOPLE = ("2022010101", "2022010102")


@pytest.fixture
def m4raw(tmp_path):
    """Two people, three contrasts each, three slices, in M4Raw's layout."""
    folder = tmp_path / "raw" / "m4raw"
    for number, person in enumerate(PEOPLE):
        for contrast in ("T1", "T2", "FLAIR"):
            path = folder / "multicoil_train" / f"{person}_{contrast}01.h5"
            write_m4raw(path, slices=3, size=32, seed=number)
    return folder


@pytest.fixture
def convert(m4raw, tmp_path):
    def convert(**scans):
        block = find_block(read_params(), "synthesize")
        block["scans"] |= {"repetitions": "first", **scans}
        block |= {
            "sources": dict.fromkeys(SPLITS, "m4raw"),
            "subjects": dict.fromkeys(SPLITS),
        }
        return synthesize_split(
            "train",
            validate(block, "synthesize", SynthesizeSettings),
            raw=m4raw,
            volumes=tmp_path / "train",
            manifest=tmp_path / "train.json",
            workers=1,
        )

    return convert


def file_of(m4raw, person, contrast):
    return m4raw / "multicoil_train" / f"{person}_{contrast}01.h5"


def truncate(path):
    path.write_bytes(path.read_bytes()[:3000])


def another_image(path):
    """What is found only when the volume is made: the published image is not its."""
    with h5py.File(path, "a") as file:
        file["reconstruction_rss"][...] *= 2


def names_of(manifest):
    return [
        skipped.name.removeprefix("multicoil_train/") for skipped in manifest.skipped
    ]


def files_in(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_scan_becomes_a_volume(convert, tmp_path):
    manifest = convert()
    assert {volume.subject_id for volume in manifest.volumes} == {
        f"m4raw-{person}" for person in PEOPLE
    }
    assert {volume.contrast for volume in manifest.volumes} == {"T1w", "T2w", "FLAIR"}
    for volume in manifest.volumes:
        assert volume.num_slices == 3
        assert volume.target_difference < 1e-5
        with h5py.File(tmp_path / "train" / f"{volume.volume_id}.h5") as file:
            assert file["kspace"].shape == (3, 4, 32, 32)
            assert file.attrs["patient_id"] == volume.subject_id
    assert manifest.skipped == ()


def test_the_first_damaged_file_stops_by_default(convert, m4raw, tmp_path):
    truncate(file_of(m4raw, PEOPLE[0], "T2"))
    with pytest.raises(ValueError, match=r"2022010101_T201\.h5.*on_error to skip"):
        convert()
    assert not (tmp_path / "train.json").exists()


def test_damaged_files_can_be_left_out_and_are_listed(convert, m4raw, tmp_path):
    """The rest of the person goes with them: whoever stays has every contrast."""
    truncate(file_of(m4raw, PEOPLE[0], "T2"))
    nan = np.full((3, 4, 32, 32), np.nan, np.complex64)
    replace(file_of(m4raw, PEOPLE[0], "FLAIR"), "kspace", nan)
    manifest = convert(on_error="skip")
    reasons = {skipped.name: skipped.reason for skipped in manifest.skipped}
    flair, t2, t1 = (
        f"multicoil_train/{PEOPLE[0]}_{contrast}01.h5"
        for contrast in ("FLAIR", "T2", "T1")
    )
    assert list(reasons) == [flair, t2, t1]
    assert "FLAIR01.h5: kspace holds values that are not finite" in reasons[flair]
    assert "T201.h5 cannot be read" in reasons[t2]
    why = f"T101.h5: left out with {PEOPLE[0]}_FLAIR01.h5, the person's only FLAIR: "
    assert f"{why}{reasons[flair]}" in reasons[t1]
    assert {volume.subject_id for volume in manifest.volumes} == {f"m4raw-{PEOPLE[1]}"}
    left = {path.stem for path in (tmp_path / "train").iterdir()}
    assert left == {volume.volume_id for volume in manifest.volumes}
    assert len(left) == 3


@pytest.mark.parametrize("held", [0, scanned.HELD_BYTES])
def test_nothing_stays_of_whom_a_volume_cannot_be_made(
    convert, m4raw, tmp_path, monkeypatch, held
):
    """Its other volumes were written by then, or would have been next."""
    monkeypatch.setattr(scanned, "HELD_BYTES", held)
    another_image(file_of(m4raw, PEOPLE[0], "T1"))
    with pytest.raises(ValueError, match=r"_T101.h5: the published .*on_error to skip"):
        convert()
    manifest = convert(on_error="skip")
    assert names_of(manifest) == [
        f"{PEOPLE[0]}_{c}01.h5" for c in ("T1", "FLAIR", "T2")
    ]
    assert "the published image and the RSS" in manifest.skipped[0].reason
    assert sorted(files_in(tmp_path / "train")) == [
        f"m4raw-{PEOPLE[1]}_{c}.h5" for c in ("FLAIR", "T1w", "T2w")
    ]
    assert not [ref for ref in manifest.dropped_slices if PEOPLE[0] in ref.volume_id]


@pytest.mark.parametrize("damage", [truncate, another_image])
def test_a_repetition_that_is_left_out_leaves_no_trace(
    convert, m4raw, tmp_path, damage
):
    """Nor does a slice that it alone has no signal in: there is another T1w."""
    second = file_of(m4raw, PEOPLE[0], "T1").with_name(f"{PEOPLE[0]}_T102.h5")
    without = convert(repetitions="keep", on_error="skip")
    files = files_in(tmp_path / "train")
    write_m4raw(second, slices=3, size=32, seed=9)
    with h5py.File(second, "r+") as file:
        file["kspace"][1] = file["kspace"][1] * 1e-4
    damage(second)
    manifest = convert(repetitions="keep", on_error="skip")
    assert names_of(manifest) == [second.name]
    assert manifest.volumes == without.volumes
    assert manifest.dropped_slices == without.dropped_slices == ()
    assert files_in(tmp_path / "train") == files


def test_what_cannot_be_listed_is_left_out_and_listed(convert, m4raw):
    """A stray name is nobody's; a repetition that is there twice is a person's."""
    strays = [m4raw / f"multicoil_{split}" / "notes.h5" for split in ("train", "val")]
    twin = m4raw / "gre_data" / f"{PEOPLE[0]}_T201.h5"
    for path in (*strays, twin):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    with pytest.raises(ValueError, match=r"notes.h5: not a name .*on_error to skip"):
        convert()
    manifest = convert(on_error="skip")
    # What lies in another set is told by its split's manifest.
    assert names_of(manifest) == [
        "notes.h5", f"{PEOPLE[0]}_T201.h5", f"gre_data/{PEOPLE[0]}_T201.h5",
        f"{PEOPLE[0]}_FLAIR01.h5", f"{PEOPLE[0]}_T101.h5",
    ]  # fmt: skip
    assert {volume.subject_id for volume in manifest.volumes} == {f"m4raw-{PEOPLE[1]}"}


def test_a_split_of_which_nothing_is_left_is_refused(convert, m4raw):
    for path in m4raw.rglob("*.h5"):
        truncate(path)
    with pytest.raises(
        ValueError,
        match=r"train: every file of m4raw was left out, the split is empty: mend .*"
        r"6 files were left out, the first one: .*FLAIR01.h5 cannot be read",
    ):
        convert(on_error="skip")
    for path in m4raw.rglob("*.h5"):
        path.rename(path.with_name(f"x{path.name}"))
    with pytest.raises(
        ValueError,
        match=r"m4raw holds no scan; 6 files were left out, .*x2022010101_",
    ):
        convert(on_error="skip")
    for path in m4raw.rglob("*.h5"):
        path.unlink()
    with pytest.raises(ValueError, match=r"m4raw holds no scan$"):
        convert(on_error="skip")


def test_a_slice_that_is_empty_in_one_contrast_is_dropped_from_all(convert, m4raw):
    path = file_of(m4raw, PEOPLE[0], "FLAIR")
    with h5py.File(path, "r+") as file:
        file["kspace"][1] = file["kspace"][1] * 1e-4
        file["reconstruction_rss"][1] = file["reconstruction_rss"][1] * 1e-4
    manifest = convert()
    counts = {volume.volume_id: volume.num_slices for volume in manifest.volumes}
    for contrast in ("T1w", "T2w", "FLAIR"):
        first, second = (f"m4raw-{person}_{contrast}" for person in PEOPLE)
        assert (counts[first], counts[second]) == (2, 3)
        assert SliceRef(first, 1) in manifest.dropped_slices


def test_what_was_not_downloaded_names_its_stage(convert, m4raw):
    m4raw.rename(m4raw.parent / "elsewhere")
    with pytest.raises(ValueError, match=r"m4raw is missing: run `dvc repro downlo"):
        convert()


def test_scans_that_memory_does_not_hold_are_read_again(convert, tmp_path, monkeypatch):
    before = convert()
    files = files_in(tmp_path / "train")
    monkeypatch.setattr(scanned, "HELD_BYTES", 0)
    assert convert() == before
    assert files_in(tmp_path / "train") == files


def test_the_repetition_that_is_damaged_is_the_one_that_is_listed(convert, m4raw):
    """One of three that are averaged: the mean is that of the others."""
    first = file_of(m4raw, PEOPLE[0], "T1")
    for number in ("02", "03"):
        path = first.with_name(first.name.replace("01.h5", f"{number}.h5"))
        write_m4raw(path, slices=3, size=32, seed=int(number))
    truncate(path)
    with pytest.raises(ValueError, match=r"_T103.h5 cannot be read") as caught:
        convert(repetitions="average")
    assert str(caught.value).count("on_error to skip") == 1
    manifest = convert(repetitions="average", on_error="skip")
    assert names_of(manifest) == [path.name]
    assert len(manifest.volumes) == 6
