"""Time both sides in turns, so that what slows the machine slows them alike."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

Entry = dict[str, Any]
Runs = dict[int, list[float]]  # batch -> ms per slice, round by round
NameT = TypeVar("NameT")


def in_turns(
    works: Mapping[NameT, Callable[[], object]], *, rounds: int, called: bool = False
) -> dict[NameT, list[float]]:
    """Call each work once unmeasured, then `rounds` times all of them in turn.

    Args:
        works: name -> what is timed.
        rounds: how often.
        called: whether each was called before, so that the unmeasured call is over.

    Returns:
        For each name the seconds of each round.
    """
    for work in () if called else works.values():
        work()
    seconds: dict[NameT, list[float]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            _wait()
            started = time.perf_counter()
            work()
            _wait()
            seconds[name].append(time.perf_counter() - started)
    return seconds


def per_slice(seconds: list[float], slices: int) -> list[float]:
    """Milliseconds per slice of each round."""
    return [1000 * value / slices for value in seconds]


def compare(ours: Runs, reference: Runs, *, unit: str = "ms per slice") -> Entry:
    """Our best batch against the reference's best: the harder comparison.

    The ratio is the median over the rounds of reference / ours, both of the same round.
    """
    batch, batch_reference = fastest(ours), fastest(reference)
    mine, theirs = ours[batch], reference[batch_reference]
    ratios = [other / own for own, other in zip(mine, theirs, strict=True)]
    return {
        "ours": rounded(statistics.median(mine)),
        "reference": rounded(statistics.median(theirs)),
        "ratio": rounded(statistics.median(ratios)),
        "ratio_min": rounded(min(ratios)),
        "ratio_max": rounded(max(ratios)),
        "batch": batch,
        "batch_reference": batch_reference,
        "unit": unit,
        "rounds": len(ratios),
        "tried": {"ours": _medians(ours), "reference": _medians(reference)},
    }


def fastest(runs: Runs) -> int:
    """The batch with the smallest median time per slice."""
    return min(runs, key=lambda batch: statistics.median(runs[batch]))


def quickest_precision(runs: Mapping[str, Runs]) -> str:
    """The precision whose best batch has the smallest median time per slice."""
    medians = {name: min(_medians(batches).values()) for name, batches in runs.items()}
    return min(medians, key=lambda name: medians[name])


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def _medians(runs: Runs) -> dict[str, float]:
    return {
        str(batch): rounded(statistics.median(values)) for batch, values in runs.items()
    }


def _wait() -> None:
    """A GPU works on after the call that started it."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
