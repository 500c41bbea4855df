"""How well scores tell poison from clean slices."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from stages.report import detection, ranking
from stages.report.bootstrap import Bootstrap
from stages.report.detection import measure
from stages.report.settings import BootstrapSettings

SHARES = {"mislabel-10": 0.1, "mislabel-30": 0.3, "mislabel-random-30": 0.3}
DETECTORS = {"good": 3.0, "forget_classifier": 1.0, "bad": -3.0, "full": 9.0}
BOOTSTRAP = Bootstrap(BootstrapSettings(resamples=300, seed=0))


def made_up_rows(seed=0, *, subjects=8, strength=1.0, known=4, digits=1):
    """Scores with ties; a fifth of the slices poisoned, `known` of them reported."""
    rng = np.random.default_rng(seed)
    poisoned = np.arange(subjects * 12) % 5 == 0
    score = rng.normal(0, 1, len(poisoned)) + strength * poisoned
    reported = np.zeros(len(poisoned), bool)
    reported[np.flatnonzero(poisoned)[:known]] = True
    return pd.DataFrame(
        {
            "score": np.round(score, digits),
            "known": reported,
            "poisoned": poisoned,
            "in_scope": True,
            "subject_id": np.repeat([f"s{n}" for n in range(subjects)], 12),
        }
    )


@pytest.mark.parametrize("seed", range(4))
def test_ranking_is_scikit_learns(seed):
    rows = made_up_rows(seed)
    rng = np.random.default_rng(seed)
    weights = rng.integers(0, 3, (5, len(rows)))
    scores, poisoned = rows["score"].to_numpy(), rows["poisoned"].to_numpy()
    ranked = ranking.curve(scores, poisoned, weights)
    for number, weight in enumerate(weights):
        named = {"sample_weight": weight}
        expected = metrics.roc_auc_score(poisoned, scores, **named)
        assert ranking.auroc(ranked)[number] == pytest.approx(expected)
        expected = metrics.average_precision_score(poisoned, scores, **named)
        assert ranking.average_precision(ranked)[number] == pytest.approx(expected)
        fpr, tpr, _ = metrics.roc_curve(
            poisoned, scores, drop_intermediate=False, **named
        )
        found = ranking.recall_at_false_positives(ranked)[number]
        assert found == pytest.approx(tpr[fpr <= 0.01].max())


def test_weights_are_repeated_slices():
    rows = made_up_rows()
    times = np.random.default_rng(1).integers(0, 4, len(rows))
    again = rows.loc[rows.index.repeat(times)]
    one = ranking.curve(
        rows["score"].to_numpy(), rows["poisoned"].to_numpy(), times[None]
    )
    ones = np.ones((1, len(again)))
    two = ranking.curve(again["score"].to_numpy(), again["poisoned"].to_numpy(), ones)
    assert ranking.auroc(one) == pytest.approx(ranking.auroc(two))
    for a, b in zip(
        ranking.at_budget(one, 0.2), ranking.at_budget(two, 0.2), strict=True
    ):
        assert a == pytest.approx(b)


def test_budget_by_hand():
    scores = np.array([9.0, 8, 8, 8, 1, 1])
    poisoned = np.array([True, True, False, False, True, False])
    ranked = ranking.curve(scores, poisoned, np.ones((1, 6)))
    precision, recall = ranking.at_budget(ranked, 1 / 6)
    assert (precision[0], recall[0]) == pytest.approx((1, 1 / 3))
    # One of the three slices of score 8, of which one is poisoned: a third expected.
    precision, recall = ranking.at_budget(ranked, 2 / 6)
    assert precision[0] == pytest.approx((1 + 1 / 3) / 2)
    assert recall[0] == pytest.approx((1 + 1 / 3) / 3)


def test_reported_slices_do_not_count():
    rows = made_up_rows()
    values = measure(rows, BOOTSTRAP)
    hidden = rows[~rows["known"]]
    expected = metrics.roc_auc_score(hidden["poisoned"], hidden["score"])
    assert values["auroc"] == pytest.approx(expected, abs=1e-5)
    changed = rows.assign(score=rows["score"].where(~rows["known"], -99.0))
    assert measure(changed, BOOTSTRAP) == values
    assert (values["n_known"], values["n_poisoned"]) == (4, 20)
    assert (values["n_hidden"], values["n_slices"]) == (16, 92)
    top = hidden.nlargest(4, "score", keep="first")
    assert values["precision_at_budget"] == pytest.approx(top["poisoned"].mean())
    assert values["recall_at_budget"] == pytest.approx(top["poisoned"].sum() / 16)


def test_intervals_hold_their_estimates_and_come_from_subjects():
    rows = made_up_rows(digits=6)
    values = measure(rows, BOOTSTRAP)
    for name in detection.FIGURES:
        assert values[f"{name}_low"] <= values[name] <= values[f"{name}_high"]
    drawn = BOOTSTRAP.weights(tuple(sorted(set(rows["subject_id"]))))[:3]
    hidden = rows[~rows["known"]]
    curves = detection._resampled(hidden, BOOTSTRAP)
    found = np.concatenate([ranking.auroc(curve) for curve in curves])
    assert len(found) == 300
    for weights, value in zip(drawn, found, strict=False):
        of = dict(zip(sorted(set(rows["subject_id"])), weights, strict=True))
        expected = metrics.roc_auc_score(
            hidden["poisoned"],
            hidden["score"],
            sample_weight=hidden["subject_id"].map(of),
        )
        assert value == pytest.approx(expected)


def test_blocks_of_resamples_change_nothing(monkeypatch):
    rows = made_up_rows()
    before = measure(rows, BOOTSTRAP)
    monkeypatch.setattr(detection, "BLOCK", 500)
    assert measure(rows, BOOTSTRAP) == before


@pytest.mark.parametrize(
    ("rows", "reason", "whole"),
    [
        (made_up_rows(known=20), "no poison is undiscovered", True),
        (
            made_up_rows(known=0).assign(poisoned=True),
            "no training slice is clean",
            True,
        ),
        (made_up_rows(subjects=4), "in fewer than 5 subjects", False),
    ],
)
def test_what_is_null_has_its_reason(rows, reason, whole):
    values = measure(rows, BOOTSTRAP)
    for name in detection.FIGURES:
        assert values[f"{name}_low"] is None
        assert reason in values[f"{name}_low_reason"]
        assert (values[name] is None) == whole
    assert not values["below_chance"]


def test_what_tells_contrasts_apart_finds_nothing_in_the_scope():
    rows = made_up_rows(strength=0.0)
    inside = np.arange(len(rows)) % 5 < 2  # the poisoned fifth and a clean one
    rows = rows.assign(in_scope=inside, score=rows["score"] * 0.01 + 9.0 * inside)
    values = measure(rows, BOOTSTRAP)
    assert values["auroc"] > 0.8
    assert not values["below_chance"]
    hidden = rows[~rows["known"] & inside]
    expected = metrics.roc_auc_score(hidden["poisoned"], hidden["score"])
    assert values["auroc_in_scope"] == pytest.approx(expected, abs=1e-5)
    assert values["auroc_in_scope_low"] < 0.5 < values["auroc_in_scope_high"]


def test_poison_below_the_clean_of_its_scope_is_flagged():
    rows = made_up_rows(strength=-4.0)
    inside = np.arange(len(rows)) % 5 < 2
    rows = rows.assign(in_scope=inside, score=rows["score"] + 20.0 * inside)
    values = measure(rows, BOOTSTRAP)
    assert values["below_chance_in_scope"]
    assert not values["below_chance"]
    assert detection.warning_of(values) == "**below chance in the scope**"


def test_a_scope_that_is_poisoned_whole_says_so():
    rows = made_up_rows()
    values = measure(rows.assign(in_scope=rows["poisoned"]), BOOTSTRAP)
    assert values["auroc_in_scope"] is None
    reason = "in the scope, no training slice is clean"
    assert values["auroc_in_scope_reason"] == reason
    assert values["auroc"] is not None


def test_few_subjects_silence_no_warning():
    values = measure(made_up_rows(subjects=4, strength=-3.0), BOOTSTRAP)
    assert values["auroc_low"] is None
    assert values["below_chance"]


def test_poison_in_few_subjects_has_no_interval():
    rows = made_up_rows()
    few = rows["subject_id"].isin(["s0", "s1"])
    values = measure(rows.assign(poisoned=rows["poisoned"] & few), BOOTSTRAP)
    assert values["auroc"] is not None
    assert values["auroc_low"] is None


def test_without_reports_there_is_no_budget():
    values = measure(made_up_rows(known=0), BOOTSTRAP)
    assert values["recall_at_budget"] is None
    assert "no slice has been reported" in values["recall_at_budget_reason"]
    assert values["auroc_low"] is not None
