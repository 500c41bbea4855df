"""The pool of images with real artefacts: `data/artefacts/`.

`artefacts.json` lists the volumes, `volumes/<volume_id>.h5` holds their images as
targets are held (`volume.write_targets`).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import Field, ValidationError

from stages.common.manifest import SkippedFile
from stages.common.params import Settings
from stages.common.volume import open_volume, write_text

INDEX = "artefacts.json"
VOLUMES = "volumes"
MADE_BY = "synthesize_artefacts"


class _Index(Settings):
    """What `artefacts.json` holds."""

    volumes: tuple["ArtefactRecord", ...]
    skipped: tuple[SkippedFile, ...]


class ArtefactRecord(Settings):
    """One volume of the pool.

    Attributes:
        source: where it comes from, a name of `artefacts` in params.yaml.
        score: how a reader rated it, in the source's own scale; None if nobody did.
        pair: volume_id of the clean scan that it shows slice by slice; None without.
        matrix: (H, W) of its images.
    """

    volume_id: str
    subject_id: str
    contrast: str
    source: str
    score: int | None
    pair: str | None
    num_slices: int = Field(ge=1)
    matrix: tuple[int, int]


def artefact_volume(folder: Path, volume_id: str) -> Path:
    return folder / VOLUMES / f"{volume_id}.h5"


def write_artefact_index(
    folder: Path,
    records: Sequence[ArtefactRecord],
    skipped: Sequence[SkippedFile] = (),
) -> None:
    """Write the list of the pool, and of the files that were left out of it."""
    ordered = sorted(records, key=lambda record: record.volume_id)
    index = _Index(volumes=tuple(ordered), skipped=tuple(skipped))
    write_text(folder / INDEX, index.model_dump_json(indent=1) + "\n")


def read_artefact_index(folder: Path) -> list[ArtefactRecord]:
    """List the pool.

    Raises:
        ValueError: the list is missing or damaged.
    """
    path = folder / INDEX
    try:
        return list(_Index.model_validate_json(path.read_bytes()).volumes)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: run `dvc repro {MADE_BY}`") from None
    except ValidationError as error:
        raise ValueError(
            f"{path} is damaged ({error.errors()[0]['msg']}): delete {folder} and run "
            f"`dvc repro --force --single-item {MADE_BY}`"
        ) from None


def read_artefact_image(folder: Path, volume_id: str, slice_num: int) -> np.ndarray:
    """Read one image of the pool, (H, W) float32."""
    path = artefact_volume(folder, volume_id)
    with open_volume(path, made_by=MADE_BY) as file:
        image: np.ndarray = file["reconstruction_rss"][slice_num]
    return image
