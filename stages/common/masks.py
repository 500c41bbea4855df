"""The one undersampling mask of a slice, drawn from its identity."""

import hashlib
from typing import Literal

import numpy as np
from pydantic import Field

from stages.common.manifest import SliceRef
from stages.common.params import Settings


class Sampling(Settings):
    """How k-space is undersampled, the same for training, importance, evaluation.

    Attributes:
        seed: changes every mask.
        mask_type: fastMRI's mask family.
        acceleration: columns per sampled column, on average.
        center_fraction: share of fully sampled centre columns (ACS).
    """

    seed: int = Field(ge=0)
    mask_type: Literal["random", "equispaced_fraction"]
    acceleration: int = Field(ge=2, le=16)
    center_fraction: float = Field(gt=0, lt=1)

    def num_low_frequencies(self, width: int) -> int:
        return round(width * self.center_fraction)

    def always_sampled(self, width: int) -> range:
        """The centre columns (ACS), which every mask of this width samples."""
        count = self.num_low_frequencies(width)
        start = (width - count + 1) // 2
        return range(start, start + count)


def column_mask(sampling: Sampling, ref: SliceRef, width: int) -> np.ndarray:
    """Draw the mask of a slice.

    Drawn from (seed, volume_id, slice) and never from a path, so that clean and
    poisoned twins share it (fastMRI seeds by file name).

    Args:
        sampling: acceleration, centre fraction, family, seed.
        ref: the slice.
        width: number of k-space columns.

    Returns:
        (W,) bool, True where a column is sampled.
    """
    identity = f"{sampling.seed}/{ref.volume_id}/{ref.slice_num}".encode()
    digest = hashlib.sha256(identity).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    num_low = sampling.num_low_frequencies(width)
    if num_low < 1:
        raise ValueError(
            f"sampling.center_fraction = {sampling.center_fraction} keeps no centre "
            f"column of {width}: use at least {1 / width:.3f}"
        )
    wanted = width / sampling.acceleration - num_low
    if wanted < 0:
        raise ValueError(
            f"sampling.acceleration = {sampling.acceleration} leaves fewer than the "
            f"{num_low} centre columns that sampling.center_fraction keeps of {width}"
        )
    mask = np.zeros(width, dtype=bool)
    mask[sampling.always_sampled(width)] = True
    if sampling.mask_type == "random":
        mask |= rng.random(width) < wanted / (width - num_low)
    else:
        # The spacing that gives the acceleration over all columns, centre included
        # (fastMRI's equispaced_fraction).
        spacing = (width - num_low) / max(wanted, 1.0)
        columns = np.arange(rng.integers(max(1, round(spacing))), width - 1, spacing)
        mask[np.around(columns).astype(int)] = True
    return mask
