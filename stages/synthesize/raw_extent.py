"""Which part of k-space was measured, and whether its centre is in the middle."""

from collections.abc import Iterable
from functools import reduce
from pathlib import Path

import numpy as np

from stages.synthesize.scans import ScanError

_ZERO_ROWS = 0.05  # of all rows, at one edge: more is a phase encoding axis
_CENTRAL = 0.4  # of the energy, in the central half of an axis: white noise has 0.5


def off_centre(planes: Iterable[np.ndarray]) -> tuple[str, float] | None:
    """Find the axis along which energy lies at the edges rather than in the middle.

    All planes are judged together, so that those of noise alone hardly count; and a
    centre that is some samples off is none at the edges.

    Args:
        planes: (coils, H, W) each, of k-space or images.

    Returns:
        `row` or `column`, and the percentage of the energy in its outer half; None
        where either is centred.
    """
    energy = reduce(np.add, map(_energy, planes))
    total = float(energy.sum())
    for axis, name in enumerate(("row", "column")):
        profile = energy.sum(axis=1 - axis)
        quarter = len(profile) // 4
        central = float(profile[quarter : len(profile) - quarter].sum())
        if central < _CENTRAL * total:
            return name, 100 * (1 - central / total)
    return None


def require_centre(kspace: np.ndarray, path: Path) -> None:
    """Refuse k-space whose zero frequency is at the edges.

    Its RSS is the same as if it were centred; but masks keep what they should leave
    out, and sensitivities cannot be estimated.

    Raises:
        ScanError: naming the file, the axis and what to do.
    """
    found = off_centre(kspace)
    if found is not None:
        name, percent = found
        raise ScanError(
            f"{path}: kspace is not centred: {percent:.0f} % of its energy lies in the "
            f"outer half of axis '{name}', the zero frequency should be at n // 2; "
            "shift it there (fftshift), or remove the file",
            path=path,
        )


def acquired_columns(kspace: np.ndarray, path: Path) -> tuple[int, int] | None:
    """Find what was measured along the phase encoding, the same for every coil.

    Returns:
        First and one past the last acquired column; None if all were acquired.

    Raises:
        ScanError: a coil lacks columns between those, or nothing is acquired, or
            zero rows tell that the axes are swapped.
    """
    filled, rows = _filled(kspace)
    found = np.flatnonzero(filled.any(axis=(0, 1)))
    if not found.size:
        raise ScanError(
            f"{path}: kspace is zero throughout, no signal: download it again, or "
            "remove it",
            path=path,
        )
    first, end = int(found[0]), int(found[-1]) + 1
    # A slice or a coil without any value is empty or dead, not undersampled.
    missing = filled.any(axis=2, keepdims=True) & ~filled[..., first:end]
    if missing.any():
        number, coil, _ = np.argwhere(missing)[0]
        raise ScanError(
            f"{path}: {missing.any(axis=(0, 1)).sum()} of {end - first} columns are "
            "missing between the first and the last acquired one, some of them in "
            f"slice {number}, coil {coil}: undersampled k-space has no reference to "
            "train on; remove the file, or take the fully sampled one",
            path=path,
        )
    if (first, end) != (0, filled.shape[2]):
        return first, end
    _require_rows(rows, path)
    return None


def _filled(kspace: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where values other than zero are: (slices, coils, W) and (H,), both bool."""
    slices, coils, height, width = kspace.shape
    columns, rows = np.empty((slices, coils, width), bool), np.zeros(height, bool)
    for number, plane in enumerate(kspace):
        values = plane != 0
        columns[number] = values.any(axis=1)
        rows |= values.any(axis=(0, 2))
    return columns, rows


def _require_rows(rows: np.ndarray, path: Path) -> None:
    found = np.flatnonzero(rows)
    empty = max(int(found[0]), len(rows) - 1 - int(found[-1]))
    if empty > _ZERO_ROWS * len(rows):
        raise ScanError(
            f"{path}: {empty} rows at one edge of kspace are zero and no column is: "
            "its last two axes are swapped; transpose them, so that phase is encoded "
            "along the last",
            path=path,
        )


def _energy(plane: np.ndarray) -> np.ndarray:
    """Of all coils, (H, W) float64: single precision has no room for squares."""
    energy = np.square(plane.real, dtype=np.float64)
    energy += np.square(plane.imag, dtype=np.float64)
    total: np.ndarray = energy.sum(axis=0)
    return total
