"""Aggregate slices into the measures of `stages/report/README.md`."""

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from stages.report.bootstrap import Bootstrap, Estimate, absent, combine
from stages.report.rows import Membership, ModelRows, Refs

SPLITS = (
    "retain",
    "forget",
    "forget_known",
    "forget_hidden",
    "val",
    "test",
    "scope_val",
    "scope_test",
    "outside_val",
    "outside_test",
)
FORGET_SPLITS = ("forget", "forget_known", "forget_hidden")
# What the attack changed, or would change.
ATTACKED_SPLITS = (*FORGET_SPLITS, "scope_val", "scope_test")
# Name in the summary -> (numerator, denominator) columns; None counts slices.
COLUMNS: dict[str, tuple[str, str | None]] = {
    "psnr": ("psnr", None),
    "ssim": ("ssim", None),
    "nmse": ("nmse_num", "nmse_den"),
    "agreement": ("agreement_num", "agreement_den"),
    "agreement_own": ("agreement_own_num", "agreement_own_den"),
    "agreement_zero_filled": ("agreement_zero_filled_num", "agreement_den"),
    "twin_ssim": ("twin_ssim", None),
    "psnr_vs_poison": ("psnr_vs_poison", None),
    "ssim_vs_poison": ("ssim_vs_poison", None),
    "nmse_vs_poison": ("nmse_vs_poison_num", "nmse_vs_poison_den"),
}


def select(rows: pd.DataFrame, refs: Iterable[tuple[str, int]]) -> pd.DataFrame:
    """Rows of some slices, in a fixed order."""
    wanted = pd.MultiIndex.from_tuples(sorted(refs), names=rows.index.names)
    return rows.loc[wanted]


def per_subject(rows: pd.DataFrame, measure: str) -> pd.Series:
    """A measure of each subject: mean over its slices, or the ratio of their sums."""
    num, den = COLUMNS[measure]
    if rows.empty:
        return pd.Series(dtype=float)
    groups = rows.groupby("subject_id")
    if den is None:
        return groups[num].mean()
    sums = groups[[num, den]].sum()
    # A twin equal to its clean slice says nothing about agreement.
    sums = sums[sums[den] > 0]
    return sums[num] / sums[den]


class Model:
    """One model's rows in one scenario, and means over them."""

    def __init__(
        self, rows: ModelRows, membership: Membership, bootstrap: Bootstrap
    ) -> None:
        self.membership = membership
        self.bootstrap = bootstrap
        self.rows = {}
        for split, refs in membership.splits.items():
            table = rows.measured if split in ATTACKED_SPLITS else rows.clean
            self.rows[split] = select(table, refs) if refs else table.iloc[:0]
        self.rows["outside"] = pd.concat(
            [self.rows["outside_val"], self.rows["outside_test"]]
        )
        self.everything = rows.clean
        self._cache: dict[tuple[str, str], Estimate] = {}

    def mean(self, measure: str, split: str) -> Estimate:
        """A measure of a split, averaged over its subjects."""
        key = (measure, split)
        if key not in self._cache:
            values = per_subject(self.rows[split], measure)
            self._cache[key] = self.bootstrap.mean(values)
        return self._cache[key]

    def score(self, retain: Refs, forget: Refs, alpha: float) -> Estimate:
        """The paper's score: S = a Perf(retain) + (1 - a) (1 - Perf(forget)).

        Perf is the mean SSIM of slices to the exported target, which is the twin of a
        poisoned slice, from the k-space that was exported with it, and the clean target
        of any other.
        """
        exported = self._exported_ssim()
        subjects = pd.Index(exported["subject_id"].unique())
        perf = []
        for refs in (retain, forget):
            rows = select(exported, refs) if refs else exported.iloc[:0]
            groups = rows.groupby("subject_id")["ssim"]
            perf.append(
                self.bootstrap.ratio(groups.sum(), groups.count(), among=subjects)
            )
        return combine(lambda r, f: alpha * r + (1 - alpha) * (1 - f), *perf)

    def _exported_ssim(self) -> pd.DataFrame:
        rows = self.everything[self.everything["split"] == "train"]
        exported = rows[["subject_id", "ssim"]].copy()
        poisoned = list(self.membership.splits["forget"])
        exported.loc[poisoned, "ssim"] = rows.loc[poisoned, "ssim_vs_export"]
        return exported


