"""Healing: which part of the measured damage a method undoes."""

from collections.abc import Sequence

import pandas as pd

from stages.report.bootstrap import TOO_FEW, Estimate, absent, combine
from stages.report.measures import Model, contrast_gap, difference

# Name in the summary -> split.
SPLITS = {
    "val": "val",
    "scope_val": "scope_val",
    "scope_test": "scope_test",
    "hidden": "forget_hidden",
}
NO_DAMAGE = "no measurable damage"
NOT_BETTER = "dropping the poison is not measurably better"


def seed_gap(
    oracle: Model, oracles: Sequence[pd.DataFrame], split: str
) -> float | None:
    """PSNR between two oracles that differ in their seed, dB, from clean k-space.

    The root mean square over all pairs and over the contrasts of the whole training,
    validation or test set that the split lies in: of one pair, or one contrast alone,
    it is small by luck as often as not.

    Args:
        oracle: has the split.
        oracles: rows of all of them, from clean k-space.
        split: see `stages/report/README.md`.
    """
    sets = oracle.rows[split]["split"].unique()
    return contrast_gap([rows[rows["split"].isin(sets)] for rows in oracles])


def healing(
    model: Model,
    none: Model,
    best: Model,
    split: str,
    gap: float | None,
    otherwise: str = NO_DAMAGE,
) -> Estimate:
    """(PSNR_model - PSNR_none) / (PSNR_best - PSNR_none) on a split.

    Args:
        model: the model to judge.
        none: the poisoned model, healing 0.
        best: the reference, healing 1: the oracle or drop-all.
        split: see `stages/report/README.md`.
        gap: between oracle seeds, dB.
        otherwise: the reason where no damage can be shown.

    Returns:
        The share, or no value where no damage can be shown: its paired interval holds
        0, there is no interval, or oracles of two seeds lie as far apart.
    """
    damage = difference(best, none, "psnr", split)
    if damage.value is None:
        return absent(damage.reason)
    if damage.interval is None:
        return absent(f"damage cannot be shown: {TOO_FEW}")
    if not damage.excludes(0) or damage.value <= (gap or 0.0):
        return absent(otherwise)
    return combine(
        lambda m, n, b: (m - n) / (b - n),
        model.mean("psnr", split),
        none.mean("psnr", split),
        best.mean("psnr", split),
    )


def healing_agreement(model: Model, none: Model, best: Model, split: str) -> Estimate:
    """Which part of the agreement with the poison is gone, 1 = the oracle's.

    What tells for a back door: its mark spoils the input, so that the PSNR of a network
    that never met it may be the lower one.

    Returns:
        The share, or no value where the poisoned model does not agree with the poison
        more than the oracle does.
    """
    left = difference(none, best, "agreement", split)
    if left.value is None:
        return absent(left.reason)
    if left.interval is None:
        return absent(f"agreement cannot be shown: {TOO_FEW}")
    if not left.excludes(0) or left.value <= 0:
        return absent("no measurable agreement with the poison")
    return combine(
        lambda m, n, b: (n - m) / (n - b),
        model.mean("agreement", split),
        none.mean("agreement", split),
        best.mean("agreement", split),
    )
