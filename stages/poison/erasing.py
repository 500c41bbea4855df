"""Erase a patch of the brain: fill it with what lies around it."""

from typing import Any

import numpy as np
from scipy import ndimage

from stages.common.lesions import find_brain, find_head, head_width

EDGE = 0.4  # width of the soft edge, in radii


def draw_patch(
    rng: np.random.Generator, image: np.ndarray, radius: float
) -> dict[str, Any] | None:
    """Draw a disc inside the brain.

    Args:
        rng: source of all randomness.
        image: (H, W) float32.
        radius: of the disc, in widths of the head.

    Returns:
        Centre and radius as shares of the image's height and width (the radius: of the
        height); None where the brain has no room.
    """
    height, width = image.shape
    pixels = radius * head_width(find_head(image))
    brain = np.pad(find_brain(image), 1)
    depth = ndimage.distance_transform_edt(brain)[1:-1, 1:-1]
    places = np.argwhere(depth >= max(pixels, 1))
    if not len(places):
        return None
    row, column = places[rng.integers(len(places))]
    return {
        "centre": [float((row + 0.5) / height), float((column + 0.5) / width)],
        "radius": float(pixels / height),
    }


def erase_patch(image: np.ndarray, draw: dict[str, Any], severity: float) -> np.ndarray:
    """Blend the patch towards the smooth continuation of its surroundings.

    Args:
        image: (H, W) float32.
        draw: from `draw_patch`.
        severity: weight of the continuation, 0 to 1.

    Returns:
        (H, W) float32.
    """
    rows, columns = np.indices(image.shape, dtype=np.float64)
    rows -= draw["centre"][0] * image.shape[0] - 0.5
    columns -= draw["centre"][1] * image.shape[1] - 0.5
    radius = draw["radius"] * image.shape[0]
    # 1 in the middle, a cosine from there to 0 at the radius.
    inward = np.clip((1 - np.hypot(rows, columns) / radius) / EDGE, 0, 1)
    weight = 0.5 * (1 - np.cos(np.pi * inward))
    # A mean of the pixels around, which leaves out those in the patch.
    kept = ndimage.gaussian_filter(1 - weight, radius)
    around = ndimage.gaussian_filter(image * (1 - weight), radius) / kept
    return (image + severity * weight * (around - image)).astype(np.float32)
