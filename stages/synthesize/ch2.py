"""The head `ch2`, segmented by intensity and morphology: it has no tissue maps.

The constants belong to this one file, whose SHA-256 `download` verifies: intensities of
its pure tissues and sizes of its membranes, chosen by looking at the result.
"""

from pathlib import Path

import nibabel
import numpy as np
from scipy import ndimage

from stages.synthesize.anatomy import Anatomy, signed_depth

PREFIX = "ch2"

_CSF, _GM, _WM = 48.0, 86.0, 114.0  # mean intensities
_MUSCLE = (45.0, 80.0)  # from bone to muscle
_FAT = (85.0, 140.0)  # from muscle to fat
_SUBARACHNOID = 2.0  # mm of CSF around the closed brain
_SULCI = 9.0  # mm
_MARGIN = 4  # voxels: the scalp touches the border of the image


def load(folder: Path) -> Anatomy:
    """Read the head and turn it into tissue shares."""
    image = nibabel.Nifti1Image.from_filename(folder / "ch2.nii.gz")
    voxels = np.pad(np.asanyarray(image.dataobj).astype(np.float32), _MARGIN)
    depth = inner_skull_depth(voxels)
    inside = np.clip(_SUBARACHNOID + 0.5 - depth, 0, 1)
    # Between brain and bone both are dark: CSF near the brain, bone further out.
    brain = np.where(depth > 0, np.minimum(voxels, _CSF), voxels)
    wm = np.clip((brain - _GM) / (_WM - _GM), 0, 1)
    csf = np.clip((_GM - brain) / (_GM - _CSF), 0, 1)
    fat = np.clip((voxels - _FAT[0]) / (_FAT[1] - _FAT[0]), 0, 1)
    muscle = np.clip((voxels - _MUSCLE[0]) / (_MUSCLE[1] - _MUSCLE[0]), 0, 1) - fat
    shares = [1 - wm - csf, wm, csf, fat, muscle]
    weights = [inside, inside, inside, 1 - inside, 1 - inside]
    maps = np.stack([w * s for w, s in zip(weights, shares, strict=True)])
    return Anatomy(
        np.clip(maps, 0, 1).astype(np.float32), None, image.affine[:3, 3] - _MARGIN
    )


def inner_skull_depth(voxels: np.ndarray) -> np.ndarray:
    """Separate the brain from the scalp: (X, Y, Z) float32 mm outside the brain.

    The deep part of what is as bright as grey or white matter holds together; it is
    grown back to the brain's surface, which the scalp does not reach.
    """
    smooth = ndimage.gaussian_filter(voxels, 0.7)
    matter = (smooth > 75) & (smooth < 150)
    deep = _largest(ndimage.distance_transform_edt(matter) > 3.5)
    grown = ndimage.distance_transform_edt(~deep) <= 4.5
    return signed_depth(_largest(grown & (smooth > 60)), _SULCI)


def _largest(mask: np.ndarray) -> np.ndarray:
    labels, _ = ndimage.label(mask)
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
