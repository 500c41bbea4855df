"""Receive coils around the head, and the object's own phase."""

import numpy as np

from stages.synthesize.fields import smooth_field
from stages.synthesize.geometry import CENTRE
from stages.synthesize.settings import Scanner


def draw_coils(rng: np.random.Generator, count: int, settings: Scanner) -> np.ndarray:
    """Place coils evenly around the head, moved a little: (count, 3) mm."""
    angles = 2 * np.pi * (np.arange(count) + 0.5) / count
    circle = np.stack([np.cos(angles), np.sin(angles), np.zeros(count)], axis=1)
    positions = settings.distance * circle + CENTRE + [0, 0, 20]
    return positions + rng.normal(0, settings.jitter, positions.shape)


def sensitivity_maps(
    positions: np.ndarray, points: np.ndarray, settings: Scanner
) -> np.ndarray:
    """Receive field of each coil: a magnetic dipole that looks at the head's centre.

    The two components in the axial plane are what a coil receives: B_x + i B_y.

    Args:
        positions: (coils, 3) mm.
        points: (3, N) mm.
        settings: loop radius and how much of the shading is corrected.

    Returns:
        (coils, N) complex64, root sum of squares 1 at the mean.
    """
    maps = np.empty((len(positions), points.shape[1]), np.complex64)
    for coil, position in enumerate(positions):
        axis = CENTRE - position
        axis = axis / np.linalg.norm(axis)
        radial = points - position[:, None]
        square = (radial**2).sum(axis=0) + settings.radius**2
        field = 3 * (axis @ radial) * radial / square - axis[:, None]
        maps[coil] = (field[0] + 1j * field[1]) / square**1.5
    rss = np.sqrt((np.abs(maps) ** 2).sum(axis=0))
    maps /= (rss / rss.mean()) ** settings.uniformity * rss.mean()
    return maps


def object_phase(
    rng: np.random.Generator, shape: tuple[int, int], strength: float
) -> np.ndarray:
    """Smooth phase factor of the object, (H, W) complex64, modulus 1."""
    field = smooth_field(rng, shape, shape[0] / 6)
    return np.exp(1j * (strength * field + rng.uniform(-np.pi, np.pi))).astype(
        np.complex64
    )
