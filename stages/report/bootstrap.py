"""Means over subjects with paired bootstrap intervals.

The percentile interval of few subjects is too narrow: of the mean of eight normal
numbers it covers 88 % where it says 95 %, of five 83 %. Its percentiles are moved out
by the correction of Hesterberg ("What teachers should know about the bootstrap", The
American Statistician 69, 2015), by which it covers 94 and 92 %.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import ndtr, stdtrit

from stages.report.settings import BootstrapSettings

MIN_SUBJECTS = 5
CONFIDENCE = 0.95
TOO_FEW = f"fewer than {MIN_SUBJECTS} subjects"


class Estimate(NamedTuple):
    """A number and what it would have been with other subjects.

    Attributes:
        value: point estimate, or None with a reason.
        samples: (resamples,) the same number in each resample; empty when there are
            too few subjects.
        reason: why there is no value, or no interval.
        subjects: how many the number comes from; the fewest of all its parts.
    """

    value: float | None
    samples: np.ndarray
    reason: str
    subjects: int

    @property
    def interval(self) -> tuple[float, float] | None:
        if self.value is None or not self.samples.size:
            return None
        tail = 100 * tail_share(self.subjects)
        low, high = np.nanpercentile(self.samples, [tail, 100 - tail])
        return float(low), float(high)

    def excludes(self, number: float) -> bool:
        """Whether there is an interval and the number lies outside of it."""
        interval = self.interval
        return interval is not None and not interval[0] <= number <= interval[1]


def tail_share(subjects: int) -> float:
    """Share of the resamples beyond either end of an interval.

    Args:
        subjects: how many the number comes from, 2 or more.
    """
    quantile = stdtrit(subjects - 1, (1 + CONFIDENCE) / 2)
    return float(ndtr(-np.sqrt(subjects / (subjects - 1)) * quantile))


def absent(reason: str) -> Estimate:
    return Estimate(None, np.empty(0), reason, 0)


def combine(function: Callable[..., np.ndarray | float], *parts: Estimate) -> Estimate:
    """A function of estimates, resample by resample: what makes ratios paired.

    All parts must come from the same subjects.
    """
    missing = [part for part in parts if part.value is None]
    if missing:
        return absent(missing[0].reason)
    subjects = min(part.subjects for part in parts)
    with np.errstate(divide="ignore", invalid="ignore"):
        value = float(function(*[part.value for part in parts]))
        if not np.isfinite(value):
            return absent("not a finite number")
        if any(not part.samples.size for part in parts):
            return Estimate(value, np.empty(0), TOO_FEW, subjects)
        samples = np.asarray(function(*[part.samples for part in parts]))
    return Estimate(value, samples, "", subjects)


class Bootstrap:
    """Draws subjects once per set of subjects, for every model alike."""

    def __init__(self, settings: BootstrapSettings) -> None:
        self.settings = settings
        self._weights: dict[tuple[str, ...], np.ndarray] = {}

    def weights(self, subjects: tuple[str, ...]) -> np.ndarray:
        """(resamples, subjects): how often each subject is drawn."""
        if subjects not in self._weights:
            count = len(subjects)
            rng = np.random.default_rng([self.settings.seed, count])
            self._weights[subjects] = rng.multinomial(
                count, np.full(count, 1 / count), size=self.settings.resamples
            ).astype(np.float64)
        return self._weights[subjects]

    def mean(self, values: pd.Series) -> Estimate:
        """Mean over subjects.

        Args:
            values: one value per subject, indexed by subject.
        """
        return self.ratio(values, pd.Series(1.0, index=values.index))

    def ratio(
        self, num: pd.Series, den: pd.Series, *, among: pd.Index | None = None
    ) -> Estimate:
        """Sum over subjects of `num` over that of `den`.

        Args:
            num: per subject.
            den: per subject, same index.
            among: the subjects that are drawn from, when a partner of this estimate
                comes from others; those without a value count nothing.
        """
        if num.empty:
            return absent("no slices in this split")
        index = (num.index if among is None else among).sort_values()
        tops = num.reindex(index, fill_value=0.0).to_numpy(np.float64)
        bottoms = den.reindex(index, fill_value=0.0).to_numpy(np.float64)
        value = float(tops.sum() / bottoms.sum())
        if len(num) < MIN_SUBJECTS:
            return Estimate(value, np.empty(0), TOO_FEW, len(num))
        drawn = self.weights(tuple(index))
        with np.errstate(invalid="ignore"):
            samples = (drawn @ tops) / (drawn @ bottoms)
        return Estimate(value, samples, "", len(num))
