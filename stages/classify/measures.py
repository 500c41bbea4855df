"""How well a classifier tells lesions: accuracies with intervals, AUROC, confusion."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import rankdata

from stages.classify.settings import Resampling

MIN_SUBJECTS = 5
CONFIDENCE = 0.95
CHANCE = 0.5


class Judged(NamedTuple):
    """One image: whose it is, whether it shows a lesion, and what the classifier says.

    A positive logit says that there is a lesion.
    """

    subject_id: str
    contrast: str
    lesion: bool
    logit: float


def confusion(judged: Sequence[Judged]) -> list[list[int]]:
    """[[true negatives, false positives], [false negatives, true positives]]."""
    counts = [[0, 0], [0, 0]]
    for row in judged:
        counts[row.lesion][row.logit > 0] += 1
    return counts


def balanced_accuracy(judged: Sequence[Judged]) -> float:
    """Mean of the shares of both classes that are right; NaN where one is missing."""
    return float(_accuracies(np.array(confusion(judged), dtype=float))[1])


def auroc(judged: Sequence[Judged]) -> float:
    """Area under the ROC curve: how often a lesion has the higher logit; ties half.

    By ranks: (R - n(n + 1)/2) / (n m), R the sum of ranks of the n positives among the
    m negatives (Mann and Whitney).
    """
    positive = np.array([row.lesion for row in judged])
    ranks = rankdata([row.logit for row in judged])
    count, others = int(positive.sum()), int((~positive).sum())
    over = ranks[positive].sum() - count * (count + 1) / 2
    return float(over / (count * others))


def measure(judged: Sequence[Judged], bootstrap: Resampling) -> dict[str, Any]:
    """What `metrics/classifier.json` holds.

    The intervals are percentiles over resamples of the subjects; null below five.
    `usable`: the balanced accuracy (the low end of its interval, where there is one) is
    above 0.5.

    Without images of both classes nothing can be measured: then there is a `reason`.
    """
    counts = confusion(judged)
    missing = [name for name, row in zip(("without", "with"), counts, strict=True)
               if not sum(row)]  # fmt: skip
    if missing:
        return unusable(
            f"no image {missing[0]} a lesion among the {len(judged)} of the test split"
        )
    subjects = sorted({row.subject_id for row in judged})
    per_subject = np.array(
        [confusion([r for r in judged if r.subject_id == name]) for name in subjects],
        dtype=float,
    )
    accuracy, balanced = _accuracies(per_subject.sum(0))
    low, high = _interval(per_subject, bootstrap)
    worst = balanced if low[1] is None else low[1]
    return {
        "accuracy": float(accuracy),
        "accuracy_low": low[0],
        "accuracy_high": high[0],
        "balanced_accuracy": float(balanced),
        "balanced_accuracy_low": low[1],
        "balanced_accuracy_high": high[1],
        "auroc": auroc(judged),
        "usable": bool(worst > CHANCE),
        "n_subjects": len(subjects),
        "n_images": len(judged),
        # Lists, which DVC leaves out of its table of metrics.
        "confusion": {
            name: confusion([row for row in judged if row.contrast == name])
            for name in sorted({row.contrast for row in judged})
        },
    }


def unusable(reason: str) -> dict[str, Any]:
    """Figures of a classifier that could not be trained or measured."""
    return {
        "balanced_accuracy": CHANCE,
        "auroc": CHANCE,
        "usable": False,
        "n_subjects": 0,
        "n_images": 0,
        "reason": reason,
    }


def _interval(
    per_subject: np.ndarray, bootstrap: Resampling
) -> tuple[list[float | None], list[float | None]]:
    """Low and high ends, of accuracy and balanced accuracy."""
    count = len(per_subject)
    if count < MIN_SUBJECTS:
        return [None, None], [None, None]
    rng = np.random.default_rng(bootstrap.seed)
    times = rng.multinomial(count, np.full(count, 1 / count), size=bootstrap.resamples)
    resampled = np.tensordot(times.astype(float), per_subject, axes=1)
    tail = 50 * (1 - CONFIDENCE)
    ends = np.nanpercentile(_accuracies(resampled), [tail, 100 - tail], axis=1)
    low, high = ends.tolist()
    return low, high


def _accuracies(counts: np.ndarray) -> np.ndarray:
    """(..., 2, 2) confusion -> (2, ...) accuracy and balanced accuracy."""
    right = np.diagonal(counts, axis1=-2, axis2=-1)
    with np.errstate(invalid="ignore"):
        shares = right / counts.sum(-1)
    return np.stack([right.sum(-1) / counts.sum((-2, -1)), shares.mean(-1)])
