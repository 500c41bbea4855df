"""A known forget set by detection: the most suspicious slices, false alarms included.

One source of a known forget set, one file: from a detector's scores and a scenario's
settings to a sorted list of slices. The truth is not asked.
"""

import csv
import math
from pathlib import Path
from typing import NamedTuple

from stages.common.manifest import SliceRef
from stages.common.params import ParamsError
from stages.forget.settings import AS_KNOWN


class Scores(NamedTuple):
    """What a detector says of a training set.

    Attributes:
        suspicion: slice -> score, higher for more suspicious.
        tips: the slices that had been reported.
    """

    suspicion: dict[SliceRef, float]
    tips: frozenset[SliceRef]


def read_scores(path: Path) -> Scores:
    """Read the scores that `detect` writes.

    Raises:
        ValueError: the file is missing or damaged.
    """
    cell = f"detect@{path.parent.name}-{path.stem}"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = [
                (
                    SliceRef(row["volume_id"], int(row["slice_num"])),
                    float(row["score"]),
                    int(row["known"]),
                )
                for row in csv.DictReader(file)
            ]
    except FileNotFoundError:
        raise ValueError(
            f"{path} is missing: run `dvc repro {cell}`, for which {path.stem} must be "
            "in grid.detectors (detectors of the open threat model serve no scenario)"
        ) from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}): delete it and run "
            f"`dvc repro --force --single-item {cell}`"
        ) from None
    suspicion = {ref: score for ref, score, _ in rows}
    if not rows or len(suspicion) != len(rows) or not all(map(_finite, rows)):
        raise ValueError(
            f"{path} is damaged (empty, a slice twice or no finite score): delete it "
            f"and run `dvc repro --force --single-item {cell}`"
        )
    return Scores(suspicion, frozenset(ref for ref, _, known in rows if known))


def _finite(row: tuple[SliceRef, float, int]) -> bool:
    return math.isfinite(row[1])


def detected(
    name: str, scores: Scores, *, budget: float | str, with_tips: bool
) -> list[SliceRef]:
    """Take the most suspicious slices for poison.

    Slices of one score come in the order of their names: for one detector, a smaller
    budget lies inside a larger one.

    Args:
        name: of the scenario, for messages.
        scores: of every training slice.
        budget: share of the training slices, or as many as the tips.
        with_tips: take the tips, and the budget from the other slices.

    Raises:
        ParamsError: the budget is less than one slice, or leaves none.
    """
    key = f"scenarios.{name}.budget = {budget}"
    total = len(scores.suspicion)
    if budget == AS_KNOWN:
        count = len(scores.tips)
        if not count:
            raise ParamsError(
                f"{key}, but no slice has been reported: give a share of the {total} "
                "training slices, or raise detect.known"
            )
    else:
        count = round(float(budget) * total)
    given = scores.tips if with_tips else frozenset()
    if count < 1 or count + len(given) >= total:
        raise ParamsError(
            f"{key} makes {count} suspects of {total} training slices beside "
            f"{len(given)} tips: take at least one and leave at least one "
            f"(a slice is a share of {1 / total:.3g})"
        )
    others = [ref for ref in scores.suspicion if ref not in given]
    ranked = sorted(others, key=lambda ref: (-scores.suspicion[ref], ref))
    return sorted([*ranked[:count], *given])
