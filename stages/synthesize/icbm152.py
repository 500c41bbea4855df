"""The head of ICBM152: its tissue maps, inside layers of skull and scalp."""

from pathlib import Path

import nibabel
import numpy as np

from stages.synthesize.anatomy import Anatomy, signed_depth

PREFIX = "icbm"

_NAME = "mni_icbm152_{}_tal_nlin_sym_09a_converted.nii.gz"
_MARGIN = 26  # voxels: the template ends where the brain does
_SULCI = 14.0  # mm
# An average of 152 brains is blurred: raising the probabilities to a power brings the
# thickness of its boundaries nearer to that of one brain.
_SHARPNESS = 2.0


def load(folder: Path) -> Anatomy:
    """Read the template and turn it into tissue shares."""
    images = {
        kind: nibabel.Nifti1Image.from_filename(folder / _NAME.format(kind))
        for kind in ("t1", "gm", "wm")
    }
    voxels = {
        kind: np.pad(np.asanyarray(image.dataobj), _MARGIN)
        for kind, image in images.items()
    }
    gm, wm = (voxels[kind].astype(np.float32) / 255 for kind in ("gm", "wm"))
    depth = signed_depth(voxels["t1"] > 0, _SULCI)
    inside = np.clip(0.5 - depth, 0, 1)
    csf = np.clip(inside - gm - wm, 0, 1)
    brain = np.stack([gm, wm, csf]) ** _SHARPNESS
    brain *= inside / np.maximum(brain.sum(axis=0), 1e-6)
    return Anatomy(brain, depth, images["t1"].affine[:3, 3] - _MARGIN)
