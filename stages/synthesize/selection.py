"""Which slices of a person's scans become slices of volumes: the same in each."""

from collections.abc import Mapping

import numpy as np

from stages.synthesize.scans import ScanError
from stages.synthesize.settings import ScanSettings

_PERCENTILE = 99


def slice_signal(images: np.ndarray) -> np.ndarray:
    """Return how bright each slice is.

    Args:
        images: (slices, H, W) magnitudes.

    Returns:
        (slices,) 99th percentile of each slice over the maximum of the volume.
    """
    top = images.max()
    if not top > 0:
        return np.zeros(len(images))
    signal: np.ndarray = np.percentile(images, _PERCENTILE, axis=(1, 2)) / top
    return signal


def kept_slices(
    signals: Mapping[str, np.ndarray], settings: ScanSettings
) -> dict[str, list[int]]:
    """Choose slices, in the source's numbers.

    Scans of one person that have as many slices show, slice by slice, the same anatomy,
    and keep doing so: a slice that is empty in one of them is left out of all.

    Args:
        signals: volume_id -> (slices,) as from `slice_signal`.
        settings: `min_signal` and `max_slices`.

    Returns:
        volume_id -> numbers, rising; of a volume without signal, none.
    """
    groups: dict[int, list[str]] = {}
    for volume_id, signal in signals.items():
        groups.setdefault(len(signal), []).append(volume_id)
    kept: dict[str, list[int]] = {}
    for volumes in groups.values():
        alive = [name for name in volumes if (signals[name] > 0).any()]
        full = np.all([signals[n] >= settings.min_signal for n in alive], axis=0)
        numbers = _spread(np.flatnonzero(full), settings.max_slices) if alive else []
        kept |= {name: numbers if name in alive else [] for name in volumes}
    return kept


def require_slices(kept: list[int], where: object, settings: ScanSettings) -> None:
    """Refuse a volume of which nothing is left.

    Raises:
        ScanError: naming the file.
    """
    if not kept:
        raise ScanError(
            f"{where}: no slice holds signal (synthesize.scans.min_signal = "
            f"{settings.min_signal}): lower it, or remove the file if it is empty"
        )


def _spread(numbers: np.ndarray, most: int | None) -> list[int]:
    """At most so many, evenly spread."""
    if most is None or len(numbers) <= most:
        return [int(number) for number in numbers]
    # The middles of equal parts: neither end is preferred.
    middles = (np.arange(most) + 0.5) * len(numbers) / most
    return [int(number) for number in numbers[middles.astype(int)]]
