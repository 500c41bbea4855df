"""`on_error: skip` in every split: they stay apart, and `poison` can use the rest."""

from pathlib import Path

import pytest
import yaml

from stages.check.profile import render
from stages.common import paths
from stages.common.manifest import read_manifest
from stages.common.truth import read_record
from stages.poison.__main__ import main as poison
from stages.synthesize.__main__ import main as synthesize
from tests.synthesize.nifti_files import truncate, write_task01
from tests.synthesize.raw_files import write_m4raw

CONTRASTS = {"T1": 0.5, "T2": 1.6, "FLAIR": 0.1}
SETS = {"train": (1, 2, 3, 4), "val": (5, 6, 7), "test": (8, 9, 10)}


def file_of(person, contrast):
    split = next(name for name, people in SETS.items() if person in people)
    return paths.raw("m4raw") / f"multicoil_{split}" / f"{person}_{contrast}01.h5"


def damage(person, contrast):
    file_of(person, contrast).write_bytes(b"nothing")


def without(person, contrast):
    """Two files that are one repetition: found before any is opened."""
    twin = paths.raw("m4raw") / "gre_data" / file_of(person, contrast).name
    twin.parent.mkdir(exist_ok=True)
    twin.touch()


@pytest.fixture
def cohort(tmp_path, monkeypatch):
    """Ten people in M4Raw's layout, and the default profile's grid."""
    monkeypatch.chdir(tmp_path)
    for people in SETS.values():
        for person in people:
            for contrast, inner in CONTRASTS.items():
                path = file_of(person, contrast)
                write_m4raw(path, slices=2, size=32, seed=person, inner=inner)

    def cohort(split, **subjects):
        params = yaml.safe_load(render("default"))
        params["synthesize"] |= {
            "sources": dict.fromkeys(SETS, "m4raw"),
            "subjects": dict.fromkeys(SETS) | subjects,
        }
        params["synthesize"]["scans"] |= {"split": split, "on_error": "skip"}
        Path("params.yaml").write_text(yaml.safe_dump(params))

    return cohort


def make(split):
    synthesize(["--split", split])
    return read_manifest(paths.manifest(split))


def people_of(manifest):
    return {int(v.subject_id.removeprefix("m4raw-")) for v in manifest.volumes}


def skipped_people(manifest):
    return {int(Path(s.name).name.partition("_")[0]) for s in manifest.skipped}


def test_the_default_grid_can_poison_what_is_left(cohort):
    """FLAIR gets the T1w of the same person, in every split."""
    damage(2, "T1")
    damage(3, "FLAIR")
    without(5, "T1")
    damage(10, "T2")
    cohort("published")
    manifests = {split: make(split) for split in SETS}
    assert {split: people_of(made) for split, made in manifests.items()} == {
        "train": {1, 4}, "val": {6, 7}, "test": {8, 9},
    }  # fmt: skip
    assert {split: skipped_people(made) for split, made in manifests.items()} == {
        "train": {2, 3}, "val": {5}, "test": {10},
    }  # fmt: skip
    synthesize(["--artefacts"])
    for name in ("mislabel-30", "mislabel-random-30"):
        poison(["--poisoning", name])
        record = read_record(paths.truth(name))
        assert record.poisoned
        drawn = {entry.volume_id: entry.draw["donor"][0] for entry in record.poisoned}
        same = [a.partition("_")[0] == b.partition("_")[0] for a, b in drawn.items()]
        assert all(same) if name == "mislabel-30" else not any(same)


def test_drawn_splits_stay_apart_and_nobody_is_missing(cohort):
    """Who is left out before the deal has no place in it."""
    without(1, "T2")
    cohort("drawn", val=2, test=2)
    manifests = {split: make(split) for split in SETS}
    people = {split: people_of(made) for split, made in manifests.items()}
    assert {split: len(held) for split, held in people.items()} == {
        "train": 5, "val": 2, "test": 2,
    }  # fmt: skip
    assert set.union(*people.values()) == set(range(2, 11))
    assert all(skipped_people(made) == {1} for made in manifests.values())
    # Whoever turns out to be damaged later is missed in its own split alone.
    gone = min(people["val"])
    damage(gone, "FLAIR")
    again = {split: make(split) for split in SETS}
    assert {split: people_of(made) for split, made in again.items()} == {
        split: held - {gone} for split, held in people.items()
    }
    assert skipped_people(again["val"]) == {1, gone}
    assert skipped_people(again["train"]) == {1}


def test_a_split_that_nobody_is_left_for_is_refused(cohort, capsys):
    cohort("drawn", val=1, test=3)
    (person,) = people_of(make("val"))
    damage(person, "T1")
    with pytest.raises(SystemExit):
        make("val")
    told = " ".join(capsys.readouterr().err.split())
    assert "val: every file of m4raw was left out, the split is empty: mend" in told
    assert "in synthesize.subjects.val; 3 files were left out, the first one: " in told
    assert not paths.manifest("val").exists()
    for other in set(range(1, 9)) - {person}:
        without(other, "T1")
    with pytest.raises(SystemExit):
        make("test")
    told = " ".join(capsys.readouterr().err.split())
    assert "'synthesize.subjects.test' = 3, but m4raw has 2 subject(s) left for" in told
    assert (
        "or download more; 28 files were left out, the first one: data/raw/m4raw/"
        in told
    )


def test_a_file_of_all_contrasts_is_listed_once(cohort, capsys):
    cohort("drawn", val=1, test=1)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["synthesize"] |= {
        "sources": {"train": "brats", "val": "icbm152", "test": "ch2"},
        "matrix": 32,
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))
    cases = [f"BRATS_00{number}" for number in (1, 2, 3)]
    write_task01(paths.raw("brats"), cases=cases)
    for name in (f"imagesTr/{cases[0]}.nii.gz", f"labelsTr/{cases[1]}.nii.gz"):
        truncate(paths.raw("brats") / name)
    manifest = make("train")
    assert capsys.readouterr().err.count("left out: ") == 4
    assert {volume.subject_id for volume in manifest.volumes} == {cases[2]}
    # The image of the second is sound, and of no use without its labels.
    assert [skipped.name for skipped in manifest.skipped] == [
        f"{folder}/{case}.nii.gz"
        for folder, case in (
            ("imagesTr", cases[0]), ("labelsTr", cases[0]),
            ("labelsTr", cases[1]), ("imagesTr", cases[1]),
        )
    ]  # fmt: skip
