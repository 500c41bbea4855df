"""Aggregation, intervals and healing on rows worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from stages.common.manifest import SliceRef
from stages.common.truth import PoisonedSlice, TruthRecord
from stages.report.bootstrap import TOO_FEW, Bootstrap, combine, tail_share
from stages.report.healing import NO_DAMAGE, NOT_BETTER, healing, seed_gap
from stages.report.measures import (
    Model,
    difference,
    flags,
    worst_contrast,
    worst_outside,
)
from stages.report.rows import EXPORT_VALUES, TWIN_VALUES, ModelRows, split_slices
from stages.report.settings import BootstrapSettings

BOOTSTRAP = Bootstrap(BootstrapSettings(resamples=400, seed=1))
SUBJECTS = 6
ALL = {
    split: frozenset(
        SliceRef(f"{split}{subject}_{contrast}", number)
        for subject in range(SUBJECTS)
        for contrast in ("FLAIR", "T1w")
        for number in range(2)
    )
    for split in ("train", "val", "test")
}


def flair(split):
    return tuple(sorted(ref for ref in ALL[split] if "FLAIR" in ref.volume_id))


def record(poisoned):
    entries = tuple(
        PoisonedSlice(
            volume_id=ref.volume_id,
            slice_num=ref.slice_num,
            draw={},
            clean_sha256="",
            poisoned_sha256="",
            kspace_sha256=None,
            change_nmse=1,
        )
        for ref in poisoned
    )
    return TruthRecord(
        poisoning="p",
        attack="mislabel",
        changes_input=False,
        measured_on="clean",
        scope={split: flair(split) for split in ALL},
        poisoned=entries,
    )


POISONED = flair("train")
KNOWN = POISONED[::2]
MEMBERSHIP = split_slices(ALL, record(POISONED), KNOWN, scoped=True)


def rows(inside, outside=30.0, *, subjects=range(SUBJECTS), **columns):
    """One PSNR in FLAIR, one elsewhere, plus an effect of the subject."""
    refs = [ref for split in ALL for ref in sorted(ALL[split])]
    table = pd.DataFrame(refs, columns=["volume_id", "slice_num"])
    table["split"] = table["volume_id"].str.extract(r"^([a-z]+)", expand=False)
    table["subject_id"] = table["volume_id"].str.split("_").str[0]
    table["contrast"] = table["volume_id"].str.split("_").str[1]
    number = table["subject_id"].str[-1].astype(int)
    table = table[number.isin(subjects)]
    table["psnr"] = np.where(table["contrast"] == "FLAIR", inside, outside)
    table["psnr"] += table["subject_id"].str[-1].astype(int)
    table = table.assign(ssim=0.9, nmse_num=1.0, nmse_den=50.0)
    twinned = (*TWIN_VALUES, *EXPORT_VALUES.values())
    table = table.assign(**{name: 1.0 for name in twinned}).assign(**columns)
    return table.set_index(["volume_id", "slice_num"])


def both(table):
    """An attack on targets alone: every slice has its one, clean input."""
    return ModelRows(table, table)


def model(*args, **kwargs):
    return Model(both(rows(*args, **kwargs)), MEMBERSHIP, BOOTSTRAP)


def test_splits_are_disjoint_and_complete():
    parts = MEMBERSHIP.splits
    assert parts["retain"] | parts["forget"] == ALL["train"]
    assert not parts["retain"] & parts["forget"]
    assert parts["forget_known"] | parts["forget_hidden"] == parts["forget"]
    assert not parts["forget_known"] & parts["forget_hidden"]
    assert MEMBERSHIP.kept | MEMBERSHIP.told == ALL["train"]
    for split in ("val", "test"):
        assert parts[f"scope_{split}"] | parts[f"outside_{split}"] == ALL[split]
        assert not parts[f"scope_{split}"] & parts[f"outside_{split}"]


def test_outside_of_an_unscoped_attack_is_everything_unseen():
    parts = split_slices(ALL, record(POISONED), KNOWN, scoped=False).splits
    assert parts["outside_test"] == parts["test"]


def test_false_alarms_are_told_but_not_poison():
    clean = min(MEMBERSHIP.splits["retain"])
    who = split_slices(ALL, record(POISONED[:3]), [clean, POISONED[0]], scoped=True)
    assert who.splits["forget_known"] == {POISONED[0]}
    assert clean in who.told
    assert clean in who.splits["retain"]


def test_a_known_slice_must_be_a_training_slice():
    with pytest.raises(ValueError, match="no training slice"):
        split_slices(ALL, record(POISONED), flair("test")[:1], scoped=True)


def test_means_are_over_subjects_not_slices():
    who = MEMBERSHIP.splits | {"scope_test": frozenset(sorted(flair("test"))[:3])}
    few = Model(both(rows(20.0)), MEMBERSHIP._replace(splits=who), BOOTSTRAP)
    # Two slices of subject 0 (20 dB) and one of subject 1 (21 dB).
    assert few.mean("psnr", "scope_test").value == pytest.approx(20.5)


def test_nmse_and_agreement_are_ratios_of_sums():
    table = rows(20.0)
    number = table.index.get_level_values("slice_num").to_numpy()
    table["nmse_num"] = np.where(number == 0, 1.0, 9.0)
    table["nmse_den"] = np.where(number == 0, 10.0, 30.0)
    table["agreement_num"] = np.where(number == 0, 2.0, 4.0)
    table["agreement_den"] = np.where(number == 0, 4.0, 20.0)
    made = Model(both(table), MEMBERSHIP, BOOTSTRAP)
    assert made.mean("nmse", "scope_test").value == pytest.approx(10 / 40)
    assert made.mean("agreement", "scope_test").value == pytest.approx(6 / 24)


def test_healing_by_hand():
    none, oracle = model(20.0), model(24.0)
    estimate = healing(model(21.0), none, oracle, "scope_test", 0.1)
    assert estimate.value == pytest.approx(0.25)
    assert healing(none, none, oracle, "scope_test", 0.1).value == 0
    assert healing(oracle, none, oracle, "scope_test", 0.1).value == 1
    assert healing(model(18.0), none, oracle, "scope_test", 0.1).value == -0.5


def test_the_interval_is_paired():
    none, oracle = model(20.0), model(24.0)
    estimate = healing(model(21.0), none, oracle, "scope_test", 0.1)
    # Every subject heals by the same share, however much the subjects differ.
    assert estimate.interval == pytest.approx((0.25, 0.25))
    assert np.ptp(none.mean("psnr", "scope_test").interval) > 0.5


def test_healing_is_null_without_damage():
    none = model(20.0)
    same = healing(none, none, model(20.0), "scope_test", 0.0)
    assert (same.value, same.reason) == (None, NO_DAMAGE)
    below_noise = healing(none, none, model(20.2), "scope_test", 0.3)
    assert (below_noise.value, below_noise.reason) == (None, NO_DAMAGE)
    assert healing(none, none, model(20.4), "scope_test", 0.3).value == 0
    helped = healing(none, none, model(19.0), "scope_test", 0.0)
    assert (helped.value, helped.reason) == (None, NO_DAMAGE)


def test_healing_is_null_when_the_interval_of_the_damage_holds_zero():
    table = rows(20.0)
    sign = table["subject_id"].str[-1].astype(int) % 2 * 2 - 1
    mixed = Model(
        both(table.assign(psnr=table.psnr + 3 * sign + 0.1)), MEMBERSHIP, BOOTSTRAP
    )
    none = model(20.0)
    assert difference(mixed, none, "psnr", "scope_test").value > 0
    assert healing(none, none, mixed, "scope_test", 0.0).reason == NO_DAMAGE


def test_fewer_than_five_subjects_have_no_interval():
    keep = range(4)
    parts = {
        name: frozenset(
            ref for ref in refs if int(ref.volume_id.split("_")[0][-1]) in keep
        )
        for name, refs in MEMBERSHIP.splits.items()
    }
    who = MEMBERSHIP._replace(splits=parts)
    small = Model(both(rows(20.0, subjects=keep)), who, BOOTSTRAP)
    best = Model(both(rows(24.0, subjects=keep)), who, BOOTSTRAP)
    estimate = small.mean("psnr", "scope_test")
    assert estimate.value == pytest.approx(21.5)
    assert (estimate.interval, estimate.reason) == (None, TOO_FEW)
    nothing = healing(small, small, best, "scope_test", 0.0)
    assert nothing.value is None
    assert TOO_FEW in nothing.reason


def test_an_empty_split_is_absent():
    who = MEMBERSHIP._replace(splits=MEMBERSHIP.splits | {"forget_hidden": frozenset()})
    estimate = Model(both(rows(20.0)), who, BOOTSTRAP).mean("psnr", "forget_hidden")
    assert (estimate.value, estimate.reason) == (None, "no slices in this split")


def test_intervals_contain_the_estimate_and_repeat():
    values = pd.Series(
        np.random.default_rng(2).normal(30, 2, 9), index=list("abcdefghi")
    )
    first = BOOTSTRAP.mean(values)
    low, high = first.interval
    assert low < first.value < high
    again = Bootstrap(BOOTSTRAP.settings).mean(values.iloc[::-1])
    assert again.interval == first.interval
    other = Bootstrap(BootstrapSettings(resamples=400, seed=2)).mean(values)
    assert other.interval != first.interval


def test_bootstrap_spread_is_that_of_the_mean():
    values = pd.Series(
        np.random.default_rng(3).normal(0, 1, 40), index=map(str, range(40))
    )
    drawn = Bootstrap(BootstrapSettings(resamples=4000, seed=1)).mean(values)
    expected = values.std(ddof=0) / np.sqrt(40)
    assert drawn.samples.std() == pytest.approx(expected, rel=0.05)


def test_seed_gap_is_over_all_contrasts_and_has_no_sign():
    one, other = model(20.0, 30.0), model(20.4, 29.7)
    for split in ("scope_test", "val", "forget_hidden", "outside"):
        gap = seed_gap(one, [one.everything, other.everything], split)
        assert gap == pytest.approx(np.sqrt((0.4**2 + 0.3**2) / 2))
        assert gap == seed_gap(one, [other.everything, one.everything], split)


def test_seed_gap_is_over_all_pairs():
    oracles = [model(level, level).everything for level in (20.0, 20.3, 19.6)]
    gap = seed_gap(model(20.0), oracles, "scope_test")
    assert gap == pytest.approx(np.sqrt((0.3**2 + 0.4**2 + 0.7**2) / 3))


def test_no_healing_against_a_reference_that_is_no_better():
    none = model(20.0)
    against = healing(model(21.0), none, model(19.0), "scope_test", 0.1, NOT_BETTER)
    assert (against.value, against.reason) == (None, NOT_BETTER)


@pytest.mark.parametrize(("subjects", "least"), [(5, 0.90), (8, 0.93), (24, 0.93)])
def test_intervals_cover_what_they_say(subjects, least):
    """Of samples of normal numbers; the plain percentiles cover 0.83, 0.88 and 0.92."""
    rng = np.random.default_rng(3)
    bootstrap = Bootstrap(BootstrapSettings(resamples=2000, seed=1))
    names = [f"s{number:02d}" for number in range(subjects)]
    held = []
    for _ in range(2000):
        values = pd.Series(rng.normal(size=subjects), names)
        low, high = bootstrap.mean(values).interval
        held.append(low <= 0 <= high)
    assert least < np.mean(held) < 0.97


def test_many_subjects_need_no_correction():
    assert tail_share(10_000) == pytest.approx(0.025, abs=1e-4)
    assert tail_share(8) < 0.006


def test_damage_outside_and_its_worst():
    none = model(20.0, 30.0)
    table = rows(20.0, 30.0)
    worse = table["subject_id"].eq("test3") & table["contrast"].eq("T1w")
    hurt = Model(
        both(table.assign(psnr=table.psnr - 1.2 * worse)), MEMBERSHIP, BOOTSTRAP
    )
    change = difference(hurt, none, "psnr", "outside")
    assert change.value == pytest.approx(-1.2 / (2 * SUBJECTS))
    value, name = worst_outside(hurt, none)
    assert value == pytest.approx(-1.2)
    assert name == "subject test3"
    evenly = model(20.0, 29.5)
    assert worst_outside(evenly, none)[0] == pytest.approx(-0.5)


def test_worst_contrast_has_the_interval_of_its_subjects():
    table = rows(20.0, 30.0).reset_index()
    second = table["contrast"].eq("T1w") & table["slice_num"].eq(1)
    table.loc[second, "contrast"] = "T2w"
    table = table.set_index(["volume_id", "slice_num"])
    number = table["subject_id"].str[-1].astype(int)
    change = table["contrast"].map({"FLAIR": -9, "T1w": 1, "T2w": -0.2})
    change -= number * table["contrast"].eq("T2w")
    before = Model(both(table), MEMBERSHIP, BOOTSTRAP)
    hurt = Model(both(table.assign(psnr=table.psnr + change)), MEMBERSHIP, BOOTSTRAP)
    lost, name = worst_contrast(hurt, before)
    assert name == "T2w"
    assert lost.value == pytest.approx(-0.2 - (SUBJECTS - 1) / 2)
    low, high = lost.interval
    # Val and test have six subjects each, of 0 to 5: 2.2 deviations of 1.78 in twelve.
    assert low == pytest.approx(lost.value - 2.201 * 1.784 / np.sqrt(12), abs=0.15)
    assert low < lost.value < high < -0.2
    gained, _ = worst_contrast(before, hurt)
    assert gained.value == pytest.approx(-1)


def test_without_a_slice_outside_no_contrast_is_the_worst():
    scope = {split: tuple(sorted(refs)) for split, refs in ALL.items()}
    whole = record(POISONED).model_copy(update={"scope": scope})
    everything = split_slices(ALL, whole, KNOWN, scoped=True)
    one = Model(both(rows(20.0)), everything, BOOTSTRAP)
    lost, name = worst_contrast(one, one)
    assert (lost.value, name) == (None, None)
    assert "outside the scope" in lost.reason


def test_score_by_hand():
    table = rows(20.0, ssim=0.8, ssim_vs_poison=0.1, ssim_vs_export=0.3)
    made = Model(both(table), MEMBERSHIP, BOOTSTRAP)
    hidden, clean = len(MEMBERSHIP.splits["forget_hidden"]), 2 * SUBJECTS
    retain = (hidden * 0.3 + clean * 0.8) / (hidden + clean)
    score = made.score(MEMBERSHIP.kept, MEMBERSHIP.told, 0.5)
    assert score.value == pytest.approx(0.5 * retain + 0.5 * (1 - 0.3))
    splits = MEMBERSHIP.splits
    truth = made.score(splits["retain"], splits["forget"], 0.25)
    assert truth.value == pytest.approx(0.25 * 0.8 + 0.75 * 0.7)


def test_smoothing_is_flagged():
    none = model(20.0)
    smooth = model(21.0, ssim=0.7)
    assert "ssim_scope_test" in flags(smooth, none)
    assert flags(model(21.0, ssim=0.95, nmse_num=0.5), none) == []
    towards_poison = model(21.0, agreement_num=2.0)
    assert "agreement_scope_test" in flags(towards_poison, none)


def test_a_ratio_that_is_not_finite_is_absent():
    zero = combine(lambda a: a - a, model(20.0).mean("psnr", "val"))
    broken = combine(lambda a, b: np.divide(a, b), zero, zero)
    assert broken.value is None
