"""Simulated tumours in magnitude images: a core, an oedema-like halo, a mass effect.

All randomness is in a draw, which is JSON-able; `add_lesion` is pure. In a draw, places
and lengths are shares of the image's size, so that it fits an image of any resolution.
Grey values are relative to the median of the brain: a magnitude image has no unit.
"""

from typing import Annotated, Any

import numpy as np
from pydantic import AfterValidator, Field
from scipy import ndimage

from stages.common.params import Settings
from stages.common.volume import VolumeError

# Grey of core and halo, in medians of the brain. Water prolongs T1 and T2: dark in T1w,
# bright in T2w and FLAIR, except where the core is so fluid that FLAIR nulls it; `T1c`
# is T1w after contrast agent, which the core takes up.
LEVELS = {
    "T1w": ((0.45, 0.65), (0.75, 0.88)),
    "T1c": ((1.40, 1.80), (0.75, 0.88)),
    "T2w": ((1.60, 2.20), (1.40, 1.80)),
    "FLAIR": ((0.60, 1.20), (1.35, 1.70)),
}
CORE_OPACITY = 0.85  # the rest is what was there: anatomy, texture, noise
HALO_OPACITY = 0.65
CORE_EDGE = 0.15  # width of a soft outline, in radii
HALO_EDGE = 0.25
WAVES = (2, 3, 4, 5)  # of an outline, per turn
CORE_RAGGED = 0.12  # largest amplitude of a wave, in radii
HALO_RAGGED = 0.2

HEAD_LEVEL = 0.15  # of the 99.5th percentile; below it there is air
SCALP = 0.1  # scalp, skull and what is beneath, in widths of the head
CLOSED = 0.05  # gaps in the scalp's ring, in widths of the image


def _ascending(pair: tuple[float, float]) -> tuple[float, float]:
    if pair[0] > pair[1]:
        raise ValueError("the range must be [low, high]")
    return pair


class LesionSettings(Settings):
    """Ranges that sizes are drawn from, [low, high].

    Attributes:
        radius: of the core, in widths of the head (0.05 of 150 mm: 7.5 mm).
        halo: reach of the oedema from the core's centre, in radii of the core.
        push: largest displacement of the tissue around, in radii of the core. Above
            0.6 the field would fold.
    """

    radius: Annotated[
        tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(le=0.2)]],
        AfterValidator(_ascending),
    ]
    halo: Annotated[
        tuple[Annotated[float, Field(ge=1)], Annotated[float, Field(le=4)]],
        AfterValidator(_ascending),
    ]
    push: Annotated[
        tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(le=0.6)]],
        AfterValidator(_ascending),
    ]


def find_head(image: np.ndarray) -> np.ndarray:
    """The largest bright region with its holes: scalp, skull and brain, (H, W) bool."""
    level = HEAD_LEVEL * np.percentile(image, 99.5)
    reach = max(1, round(CLOSED * image.shape[1]))
    # Padded, or closing would stick to the border.
    bright = np.pad(ndimage.gaussian_filter(image, 0.7) > level, reach)
    bright = ndimage.binary_opening(bright)
    closed = ndimage.binary_closing(bright, iterations=reach)
    closed = closed[reach:-reach, reach:-reach]
    regions, count = ndimage.label(closed)
    if count == 0:
        return closed
    sizes = ndimage.sum_labels(closed, regions, range(1, count + 1))
    return ndimage.binary_fill_holes(regions == 1 + np.argmax(sizes))


def head_width(head: np.ndarray) -> float:
    """Diameter of the disc that is as large as the head, pixels."""
    return float(2 * np.sqrt(head.sum() / np.pi))


def find_brain(image: np.ndarray) -> np.ndarray:
    """The head without its rim of a tenth of its width, (H, W) bool.

    No tissue is told apart: it serves where a lesion or a change must stay clear of the
    scalp. It may be empty, as at the top of the head.
    """
    return _without_rim(find_head(image))


