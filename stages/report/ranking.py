"""How well scores rank poisoned slices above clean ones, in many resamples at once.

The same numbers as scikit-learn's (a test compares them), for weights of two thousand
resamples in one go: one by one they would take minutes.
"""

from typing import NamedTuple

import numpy as np

FALSE_POSITIVES = 0.01


class Curve(NamedTuple):
    """Cumulative weights from the most suspicious slice on, one row per resample.

    Slices of equal score come together.

    Attributes:
        hits: (resamples, 1 + thresholds) weight of the poisoned slices so far.
        looks: (resamples, 1 + thresholds) weight of all slices so far.
    """

    hits: np.ndarray
    looks: np.ndarray

    @property
    def alarms(self) -> np.ndarray:
        """Weight of the clean slices so far."""
        return self.looks - self.hits


def curve(scores: np.ndarray, poisoned: np.ndarray, weights: np.ndarray) -> Curve:
    """Rank slices.

    Args:
        scores: (slices,), higher for more suspicious.
        poisoned: (slices,) bool.
        weights: (resamples, slices), how often a slice was drawn.
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)
    drawn = weights[:, order].astype(np.float64)
    start = np.zeros((len(drawn), 1))
    hits = np.cumsum(drawn * poisoned[order], axis=1)[:, ends]
    looks = np.cumsum(drawn, axis=1)[:, ends]
    return Curve(np.hstack([start, hits]), np.hstack([start, looks]))


def auroc(ranked: Curve) -> np.ndarray:
    """Area under the ROC curve, trapezoids: (resamples,)."""
    hits, alarms = ranked.hits, ranked.alarms
    area = (np.diff(alarms, axis=1) * (hits[:, 1:] + hits[:, :-1]) / 2).sum(1)
    return _share(area, hits[:, -1] * alarms[:, -1])


def average_precision(ranked: Curve) -> np.ndarray:
    """Sum over thresholds of the rise in recall times the precision: (resamples,)."""
    hits, looks = ranked.hits[:, 1:], ranked.looks[:, 1:]
    precision = np.divide(hits, looks, out=np.zeros_like(hits), where=looks > 0)
    total = (np.diff(ranked.hits, axis=1) * precision).sum(1)
    return _share(total, hits[:, -1])


def at_budget(ranked: Curve, share: float) -> tuple[np.ndarray, np.ndarray]:
    """Precision and recall of the most suspicious share of all slices: (resamples,).

    Where slices of one score are divided, by chance, the expected number counts.
    """
    budget = share * ranked.looks[:, -1]
    found = np.array(
        [
            np.interp(limit, looks, hits)
            for limit, looks, hits in zip(
                budget, ranked.looks, ranked.hits, strict=True
            )
        ]
    )
    return _share(found, budget), _share(found, ranked.hits[:, -1])


def recall_at_false_positives(ranked: Curve) -> np.ndarray:
    """Recall at the last threshold that accuses at most 1 % of the clean slices."""
    allowed = FALSE_POSITIVES * ranked.alarms[:, -1:] * (1 + 1e-9)
    found = np.where(ranked.alarms <= allowed, ranked.hits, 0).max(1)
    return _share(found, ranked.hits[:, -1])


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """NaN where a resample has none of a kind."""
    empty = np.full_like(part, np.nan)
    share: np.ndarray = np.divide(part, whole, out=empty, where=whole > 0)
    return share
