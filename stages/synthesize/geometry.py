"""One subject's head: an anatomy moved, warped and cut into axial slices."""

from typing import NamedTuple

import numpy as np
from scipy import ndimage
from scipy.spatial.transform import Rotation

from stages.synthesize.anatomy import (
    ADULT,
    TISSUES,
    Anatomy,
    ScalpThickness,
    scalp_layers,
)
from stages.synthesize.fields import control_field
from stages.synthesize.settings import SynthesizeSettings, Variation

CENTRE = np.array([0.0, -18.0, 0.0])  # of the head in MNI space, mm
VENTRICLES = np.array([0.0, -12.0, 18.0])
VENTRICLE_REACH = 24.0  # mm
REACH = 200.0  # mm, beyond every point of the field of view
SUBSLICES = 3  # planes averaged into one slice
COARSE, FINE = 60.0, 18.0  # mm between the nodes of the two warps
FINE_SHARE = 0.4  # of the coarse warp's strength
SCALP_VARIATION = 0.15  # of skull and fat over one head, relative


class Pose(NamedTuple):
    """What makes a subject of an anatomy; drawn before any point is known."""

    rotation: np.ndarray
    scale: np.ndarray
    translation: np.ndarray
    ventricles: float
    skull: float
    fat: float
    warp_seeds: tuple[int, int, int]


def draw_pose(rng: np.random.Generator, variation: Variation) -> Pose:
    """Draw a subject; rotations about the other axes are half those in the plane."""
    angles = rng.normal(0, variation.rotation, 3) * (0.5, 0.5, 1.0)
    seeds = rng.integers(2**31, size=3).tolist()
    return Pose(
        rotation=Rotation.from_euler("xyz", angles, degrees=True).as_matrix(),
        scale=np.exp(rng.normal(0, variation.scale, 3)),
        translation=rng.normal(0, variation.translation, 3) * (1.0, 1.0, 0.5),
        ventricles=float(rng.normal(0, variation.ventricles)),
        skull=float(np.exp(rng.normal(0, variation.scalp))),
        fat=float(np.exp(rng.normal(0, variation.scalp))),
        warp_seeds=(seeds[0], seeds[1], seeds[2]),
    )


def slice_heights(settings: SynthesizeSettings) -> np.ndarray:
    """Centres of the slices, MNI z, mm."""
    low, high = settings.extent
    if settings.slices == 1:
        return np.array([(low + high) / 2])
    return np.linspace(low, high, settings.slices)


def plane_points(grid: int, fov: float, height: float) -> np.ndarray:
    """Positions of a plane's pixels, (3, grid * grid), mm.

    Anterior is the first row and the patient's right the first column: the
    radiological view. Pixel `grid // 2` is the centre, as for a centred FFT.
    """
    offset = (np.arange(grid) - grid // 2) * (fov / grid)
    y, x = np.meshgrid(-offset, -offset, indexing="ij")
    points = np.stack([x.ravel(), y.ravel(), np.full(x.size, height)])
    return points + CENTRE[:, None] * [[1], [1], [0]]


def cut_slice(
    anatomy: Anatomy, pose: Pose, settings: SynthesizeSettings, height: float
) -> np.ndarray:
    """Sample one slice, averaged over its thickness.

    Returns:
        (5, grid, grid) float32 shares of `anatomy.TISSUES`.
    """
    grid = settings.matrix * settings.oversampling
    points = plane_points(grid, settings.fov, height)
    # The warp is smooth over a slice's thickness: its middle stands for all of it.
    warp = _draw_warp(pose, settings.variation.warp, _aligned(pose, points))
    total = np.zeros((len(TISSUES), grid * grid), np.float32)
    for step in (np.arange(SUBSLICES) + 0.5) / SUBSLICES - 0.5:
        through = np.array([[0.0], [0.0], [step * settings.slice_thickness]])
        total += _sample(anatomy, pose, warp, _aligned(pose, points + through))
    return (total / SUBSLICES).reshape(-1, grid, grid)


class _Warp(NamedTuple):
    """Displacement (3, N) mm and scalp thickness at the points of a plane."""

    shift: np.ndarray
    thickness: ScalpThickness


def _aligned(pose: Pose, points: np.ndarray) -> np.ndarray:
    """Undo a subject's position: (3, N) mm around the anatomy's centre."""
    moved = points - (CENTRE + pose.translation)[:, None]
    return pose.rotation @ moved / pose.scale[:, None]


def _draw_warp(pose: Pose, strength: float, points: np.ndarray) -> _Warp:
    coarse, fine, scalp = (np.random.default_rng(seed) for seed in pose.warp_seeds)
    shift = control_field(coarse, points, 3, COARSE, REACH)
    shift += FINE_SHARE * control_field(fine, points, 3, FINE, REACH)
    local = np.exp(SCALP_VARIATION * control_field(scalp, points, 2, COARSE, REACH))
    thickness = ADULT._replace(
        diploe=ADULT.diploe * pose.skull * local[0],
        outer_table=ADULT.outer_table * pose.skull * local[0],
        fat=ADULT.fat * pose.fat * local[1],
    )
    return _Warp(strength * shift, thickness)


def _sample(
    anatomy: Anatomy, pose: Pose, warp: _Warp, points: np.ndarray
) -> np.ndarray:
    """Shares of the tissues at aligned points, (5, N)."""
    source = points + CENTRE[:, None] + warp.shift
    radial = source - VENTRICLES[:, None]
    weight = np.exp(-(radial**2).sum(axis=0) / (2 * VENTRICLE_REACH**2))
    source -= pose.ventricles * weight * radial
    index = source - anatomy.origin[:, None]
    brain = np.stack(
        [
            ndimage.map_coordinates(share, index, order=1, output=np.float32)
            for share in anatomy.maps
        ]
    )
    if anatomy.depth is None:
        return brain
    depth = ndimage.map_coordinates(
        anatomy.depth, index, order=1, mode="nearest", output=np.float32
    )
    shares = scalp_layers(depth, warp.thickness)
    shares *= 1 - np.clip(brain.sum(axis=0), 0, 1)
    shares[: len(brain)] += brain
    return shares