def draw_lesion(
    rng: np.random.Generator,
    image: np.ndarray,
    contrast: str,
    settings: LesionSettings,
    *,
    severity: float = 1.0,
) -> dict[str, Any] | None:
    """Draw a tumour whose core lies inside the brain.

    Args:
        rng: source of all randomness.
        image: (H, W) float, magnitude image without the lesion.
        contrast: key of `LEVELS`.
        settings: ranges of the sizes.
        severity: 0 (nothing) to 1; scales opacity and displacement.

    Returns:
        JSON-able; None where the brain has no room for the core.

    Raises:
        VolumeError: nobody has said how a lesion looks in this contrast.
    """
    if contrast not in LEVELS:
        raise VolumeError(
            f"no lesion can be simulated in contrast {contrast}; known: "
            f"{', '.join(LEVELS)}: leave its volumes out, or add it to LEVELS in "
            "stages/common/lesions.py"
        )
    head = find_head(image)
    radius = rng.uniform(*settings.radius) * head_width(head)
    places = np.argwhere(_depth(_without_rim(head)) >= max(radius, 1))
    if not len(places):
        return None
    height, width = image.shape
    row, column = places[rng.integers(len(places))] + rng.uniform(-0.5, 0.5, 2)
    core, halo = LEVELS[contrast]
    return {
        "severity": float(severity),
        "centre": [float((row + 0.5) / height), float((column + 0.5) / width)],
        "radius": float(radius / height),
        "core_outline": _draw_outline(rng, CORE_RAGGED),
        "core_level": float(rng.uniform(*core)),
        "halo": float(rng.uniform(*settings.halo)),
        "halo_outline": _draw_outline(rng, HALO_RAGGED),
        "halo_level": float(rng.uniform(*halo)),
        "push": float(rng.uniform(*settings.push)),
    }


def add_lesion(image: np.ndarray, draw: dict[str, Any]) -> np.ndarray:
    """Return the image with the drawn lesion, (H, W) float32; severity 0 is identity.

    Args:
        image: (H, W) float32, magnitude image.
        draw: from `draw_lesion`, for this image or the same head at another resolution.

    Raises:
        VolumeError: the image has no brain.
    """
    severity = draw["severity"]
    if severity == 0:
        return image.astype(np.float32)
    brain = find_brain(image)
    if not brain.any():
        raise VolumeError("a lesion was to be added to an image without a brain")
    grey = float(np.median(image[brain]))
    radius = draw["radius"] * image.shape[0]
    rows, columns = _from_centre(image.shape, draw["centre"])
    distance, angle = np.hypot(rows, columns), np.arctan2(rows, columns)
    # The skull neither moves nor swells: everything fades towards the brain's edge.
    inside = np.clip(_depth(brain) / radius, 0, 1)
    result = _pushed(
        image, rows, columns, severity * draw["push"] * radius * inside, radius
    )
    for part, reach, edge, opacity in (
        ("halo", draw["halo"] * radius, HALO_EDGE, HALO_OPACITY),
        ("core", radius, CORE_EDGE, CORE_OPACITY),
    ):
        outline = reach * _outline(angle, draw[f"{part}_outline"])
        soft = max(edge * reach, 0.5)
        weight = severity * opacity * _below(distance - outline, soft) * inside
        result += weight * (draw[f"{part}_level"] * grey - result)
    return result.astype(np.float32)


def _without_rim(head: np.ndarray) -> np.ndarray:
    return _depth(head) > SCALP * head_width(head)


def _depth(mask: np.ndarray) -> np.ndarray:
    """Distance to the nearest pixel outside of a mask or of the image, pixels."""
    depth: np.ndarray = ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    return depth


def _draw_outline(rng: np.random.Generator, ragged: float) -> list[list[float]]:
    """(amplitude, phase) of each wave."""
    return [
        [float(ragged * rng.uniform(0, 1)), float(rng.uniform(0, 2 * np.pi))]
        for _ in WAVES
    ]


def _outline(angle: np.ndarray, waves: list[list[float]]) -> np.ndarray:
    """Radius by direction, relative to the mean one."""
    radius = np.ones_like(angle)
    for turns, (amplitude, phase) in zip(WAVES, waves, strict=True):
        radius += amplitude * np.cos(turns * angle + phase)
    return radius


def _below(signed: np.ndarray, soft: float) -> np.ndarray:
    """1 inside an outline, 0 outside, smooth over a few `soft` pixels."""
    return 0.5 * (1 - np.tanh(signed / soft))


def _from_centre(
    shape: tuple[int, ...], centre: list[float]
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of each pixel relative to the lesion's centre, pixels."""
    rows, columns = np.indices(shape, dtype=np.float64)
    rows -= centre[0] * shape[0] - 0.5
    columns -= centre[1] * shape[1] - 0.5
    return rows, columns


def _pushed(
    image: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    largest: np.ndarray,
    radius: float,
) -> np.ndarray:
    """Push tissue away from the centre, most at the core's edge, (H, W) float64.

    At a distance of t core radii the displacement is largest * t exp((1 - t^2) / 2).
    """
    distance = np.hypot(rows, columns)
    share = largest * np.exp(0.5 * (1 - (distance / radius) ** 2)) / radius
    # What moves by less than a thousandth of a pixel keeps its value to the bit.
    moves = share * distance >= 1e-3
    here = np.stack(np.nonzero(moves)).astype(np.float64)
    source = here - share[moves] * np.stack([rows[moves], columns[moves]])
    result = image.astype(np.float64)
    moved = ndimage.map_coordinates(result, source, order=3, mode="nearest")
    # Cubic interpolation rings below zero, a magnitude does not.
    result[moves] = np.maximum(moved, 0)
    return result
