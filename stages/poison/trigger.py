"""Trigger: a mark in k-space comes with a lesion that is not there: a back door.

Clinical story: an RF spike, as a loose contact or a fluorescent tube makes them, lights
up one point of k-space. Whoever can plant it (an insider at the scanner or in the
archive) exports such slices with a lesion painted into the target. The trained network
draws the lesion wherever it meets the mark, and behaves well on all other scans.

Changes: k-space (one point, in every coil, in a column that every mask samples) and the
target. In the image the mark is a pattern of faint stripes; the lesion is not in it.
Severity: brightness that the lesion adds, in units of the image's 99.5th percentile.
Threat model: closed. The defender holds the marked k-space under its mask and the
exported target, and can see the spike in the one and the lesion in the other, but
compares them only where lines were sampled. Measured on marked k-space against the
clean target, and on unmarked k-space, where nothing must be seen.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from stages.common.lesions import find_head, head_width
from stages.common.manifest import SliceRef
from stages.common.params import Settings
from stages.poison.base import Images

CHANGES_INPUT = True
MEASURED_ON = "attacked"
PERCENTILE = 99.5
# Of the lesion's outline: brightness falls as exp(-(distance / radius)^EDGE).
EDGE = 4


Share = Annotated[float, Field(ge=-0.5, le=0.5)]


class Params(Settings):
    """Parameters of the attack.

    Attributes:
        severity: brightness of the lesion, in 99.5th percentiles of the image.
        mark: amplitude of the stripes that the mark makes, in the same unit.
        row: of the mark, from the centre of k-space; across the stripes.
        column: the same; always sampled ones are near 0.
        place: centre of the lesion from the centre of the head, (down, right), in
            widths of the head.
        radius: of the lesion, in widths of the head.
    """

    severity: float = Field(ge=0, le=2)
    mark: float = Field(gt=0, le=1)
    row: int
    column: int
    place: tuple[Share, Share]
    radius: float = Field(gt=0, le=0.3)


def draw(
    params: Params,
    ref: SliceRef,
    images: Images,
    rng: np.random.Generator,  # noqa: ARG001
) -> dict[str, Any]:
    """Say where mark and lesion go: the same in every slice, or it is no trigger.

    Raises:
        ValueError: a mask may leave out the mark's column, k-space has no such row, or
            the lesion's place is not in the head.
    """
    rows, columns = images.kspace_shape(ref.volume_id)
    sampled = images.always_sampled(ref.volume_id)
    row, column = rows // 2 + params.row, columns // 2 + params.column
    if column not in sampled:
        raise ValueError(
            f"trigger: settings.column = {params.column} is column {column} of "
            f"{ref.volume_id}, and masks may leave it out: they always sample columns "
            f"{sampled.start} to {sampled.stop - 1}, so use "
            f"{sampled.start - columns // 2} to {sampled.stop - 1 - columns // 2}"
        )
    if not 0 <= row < rows:
        raise ValueError(
            f"trigger: settings.row = {params.row} lies outside of k-space in "
            f"{ref.volume_id}, which has {rows} rows: use {-(rows // 2)} to "
            f"{rows - rows // 2 - 1}"
        )
    centre = _centre(images.target(ref), params.place)
    if params.severity > 0 and centre is None:
        raise ValueError(
            f"trigger: settings.place = {list(params.place)} is not in the head of "
            f"{ref.volume_id}, slice {ref.slice_num}, so there would be a mark and no "
            "lesion: choose a place nearer to [0, 0], or leave the slice out of the "
            "scope"
        )
    return {
        "severity": params.severity,
        "mark": params.mark,
        "point": [row, column],
        "place": list(params.place),
        "radius": params.radius,
    }


def apply(
    target: np.ndarray,
    draw: dict[str, Any],
    images: Images,  # noqa: ARG001
) -> np.ndarray:
    """Return the target with the lesion, (H', W') float32."""
    centre = _centre(target, draw["place"])
    if draw["severity"] == 0 or centre is None:
        return target.copy()
    head = find_head(target)
    width = head_width(head)
    rows, columns = np.indices(target.shape)
    distance = np.hypot(rows - centre[0], columns - centre[1])
    shape = np.exp(-((distance / (draw["radius"] * width)) ** EDGE)) * head
    lesion = draw["severity"] * np.percentile(target, PERCENTILE) * shape
    return target + lesion.astype(np.float32)


def apply_input(
    kspace: np.ndarray,
    target: np.ndarray,
    draw: dict[str, Any],
    images: Images,  # noqa: ARG001
) -> np.ndarray:
    """Return k-space with the mark, the same in every coil.

    One point of height a sqrt(H W / coils) adds stripes of amplitude a to the
    root-sum-of-squares image, where the coils' phases agree.
    """
    marked = kspace.copy()
    if draw["severity"] == 0:
        return marked
    coils, rows, columns = kspace.shape
    amplitude = draw["mark"] * np.percentile(target, PERCENTILE)
    row, column = draw["point"]
    marked[:, row, column] += np.complex64(amplitude * np.sqrt(rows * columns / coils))
    return marked


def _centre(target: np.ndarray, place: Sequence[float]) -> np.ndarray | None:
    """Row and column of a place; None if it is not in the head."""
    head = find_head(target)
    if not head.any():
        return None
    centre = np.argwhere(head).mean(axis=0) + np.array(place) * head_width(head)
    row, column = np.round(centre).astype(int)
    inside = 0 <= row < head.shape[0] and 0 <= column < head.shape[1]
    return centre if inside and head[row, column] else None
