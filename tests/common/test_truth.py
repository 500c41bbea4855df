"""The truth: written whole, read back whole or refused by name."""

import h5py
import numpy as np
import pytest

from stages.common import paths
from stages.common.folders import atomic_folder
from stages.common.manifest import SliceRef
from stages.common.truth import (
    PoisonedSlice,
    TruthRecord,
    read_record,
    read_twins,
    target_sha256,
    write_truth,
)


@pytest.fixture
def written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    twins = {
        "b": (np.array([2, 0]), rng.random((2, 5, 4), dtype=np.float32)),
        "v": (np.array([1]), rng.random((1, 5, 4), dtype=np.float32)),
    }
    poisoned = tuple(
        PoisonedSlice(
            volume_id="b",
            slice_num=int(number),
            draw={"x": [1, 0.5]},
            clean_sha256="0",
            poisoned_sha256=target_sha256(target),
            kspace_sha256=None,
            change_nmse=0.5,
        )
        for number, target in zip(*twins["b"], strict=True)
    )
    record = TruthRecord(
        poisoning="p",
        attack="mislabel",
        changes_input=False,
        measured_on="clean",
        scope={
            "train": (SliceRef("a", 0), SliceRef("b", 0), SliceRef("b", 2)),
            "val": (SliceRef("v", 1),),
            "test": (),
        },
        poisoned=poisoned,
    )
    write_truth(paths.truth("p"), record, twins)
    return record, twins


def test_round_trip(written):
    record, twins = written
    read = read_record(paths.truth("p"))
    assert [entry.ref for entry in read.poisoned] == [("b", 0), ("b", 2)]
    assert read.scope == record.scope
    assert isinstance(read.scope["val"][0], SliceRef)
    found = read_twins(paths.truth("p"))
    assert set(found) == {("b", 0), ("b", 2), ("v", 1)}
    assert found[SliceRef("b", 2)].tobytes() == twins["b"][1][0].tobytes()


@pytest.mark.usefixtures("written")
def test_missing_and_damaged_records_name_the_stage():
    path = paths.truth("p") / "record.json"
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(ValueError, match=r"record.json is damaged .* poison@p"):
        read_record(paths.truth("p"))
    path.unlink()
    with pytest.raises(ValueError, match=r"missing: run `dvc repro poison@p`"):
        read_twins(paths.truth("p"))
    with pytest.raises(ValueError, match=r"missing: run `dvc repro forget@s`"):
        read_record(paths.answers("s"))


@pytest.mark.usefixtures("written")
def test_missing_truncated_and_altered_twins_are_refused():
    path = paths.truth("p") / "twins" / "b.h5"
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    with pytest.raises(ValueError, match=r"b.h5 cannot be read .* poison@p"):
        read_twins(paths.truth("p"))
    path.write_bytes(whole)
    with h5py.File(path, "r+") as file:
        file["target"][0, 0, 0] += 1
    with pytest.raises(ValueError, match=r"b.h5: slice 2 does not match"):
        read_twins(paths.truth("p"))
    with h5py.File(path, "r+") as file:
        del file["slice_num"]
        file["slice_num"] = np.array([0, 1])
    with pytest.raises(ValueError, match=r"b.h5: slice . does not match"):
        read_twins(paths.truth("p"))
    path.unlink()
    with pytest.raises(ValueError, match=r"b.h5 is missing: run `dvc repro poison@p`"):
        read_twins(paths.truth("p"))


def test_a_failed_write_leaves_the_old_truth(written):
    record, twins = written
    wrong = {**twins, "v": (np.array([1, 2]), twins["v"][1])}
    with pytest.raises(ValueError, match="for 2 slices"):
        write_truth(paths.truth("p"), record, wrong)
    assert len(read_twins(paths.truth("p"))) == 3
    assert [path.name for path in paths.truth("p").parent.iterdir()] == ["p"]


def test_atomic_folder_replaces_and_cleans_up(tmp_path):
    path = tmp_path / "out"
    (tmp_path / ".out.killed.part").mkdir()
    for text in ("old", "new"):
        with atomic_folder(path) as fresh:
            (fresh / text).write_text(text)
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]
    assert [entry.name for entry in path.iterdir()] == ["new"]