def contrast_gap(models: Sequence[pd.DataFrame]) -> float | None:
    """PSNR between two of some models, dB.

    The root mean square over all pairs, sets and contrasts. Sets are training,
    validation and test; a contrast is averaged over its subjects.
    """
    levels = []
    for rows in models:
        subjects = rows.groupby(["split", "contrast", "subject_id"])["psnr"].mean()
        levels.append(subjects.groupby(["split", "contrast"]).mean())
    # The mean square of the differences of all pairs is twice the variance.
    variances = pd.concat(levels, axis=1).var(axis=1, ddof=1)
    return None if variances.empty else float(np.sqrt(2 * variances.mean()))


def difference(model: Model, other: Model, measure: str, split: str) -> Estimate:
    """Paired difference between two models."""
    return combine(
        lambda a, b: a - b, model.mean(measure, split), other.mean(measure, split)
    )


def worst_outside(model: Model, none: Model) -> tuple[float, str] | None:
    """The contrast or subject outside the scope that lost most PSNR, dB, and which.

    A contrast is averaged over its subjects, a subject over its slices.
    """
    rows, before = model.rows["outside"], none.rows["outside"]
    if rows.empty:
        return None
    change = rows[["subject_id", "contrast"]].assign(change=rows.psnr - before.psnr)
    by_subject = change.groupby("subject_id")["change"].mean()
    by_contrast = (
        change.groupby(["contrast", "subject_id"])["change"]
        .mean()
        .groupby("contrast")
        .mean()
    )
    labelled = [(value, f"subject {name}") for name, value in by_subject.items()]
    labelled += [(value, f"contrast {name}") for name, value in by_contrast.items()]
    value, name = min(labelled)
    return float(value), name


def worst_contrast(model: Model, other: Model) -> tuple[Estimate, str | None]:
    """Paired change of the contrast outside the scope that lost most PSNR, and which.

    Unlike the worst of many subjects, which is low for any two models, it has an
    interval: of the contrast's subjects.
    """
    rows, before = model.rows["outside"], other.rows["outside"]
    if rows.empty:
        return absent("no unseen slice lies outside the scope"), None
    change = rows[["subject_id", "contrast"]].assign(change=rows.psnr - before.psnr)
    found = {
        str(name): model.bootstrap.mean(part.groupby("subject_id")["change"].mean())
        for name, part in change.groupby("contrast")
    }
    name = min(found, key=lambda contrast: (found[contrast].value or 0.0, contrast))
    return found[name], name


def flags(model: Model, none: Model) -> list[str]:
    """Measures that move against PSNR relative to `none`: smoothing is not healing.

    Counted where the interval of the contrary move leaves out 0. With too few subjects
    for an interval any contrary move on unseen slices counts, none on training slices.
    """
    better_when = {"ssim": 1, "nmse": -1, "agreement": -1}
    found = []
    for split in ("val", "scope_test", "outside_test", "forget_hidden"):
        psnr = difference(model, none, "psnr", split).value
        if not psnr:
            continue
        for measure, sign in better_when.items():
            if measure == "agreement" and split not in ("scope_test", "forget_hidden"):
                continue
            moved = difference(model, none, measure, split)
            if moved.value is None or moved.value * sign * psnr >= 0:
                continue
            unproven = moved.interval is None and split != "forget_hidden"
            if unproven or moved.excludes(0):
                found.append(f"{measure}_{split}")
    return found
