"""What a head is made of, and the layers that a skull-stripped template lacks."""

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from scipy import ndimage

TISSUES = ("gm", "wm", "csf", "fat", "muscle")


class Anatomy(NamedTuple):
    """One head on a 1 mm grid; what no tissue fills is bone or air, without signal.

    Attributes:
        maps: (3 or 5, X, Y, Z) float32, share of the first of `TISSUES` in a voxel.
        depth: (X, Y, Z) float32, mm outside the inner skull, where `maps` hold the
            brain alone; None if they hold fat and muscle too.
        origin: (3,) position of voxel (0, 0, 0) in MNI space, mm.
    """

    maps: np.ndarray
    depth: np.ndarray | None
    origin: np.ndarray


class ScalpThickness(NamedTuple):
    """Layers from the inner skull outwards, mm: numbers or arrays like `depth`."""

    csf: np.ndarray
    inner_table: np.ndarray
    diploe: np.ndarray
    outer_table: np.ndarray
    fat: np.ndarray
    skin: np.ndarray


ADULT = ScalpThickness(*(np.float32(mm) for mm in (1.5, 1.8, 2.2, 2.0, 4.0, 1.8)))
DIPLOE_MARROW = 0.35


def scalp_layers(depth: np.ndarray, thickness: ScalpThickness) -> np.ndarray:
    """Fill the space outside the brain: CSF, skull with marrow, fat, skin.

    Args:
        depth: mm outside the inner skull, <= 0 inside.
        thickness: mm of each layer.

    Returns:
        (5, *depth.shape) float32 shares of `TISSUES`, 0 inside the skull.
    """
    edges = np.cumsum([np.broadcast_to(t, depth.shape) for t in thickness], axis=0)
    # A voxel is 1 mm: a ramp of that width is its partial volume.
    passed = [np.clip(depth + 0.5, 0, 1)]
    passed += [np.clip(depth - edge + 0.5, 0, 1) for edge in edges]
    csf, _, diploe, _, fat, skin = (inner - outer for inner, outer in pairwise(passed))
    none = np.zeros_like(csf)
    layers = [none, none, csf, fat + DIPLOE_MARROW * diploe, skin]
    return np.stack(layers).astype(np.float32)


def signed_depth(mask: np.ndarray, closing: float) -> np.ndarray:
    """Distance to the surface of a mask whose narrow gaps, such as sulci, are closed.

    Computed on every second voxel, which the smooth inner skull allows, and smoothed.

    Args:
        mask: (X, Y, Z) bool, 1 mm.
        closing: half the width of the widest gap that is closed, mm.

    Returns:
        (X, Y, Z) float32 mm, > 0 outside and < 0 inside.
    """
    padding = 2 * (int(closing) // 2 + 2)
    half = np.pad(mask, padding)[::2, ::2, ::2]
    grown = ndimage.distance_transform_edt(~half) <= closing / 2
    closed = (ndimage.distance_transform_edt(grown) > closing / 2) | half
    # Cisterns are wider than sulci, but axial planes still go all the way round them.
    planes = [ndimage.binary_fill_holes(plane) for plane in np.moveaxis(closed, 2, 0)]
    closed = np.stack(planes, axis=2)
    signed = ndimage.distance_transform_edt(~closed)
    signed -= ndimage.distance_transform_edt(closed)
    signed = 2 * ndimage.gaussian_filter(signed.astype(np.float32), 0.7)
    axes = [(np.arange(size) + padding) / 2 for size in mask.shape]
    return _interpolate(signed, axes)


def _interpolate(volume: np.ndarray, axes: list[np.ndarray]) -> np.ndarray:
    """Linear interpolation at the nodes of a grid, one axis after the other."""
    for number, positions in enumerate(axes):
        low = np.floor(positions).astype(int)
        high = np.minimum(low + 1, volume.shape[number] - 1)
        shape = [1, 1, 1]
        shape[number] = -1
        weight = (positions - low).reshape(shape).astype(np.float32)
        before, after = volume.take(low, number), volume.take(high, number)
        volume = before + (after - before) * weight
    return volume
