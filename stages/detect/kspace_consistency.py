"""Open threat model: the exported target against the image of the full k-space.

    score = ||s t - r||^2 / ||r||^2,   s = <t, r> / <t, t>

with r the root sum of squares of the fully sampled coil images. Whoever holds the lines
outside of the masks has the truth, and needs no detector: this is the ceiling, reported
apart. Of an attack that makes k-space and target fit each other it sees nothing.
"""

from pathlib import Path

import numpy as np

from stages.common.manifest import SliceRef
from stages.common.params import Settings
from stages.common.runtime import progress
from stages.common.samples import SliceFiles
from stages.common.volume import open_volume
from stages.detect.base import DetectData

OPEN = True
NEEDS_KNOWN = False


class Params(Settings):
    """None."""


def score(data: DetectData, params: Params) -> dict[SliceRef, float]:  # noqa: ARG001
    """Relative difference of every exported target from the fully sampled image."""
    refs = data.train.refs
    return {
        ref: difference(*_target_and_kspace(data.train.files, ref))
        for ref in progress(refs, total=len(refs), desc="k-space")
    }


def difference(target: np.ndarray, kspace: np.ndarray) -> float:
    """The score of one slice: target (H', W'), k-space (coils, H, W) complex."""
    axes = (-2, -1)
    shifted = np.fft.ifftshift(kspace, axes=axes)
    images = np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=axes)
    whole = np.sqrt(np.square(np.abs(images)).sum(0))
    (height, width), (full_height, full_width) = target.shape, whole.shape
    top, left = (full_height - height) // 2, (full_width - width) // 2
    image = whole[top : top + height, left : left + width]
    wanted = target.astype(np.float64)
    scale = (wanted * image).sum() / max(np.square(wanted).sum(), np.finfo(float).tiny)
    return float(np.square(scale * wanted - image).sum() / np.square(image).sum())


def _target_and_kspace(
    files: SliceFiles, ref: SliceRef
) -> tuple[np.ndarray, np.ndarray]:
    name = f"{ref.volume_id}.h5"
    with open_volume(
        Path(files.targets or "") / name, made_by=files.targets_by
    ) as file:
        target = file["reconstruction_rss"][ref.slice_num]
        if "kspace" in file:
            return target, file["kspace"][ref.slice_num]
    with open_volume(files.kspace / name, made_by="synthesize") as file:
        return target, file["kspace"][ref.slice_num]
