"""Lay a case before an unlearner, and its answers before `evaluate`."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import h5py

from stages.common.folders import atomic_folder, link_or_copy
from stages.common.manifest import SliceRef, write_slices
from stages.common.truth import (
    PoisonedSlice,
    TruthRecord,
    kspace_sha256,
    target_sha256,
)
from stages.common.volume import VolumeError, open_volume


def write_case(
    known: Sequence[SliceRef],
    *,
    record: TruthRecord,
    checkpoint: Path,
    export: Path,
    truth: Path,
    case: Path,
    answers: Path,
) -> None:
    """Write a scenario's case and answers; both or neither.

    Args:
        known: the known forget set.
        record: what was poisoned, to check the export against.
        checkpoint: the poisoned model.
        export: folder of the training targets as exported.
        truth: folder of the record and the twins.
        case: output: forget.json, model.safetensors, targets/.
        answers: output: the truth's content and known.json.

    Raises:
        ValueError: an input is missing, or is not of this poisoning.
    """
    if not checkpoint.is_file():
        cell = f"train_poisoned@{record.poisoning}"
        raise ValueError(f"{checkpoint} is missing: run `dvc repro {cell}`")
    _check_export(export, record)
    with atomic_folder(answers) as new_answers, atomic_folder(case) as new_case:
        shutil.copytree(
            truth, new_answers, copy_function=link_or_copy, dirs_exist_ok=True
        )
        shutil.copytree(export, new_case / "targets", copy_function=link_or_copy)
        link_or_copy(checkpoint, new_case / "model.safetensors")
        write_slices(new_case / "forget.json", known)
        write_slices(new_answers / "known.json", known)


def _check_export(export: Path, record: TruthRecord) -> None:
    """Refuse an export that another run of the poisoning has written."""
    stage = f"poison@{record.poisoning}"
    for entry in record.poisoned:
        path = export / f"{entry.volume_id}.h5"
        with open_volume(path, made_by=stage) as file:
            same = _is_as_recorded(file, entry)
        if not same:
            raise VolumeError(
                f"{path}: slice {entry.slice_num} is not what the record of "
                f"{record.poisoning} says: run `dvc repro --force --single-item "
                f"{stage}`"
            )


def _is_as_recorded(file: h5py.File, entry: PoisonedSlice) -> bool:
    """Whether an exported file holds a poisoned slice as the attack made it."""
    hashes = {
        "reconstruction_rss": (target_sha256, entry.poisoned_sha256),
        "kspace": (kspace_sha256, entry.kspace_sha256),
    }
    for key, (sha256, expected) in hashes.items():
        if expected is None:
            continue
        planes = file[key]
        if entry.slice_num >= len(planes):
            return False
        if sha256(planes[entry.slice_num]) != expected:
            return False
    return True
