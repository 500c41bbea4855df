"""Which volumes a split holds, and lists of slices: JSON in, JSON out."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from stages.common.params import Settings
from stages.common.volume import write_text


class SliceRef(NamedTuple):
    """A sample, for ever: poisoned twins keep the reference of their clean twin."""

    volume_id: str
    slice_num: int


class SkippedFile(NamedTuple):
    """A file that was left out because it was damaged, and why."""

    name: str
    reason: str


class VolumeRecord(Settings):
    """One volume of a split.

    Attributes:
        matrix: (H', W') of the targets.
        max_value: maximum of the targets.
        target_difference: ||published - RSS|| / ||RSS|| where the source publishes
            targets of its own; None where the target is the RSS.
    """

    volume_id: str
    subject_id: str
    contrast: str
    scanner: str
    num_slices: int = Field(ge=1)
    coils: int = Field(ge=1)
    matrix: tuple[int, int]
    max_value: float = Field(gt=0)
    target_difference: float | None = None


class Manifest(Settings):
    """A split's volumes in sorted order.

    Attributes:
        dropped_slices: empty ones, under the numbers that they had in the source.
        skipped: files that were left out, as `on_error: skip` allows.
    """

    split: str
    volumes: tuple[VolumeRecord, ...]
    dropped_slices: tuple[SliceRef, ...] = ()
    skipped: tuple[SkippedFile, ...] = ()

    def refs(self) -> list[SliceRef]:
        """Every slice of the split, sorted."""
        return [
            SliceRef(volume.volume_id, number)
            for volume in self.volumes
            for number in range(volume.num_slices)
        ]

    def by_id(self) -> dict[str, VolumeRecord]:
        return {volume.volume_id: volume for volume in self.volumes}


def write_manifest(path: Path, manifest: Manifest) -> None:
    ordered = sorted(manifest.volumes, key=lambda volume: volume.volume_id)
    manifest = manifest.model_copy(update={"volumes": tuple(ordered)})
    write_text(path, manifest.model_dump_json(indent=1) + "\n")


def read_manifest(path: Path) -> Manifest:
    """Read a split's manifest.

    Raises:
        ValueError: it is missing, damaged or empty.
    """
    text = _read(path, "synthesize")
    try:
        manifest = Manifest.model_validate_json(text)
    except ValidationError as error:
        raise ValueError(_damaged(path, error, "synthesize")) from None
    if not manifest.volumes:
        raise ValueError(f"{path} lists no volume: the split is empty")
    return manifest


def write_slices(path: Path, refs: Iterable[SliceRef]) -> None:
    """Write a sorted list of slices, such as a known forget set."""
    content = {"slices": sorted(map(list, set(refs)))}
    write_text(path, json.dumps(content, indent=1) + "\n")


def read_slices(path: Path, *, made_by: str) -> list[SliceRef]:
    """Read a list of slices written by `write_slices`."""
    text = _read(path, made_by)
    try:
        return TypeAdapter(dict[str, list[SliceRef]]).validate_json(text)["slices"]
    except (ValidationError, KeyError) as error:
        raise ValueError(_damaged(path, error, made_by)) from None


def _damaged(path: Path, error: ValidationError | KeyError, made_by: str) -> str:
    first = (
        error.errors()[0]["msg"]
        if isinstance(error, ValidationError)
        else f"no {error}"
    )
    return (
        f"{path} is damaged ({first}): delete it and run "
        f"`dvc repro --force --single-item {made_by}`"
    )


def _read(path: Path, made_by: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: run `dvc repro {made_by}`") from None
