"""Manifests and slice lists: sorted, validated, refused by name."""

import json

import pytest
from pydantic import ValidationError

from stages.common.manifest import (
    Manifest,
    SliceRef,
    VolumeRecord,
    read_manifest,
    read_slices,
    write_manifest,
    write_slices,
)


def record(volume_id: str, **changes: object) -> VolumeRecord:
    values = {
        "volume_id": volume_id,
        "subject_id": volume_id.split("_")[0],
        "contrast": "T1w",
        "scanner": "s",
        "num_slices": 2,
        "coils": 4,
        "matrix": (40, 32),
        "max_value": 1.5,
    }
    return VolumeRecord(**(values | changes))


@pytest.fixture
def path(tmp_path):
    manifest = Manifest(
        split="train",
        volumes=(record("b_T1w"), record("a_T1w", num_slices=1)),
        dropped_slices=(SliceRef("a_T1w", 1),),
    )
    write_manifest(tmp_path / "train.json", manifest)
    return tmp_path / "train.json"


def test_round_trip_sorted(path):
    manifest = read_manifest(path)
    refs = [("a_T1w", 0), ("b_T1w", 0), ("b_T1w", 1)]
    assert manifest.refs() == refs
    assert isinstance(manifest.refs()[0], SliceRef)
    assert manifest.dropped_slices == (("a_T1w", 1),)
    assert list(manifest.by_id()) == ["a_T1w", "b_T1w"]
    before = path.read_bytes()
    write_manifest(path, manifest)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [{"num_slices": 0}, {"coils": 0}, {"max_value": 0}, {"poisoned": True}],
)
def test_a_record_is_checked(changes):
    with pytest.raises(ValidationError, match=next(iter(changes))):
        record("a_T1w", **changes)


def test_missing_damaged_and_empty_manifests_are_named(path):
    content = path.read_text()
    path.write_text(content[:-30])
    with pytest.raises(ValueError, match=r"train.json is damaged .*-item synth"):
        read_manifest(path)
    path.write_text(json.dumps({"split": "train", "volumes": []}))
    with pytest.raises(ValueError, match=r"train.json lists no volume"):
        read_manifest(path)
    path.unlink()
    with pytest.raises(ValueError, match=r"train.json is missing: run `dvc repro synt"):
        read_manifest(path)


def test_slices_round_trip_sorted_and_once(tmp_path):
    refs = [SliceRef("b", 1), SliceRef("a", 10), SliceRef("a", 9), SliceRef("b", 1)]
    path = tmp_path / "forget.json"
    write_slices(path, refs)
    found = read_slices(path, made_by="forget@s")
    assert found == [("a", 9), ("a", 10), ("b", 1)]
    assert isinstance(found[0], SliceRef)
    before = path.read_bytes()
    write_slices(path, reversed(refs))
    assert path.read_bytes() == before


@pytest.mark.parametrize("text", ["", "{", '{"slice": []}', '{"slices": [["a"]]}'])
def test_damaged_slice_lists_are_named(tmp_path, text):
    path = tmp_path / "forget.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"forget.json is damaged .*-item forget@s"):
        read_slices(path, made_by="forget@s")


def test_a_missing_slice_list_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"f.json is missing: run `dvc repro forget@s"):
        read_slices(tmp_path / "f.json", made_by="forget@s")
