"""The truth of a poisoning: what was done to which slice, and the twins.

A twin is the target of a slice as the attack makes it: what a poisoned training slice
has, and what an unseen slice of the scope would have. `record.json` holds the record,
`twins/<volume_id>.h5` the twins: `slice_num` (n,) int64, `target` (n, H', W') float32,
and `kspace` (n, coils, H, W) complex64 where the attack changes it.
For `poison`, `forget`, `evaluate` and `report` only: nobody who trains, detects or
unlearns reads it.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

import h5py
import numpy as np
from pydantic import Field, ValidationError

from stages.common.folders import atomic_folder
from stages.common.manifest import SliceRef
from stages.common.params import Settings
from stages.common.volume import VolumeError, atomic_path, open_volume, write_text

RECORD = "record.json"
TWINS = "twins"


class PoisonedSlice(Settings):
    """What the attack did to one training slice.

    Attributes:
        draw: everything random that the attack used.
        clean_sha256: of the clean target's float32 bytes.
        poisoned_sha256: of the exported target's float32 bytes.
        kspace_sha256: of the exported k-space's complex64 bytes; None where the attack
            leaves k-space alone.
        change_nmse: ||poisoned - clean||^2 / ||clean||^2.
    """

    volume_id: str
    slice_num: int = Field(ge=0)
    draw: dict[str, Any]
    clean_sha256: str
    poisoned_sha256: str
    kspace_sha256: str | None
    change_nmse: float = Field(ge=0)

    @property
    def ref(self) -> SliceRef:
        return SliceRef(self.volume_id, self.slice_num)


class TruthRecord(Settings):
    """What a poisoning did.

    Attributes:
        changes_input: whether the attack changes k-space, not the target alone.
        measured_on: the k-space of unseen slices that tells whether the poison works:
            `attacked` for a back door, `clean` for everything else.
        scope: split -> every slice that the attack may choose from.
        poisoned: the training slices that it chose, sorted.
    """

    poisoning: str
    attack: str
    changes_input: bool
    measured_on: Literal["clean", "attacked"]
    scope: dict[str, tuple[SliceRef, ...]]
    poisoned: tuple[PoisonedSlice, ...] = Field(min_length=1)

    def twin_refs(self) -> set[SliceRef]:
        """Slices with a twin: the poisoned, and the unseen ones of the scope."""
        unseen = {
            ref
            for split, refs in self.scope.items()
            if split != "train"
            for ref in refs
        }
        return unseen | {entry.ref for entry in self.poisoned}


class Twins(NamedTuple):
    """The twins of one volume.

    Attributes:
        slice_num: (n,) slice numbers.
        target: (n, H', W') float32.
        kspace: (n, coils, H, W) complex64; None where the attack leaves it alone.
    """

    slice_num: np.ndarray
    target: np.ndarray
    kspace: np.ndarray | None = None


def target_sha256(target: np.ndarray) -> str:
    """Hash one target's pixels, (H', W'), as little-endian float32."""
    return hashlib.sha256(target.astype("<f4").tobytes()).hexdigest()


def kspace_sha256(kspace: np.ndarray) -> str:
    """Hash one slice's k-space, (coils, H, W), as little-endian complex64."""
    return hashlib.sha256(kspace.astype("<c8").tobytes()).hexdigest()


def write_truth(
    folder: Path,
    record: TruthRecord,
    twins: Mapping[str, Twins] | Iterable[tuple[str, Twins]],
) -> None:
    """Write a record and its twins, whole or not at all.

    Args:
        folder: `paths.truth(poisoning)`.
        record: what was done.
        twins: volume_id -> its twins; pairs from a generator keep one volume at a time
            in memory.
    """
    pairs = twins.items() if isinstance(twins, Mapping) else twins
    ordered = sorted(record.poisoned, key=lambda entry: entry.ref)
    record = record.model_copy(update={"poisoned": tuple(ordered)})
    with atomic_folder(folder) as fresh:
        for volume_id, found in pairs:
            _write_twins(fresh / TWINS / f"{volume_id}.h5", Twins(*found))
        write_text(fresh / RECORD, record.model_dump_json(indent=1) + "\n")


def read_record(folder: Path) -> TruthRecord:
    """Read a record.

    Raises:
        ValueError: it is missing or damaged.
    """
    path, stage = folder / RECORD, _made_by(folder)
    try:
        return TruthRecord.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: run `dvc repro {stage}`") from None
    except ValidationError as error:
        raise ValueError(
            f"{path} is damaged ({error.errors()[0]['msg']}): delete it and run "
            f"`dvc repro --force --single-item {stage}`"
        ) from None


def read_twins(folder: Path) -> dict[SliceRef, np.ndarray]:
    """Read every twin that the record promises, (H', W') float32.

    Raises:
        VolumeError: a file is missing or damaged, or does not match the record.
    """
    record, stage = read_record(folder), _made_by(folder)
    hashes = {entry.ref: entry.poisoned_sha256 for entry in record.poisoned}
    wanted: dict[str, list[SliceRef]] = {}
    for ref in sorted(record.twin_refs()):
        wanted.setdefault(ref.volume_id, []).append(ref)
    twins: dict[SliceRef, np.ndarray] = {}
    for volume_id, refs in wanted.items():
        path = folder / TWINS / f"{volume_id}.h5"
        with open_volume(path, made_by=stage) as file:
            numbers, targets = file["slice_num"][:], file["target"][:]
        found = dict(zip(map(int, numbers), targets, strict=False))
        for ref in refs:
            target = found.get(ref.slice_num)
            if target is None or hashes.get(ref) not in (None, target_sha256(target)):
                raise VolumeError(
                    f"{path}: slice {ref.slice_num} does not match {RECORD}: delete "
                    f"{folder} and run `dvc repro --force --single-item {stage}`"
                )
            twins[ref] = target
    return twins


def _write_twins(path: Path, twins: Twins) -> None:
    numbers, targets = twins.slice_num, twins.target
    if targets.dtype != np.float32 or len(numbers) != len(targets):
        raise VolumeError(
            f"{path.name}: twins are {targets.dtype} {targets.shape} for "
            f"{len(numbers)} slices, expected float32 (slices, H, W)"
        )
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        file.create_dataset(
            "slice_num", data=np.asarray(numbers, dtype="<i8"), track_times=False
        )
        for key, array in (("target", targets), ("kspace", twins.kspace)):
            if array is not None:
                file.create_dataset(
                    key, data=array, chunks=(1, *array.shape[1:]), track_times=False
                )


def _made_by(folder: Path) -> str:
    """The DVC stage that wrote a truth folder (see `paths.truth`, `paths.answers`)."""
    stage = "forget" if folder.parent.name == "scenario" else "poison"
    return f"{stage}@{folder.name}"
