"""The few images of a cell that the report shows."""

from collections.abc import Iterable, Mapping
from pathlib import Path

import h5py
import numpy as np

from stages.common.manifest import Manifest, SliceRef
from stages.common.truth import TruthRecord
from stages.common.volume import atomic_path
from stages.evaluate.outputs import Reconstruction, zero_filled

POISONED_PANELS = 2

Images = dict[str, np.ndarray]


def test_panels(manifest: Manifest) -> list[SliceRef]:
    """The middle slice of each contrast of the first test subject."""
    subject = min(volume.subject_id for volume in manifest.volumes)
    return [
        SliceRef(volume.volume_id, volume.num_slices // 2)
        for volume in manifest.volumes
        if volume.subject_id == subject
    ]


def poisoned_panels(record: TruthRecord) -> list[SliceRef]:
    """The first poisoned training slices, in sorted order."""
    refs = sorted(SliceRef(item.volume_id, item.slice_num) for item in record.poisoned)
    return refs[:POISONED_PANELS]


def panel_images(result: Reconstruction) -> Images:
    """What every panel holds, each (H', W') float32."""
    return {
        "output": result.output,
        "zero_filled": zero_filled(result.masked_kspace, result.clean.shape),
        "clean": result.clean,
    }


def write_panels(path: Path, panels: Mapping[str, Images]) -> None:
    """Write images as `<group>/<name>`; the same images give the same bytes."""
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        for group, images in sorted(panels.items()):
            for name, image in sorted(images.items()):
                file.create_dataset(
                    f"{group}/{name}",
                    data=image.astype(np.float32, copy=False),
                    track_times=False,
                )


def group_of(ref: SliceRef, prefix: Iterable[str] = ()) -> str:
    return "/".join([*prefix, ref.volume_id, str(ref.slice_num)])
