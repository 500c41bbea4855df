"""Healing: which part of the measured damage a method undoes."""

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
# The gap is about one standard deviation of what another seed moves.
GAPS = 2.0


def seed_gap(oracle: Model, other: Model, split: str) -> float | None:
    """PSNR between two oracles that differ in their seed, dB, from clean k-space.

    The root mean square over the contrasts of the whole training, validation or test
    set that the split lies in: of one contrast alone it is small by luck as often as
    not.
    """
    sets = oracle.rows[split]["split"].unique()
    return contrast_gap(
        *(
            model.everything[model.everything["split"].isin(sets)]
            for model in (oracle, other)
        )
    )


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
        gap: of two oracle seeds, dB.
        otherwise: the reason where no damage can be shown.

    Returns:
        The share, or no value where no damage can be shown: its paired interval holds
        0, there is no interval, or another seed may move as much, `GAPS` gaps.
    """
    damage = difference(best, none, "psnr", split)
    if damage.value is None:
        return absent(damage.reason)
    if damage.interval is None:
        return absent(f"damage cannot be shown: {TOO_FEW}")
    if not damage.excludes(0) or damage.value <= GAPS * (gap or 0.0):
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
