"""Smooth random fields, the source of every variation that is not noise."""

import numpy as np
from scipy import ndimage


def smooth_field(
    rng: np.random.Generator, shape: tuple[int, int], size: float
) -> np.ndarray:
    """Draw a plane with zero mean and unit variance.

    Args:
        rng: where the draw comes from.
        shape: (H, W).
        size: standard deviation of the smoothing kernel, pixels.

    Returns:
        (H, W) float32.
    """
    margin = int(np.ceil(2 * size))
    white = rng.standard_normal((shape[0] + 2 * margin, shape[1] + 2 * margin))
    field = ndimage.gaussian_filter(white, size, mode="wrap")
    field = (field - field.mean()) / field.std()
    return field[margin : margin + shape[0], margin : margin + shape[1]].astype(
        np.float32
    )


def control_field(
    rng: np.random.Generator,
    points: np.ndarray,
    count: int,
    spacing: float,
    reach: float,
) -> np.ndarray:
    """Interpolate a random vector at each node of a coarse grid.

    Args:
        rng: where the draw comes from.
        points: (3, N) positions, mm, within `reach` of the centre.
        count: components of the vector.
        spacing: between nodes, mm.
        reach: half the grid's width, mm.

    Returns:
        (count, N) float32, unit variance at the nodes.
    """
    nodes = int(np.ceil(2 * reach / spacing)) + 1
    grid = rng.standard_normal((count, nodes, nodes, nodes)).astype(np.float32)
    index = (points + reach) / spacing
    return np.stack(
        [ndimage.map_coordinates(axis, index, order=3, mode="nearest") for axis in grid]
    )
