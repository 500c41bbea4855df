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
    truncate(file_of(m4raw, PEOPLE[0], "T2"))
    replace(file_of(m4raw, PEOPLE[1], "T1"), "kspace", np.full((3, 4, 32, 32), np.nan))
    manifest = convert(on_error="skip")
    assert len(manifest.volumes) == 4
    names = [skipped.name for skipped in manifest.skipped]
    assert names == [
        f"multicoil_train/{PEOPLE[0]}_T201.h5",
        f"multicoil_train/{PEOPLE[1]}_T101.h5",
    ]
    assert all(skipped.reason for skipped in manifest.skipped)
    left = {path.stem for path in (tmp_path / "train").iterdir()}
    assert left == {volume.volume_id for volume in manifest.volumes}


def test_a_split_of_which_nothing_is_left_is_refused(convert, m4raw):
    for path in m4raw.rglob("*.h5"):
        truncate(path)
    with pytest.raises(ValueError, match="every file of m4raw was left out, the split"):
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
    files = {p.name: p.read_bytes() for p in (tmp_path / "train").iterdir()}
    monkeypatch.setattr(scanned, "HELD_BYTES", 0)
    assert convert() == before
    assert {p.name: p.read_bytes() for p in (tmp_path / "train").iterdir()} == files


def test_the_repetition_that_is_damaged_is_the_one_that_is_listed(convert, m4raw):
    """One of three that are averaged: the scan goes, the file to blame is named."""
    first = file_of(m4raw, PEOPLE[0], "T1")
    for number in ("02", "03"):
        path = first.with_name(first.name.replace("01.h5", f"{number}.h5"))
        write_m4raw(path, slices=3, size=32, seed=int(number))
    truncate(path)
    manifest = convert(repetitions="average", on_error="skip")
    assert [s.name for s in manifest.skipped] == [f"multicoil_train/{path.name}"]
    assert len(manifest.volumes) == 5
