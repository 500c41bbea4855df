"""Artefacts of MR images, drawn and then computed on a magnitude image.

`strength` in (0, 1] scales each: the share of the signal lost on ghosted lines, the
size of a movement (up to 15 degrees and 8 % of the field of view), the coefficients of
the log bias field, a cubic polynomial on [-1, 1] (up to 0.5).
"""

from typing import Any

import numpy as np
from scipy import ndimage

KINDS = ("ghosting", "motion", "bias")

MAX_DEGREES = 15.0
MAX_SHIFT = 0.08
MAX_COEFFICIENT = 0.5
MOVEMENTS = 3
# Exponents of x and y in a cubic bias field; a constant would only change brightness.
POWERS = [(i, j) for i in range(4) for j in range(4 - i) if i + j > 0]


def draw_distortion(
    kind: str, strength: float, rng: np.random.Generator
) -> dict[str, Any]:
    """Draw all that `distort` needs; `any` draws the kind too."""
    if kind == "any":
        kind = KINDS[rng.integers(len(KINDS))]
    if kind == "ghosting":
        return {
            "kind": kind,
            "axis": int(rng.integers(2)),
            "ghosts": int(rng.integers(2, 6)),
            "loss": float(strength * rng.uniform(0.6, 1.0)),
        }
    if kind == "motion":
        limits = strength * np.array([MAX_DEGREES, MAX_SHIFT, MAX_SHIFT])
        return {
            "kind": kind,
            "axis": int(rng.integers(2)),
            "times": sorted(rng.uniform(0.1, 0.9, MOVEMENTS).tolist()),
            "poses": (limits * rng.uniform(-1, 1, (MOVEMENTS + 1, 3))).tolist(),
        }
    coefficients = strength * MAX_COEFFICIENT * rng.uniform(-1, 1, len(POWERS))
    return {"kind": "bias", "coefficients": coefficients.tolist()}


def distort(image: np.ndarray, draw: dict[str, Any]) -> np.ndarray:
    """Return the image with the drawn artefact, (H, W) float32."""
    apply = {"ghosting": _ghost, "motion": _move, "bias": _bias}[draw["kind"]]
    return apply(image.astype(np.float64), draw).astype(np.float32)


def _ghost(image: np.ndarray, draw: dict[str, Any]) -> np.ndarray:
    """Weaken every n-th line of k-space: n copies across the field of view."""
    axis = draw["axis"]
    weights = np.ones(image.shape[axis])
    weights[:: draw["ghosts"]] -= draw["loss"]
    # The line through the centre carries the mean: without it the image inverts.
    weights[0] = 1
    spectrum = np.fft.fft(image, axis=axis)
    spectrum *= weights if axis == 1 else weights[:, None]
    return np.abs(np.fft.ifft(spectrum, axis=axis))


def _move(image: np.ndarray, draw: dict[str, Any]) -> np.ndarray:
    """Take stretches of k-space lines from the image in different poses."""
    axis, times = draw["axis"], np.array(draw["times"])
    lines = image.shape[axis]
    stretch = np.searchsorted(times, (np.arange(lines) + 0.5) / lines)
    resting = stretch[lines // 2]
    spectrum = np.zeros(image.shape, dtype=complex)
    for index, pose in enumerate(draw["poses"]):
        # The head rests while the centre is read: a moved one is no artefact.
        moved = image if index == resting else _posed(image, pose)
        select = stretch == index
        part = np.fft.fftshift(np.fft.fft2(moved))
        spectrum += part * (select if axis == 1 else select[:, None])
    return np.abs(np.fft.ifft2(np.fft.ifftshift(spectrum)))


def _posed(image: np.ndarray, pose: list[float]) -> np.ndarray:
    degrees, rows, columns = pose
    turned = ndimage.rotate(image, degrees, reshape=False, order=1)
    shift = (rows * image.shape[0], columns * image.shape[1])
    return ndimage.shift(turned, shift, order=1)


def _bias(image: np.ndarray, draw: dict[str, Any]) -> np.ndarray:
    """Multiply by the exponential of a cubic polynomial."""
    rows, columns = (np.linspace(-1, 1, size) for size in image.shape)
    field = sum(
        coefficient * rows[:, None] ** i * columns[None, :] ** j
        for coefficient, (i, j) in zip(draw["coefficients"], POWERS, strict=True)
    )
    return image * np.exp(field)
