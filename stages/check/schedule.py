"""In which order to run stages side by side: the longest chain of work first."""

import csv
import io
from collections.abc import Iterable, Mapping
from graphlib import TopologicalSorter
from statistics import mean

from stages.common import paths
from stages.common.volume import write_text

# Seconds per stage of former runs. CSV, and beside what the stages measure themselves.
HISTORY = paths.METRICS / "timing" / "stages.csv"
_COLUMNS = ("stage", "seconds")

Upstream = Mapping[str, Iterable[str]]


def read_history() -> dict[str, float]:
    """Seconds that stages took when they last ran; nothing where none has."""
    if not HISTORY.exists():
        return {}
    with HISTORY.open(encoding="utf-8", newline="") as file:
        return {row["stage"]: float(row["seconds"]) for row in csv.DictReader(file)}


def write_history(seconds: Mapping[str, float], names: Iterable[str]) -> None:
    """Write the seconds of the stages that are still there."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    kept = sorted(set(names) & set(seconds))
    writer.writerows((name, f"{seconds[name]:.1f}") for name in kept)
    write_text(HISTORY, text.getvalue())


def estimate(names: Iterable[str], history: Mapping[str, float]) -> dict[str, float]:
    """Seconds that each stage will take.

    A cell that has never run is taken for the mean of its stage's other cells, and one
    of an unknown stage for the mean of all: 1 where nothing is known.
    """
    families: dict[str, list[float]] = {}
    for name, seconds in history.items():
        families.setdefault(_family(name), []).append(seconds)
    anything = mean(history.values()) if history else 1.0
    return {
        name: history.get(name) or mean(families.get(_family(name)) or [anything])
        for name in names
    }


def remaining(upstream: Upstream, seconds: Mapping[str, float]) -> dict[str, float]:
    """Seconds from the start of each stage to the end of the longest chain behind it.

    Args:
        upstream: stage -> the stages it waits for.
        seconds: what each stage takes.
    """
    behind = dict.fromkeys(upstream, 0.0)
    total: dict[str, float] = {}
    for name in reversed([*TopologicalSorter(upstream).static_order()]):
        total[name] = seconds[name] + behind[name]
        for above in upstream[name]:
            behind[above] = max(behind[above], total[name])
    return total


def _family(name: str) -> str:
    return name.partition("@")[0]
