"""What the report says of detectors."""

import csv
import json
import logging
from pathlib import Path

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import yaml
from sklearn import metrics

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.truth import (
    PoisonedSlice,
    TruthRecord,
    read_record,
    write_truth,
)
from stages.report import detection, ranking
from stages.report.__main__ import main
from stages.report.bootstrap import Bootstrap
from stages.report.detection import measure, summarise_detection
from stages.report.detection_rows import read_detection_plan, read_scores
from stages.report.detection_tables import detection_csv, detection_markdown
from stages.report.filter_retrain import filter_retrain
from stages.report.settings import BootstrapSettings
from tests.report.made_up import MadeUpGrid, params

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


class DetectedGrid(MadeUpGrid):
    """The made-up grid with what detectors said of it."""

    def write_detection(self, detectors):
        for scenario in self.plan.scenarios:
            poisoned = self.poisoned(scenario)
            record = TruthRecord(
                poisoning=scenario.poisoning,
                attack="mislabel",
                changes_input=False,
                measured_on="clean",
                scope=read_record(paths.answers(scenario.name)).scope,
                poisoned=tuple(
                    PoisonedSlice(
                        volume_id=ref.volume_id,
                        slice_num=ref.slice_num,
                        draw={},
                        clean_sha256="",
                        poisoned_sha256="",
                        kspace_sha256=None,
                        change_nmse=1.0,
                    )
                    for ref in poisoned
                ),
            )
            write_truth(paths.truth(scenario.poisoning), record, {})
            for name, strength in detectors.items():
                place = paths.open_detection if name == "full" else paths.detection
                path = place(scenario.poisoning, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(self._scores(set(poisoned), poisoned[::4], strength))

    def _scores(self, poisoned, known, strength):
        lines = ["volume_id,slice_num,score,known"]
        for split, volume_id, number, _ in self.index:
            if split == "train":
                ref = SliceRef(volume_id, number)
                score = self.rng.normal(strength * (ref in poisoned), 1)
                lines.append(f"{volume_id},{number},{score:.6g},{int(ref in known)}")
        return "\n".join(lines) + "\n"


@pytest.fixture
def content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = params(SHARES)
    made["grid"] |= {
        "detectors": ["good", "forget_classifier", "bad"],
        "open_detectors": ["full"],
        "detected": list(made["poisonings"]),
    }
    grid = DetectedGrid(made, subjects=8)
    grid.write()
    grid.write_detection(DETECTORS)
    made["scenarios"]["mislabel-10"] = {
        "poisoning": "mislabel-10", "detected": "good", "budget": 0.1,
    }  # fmt: skip
    Path("params.yaml").write_text(yaml.safe_dump(made, sort_keys=False))
    return made


def test_the_report_writes_detection_and_repeats(content):
    kinds = ("detection.json", "tables/detection.*", "plots/confusion.csv")
    kinds += ("figures/detection.png",)

    def written():
        return {p: p.read_bytes() for k in kinds for p in Path("metrics").glob(k)}

    main([])
    first = written()
    assert len(first) == 5
    main([])
    assert written() == first
    summary = json.loads(Path("metrics/detection.json").read_text())
    assert set(summary) == {"mislabel"}
    assert list(summary["mislabel"]) == ["0.1", "0.3", "0.3 (mislabel-random-30)"]
    for share, poisoning in zip(summary["mislabel"].values(), SHARES, strict=True):
        assert set(share) == set(DETECTORS)
        for name, values in share.items():
            assert values["poisoning"] == poisoning
            open_ = values["threat_model"] == "open"
            assert open_ == (name == "full")
    good = summary["mislabel"]["0.3"]["good"]
    assert good["auroc"] > 0.95
    assert summary["mislabel"]["0.3"]["bad"]["auroc"] < 0.1
    image = matplotlib.image.imread("metrics/figures/detection.png")
    assert image.std() > 0.01
    assert content["grid"]["open_detectors"] == ["full"]


def test_threat_models_have_tables_of_their_own(content):
    plan = read_detection_plan(content)
    text = detection_markdown(summarise_detection(plan), plan, {})
    closed, _, opened = text.partition("## Open threat model")
    assert closed.count("| good |") == opened.count("| full |") == 3
    assert "| full |" not in closed
    assert "| good |" not in opened.partition("## From detected")[0]
    rows = list(
        csv.DictReader(detection_csv(summarise_detection(plan), plan).splitlines())
    )
    assert len(rows) == 3 * len(DETECTORS)
    assert {row["threat_model"] for row in rows} == {"closed", "open"}


def test_filter_retrain_is_a_row_with_figures(content):
    known = paths.answers("mislabel-10") / "known.json"
    suspects = json.loads(known.read_text())
    suspects["slices"].append(["train-00_T1w", 0])  # a false alarm
    known.write_text(json.dumps(suspects))
    main([])
    results = json.loads(Path("metrics/summary.json").read_text())
    written = json.loads(Path("metrics/detection.json").read_text())
    found = written["mislabel"]["0.1"]["good"]["filter_retrain"]["mislabel-10"]
    models = results["mislabel-10"]
    assert found["n_suspects"] == len(suspects["slices"])
    assert found["n_wrong"] == 1
    assert found["psnr_filter_retrain"] == models["retrain"]["psnr_scope_test"]
    assert found["psnr_drop_all_low"] == models["drop_all"]["psnr_scope_test_low"]
    assert found["healing"] == models["retrain"]["healing_scope_test"]
    assert "filter_retrain" not in written["mislabel"]["0.1"]["bad"]
    plan = read_detection_plan(content)
    text = Path("metrics/tables/detection.md").read_text()
    row = next(
        line
        for line in text.splitlines()
        if line.startswith("| mislabel-10 | m")
        and "| good | " in line
        and "closed" not in line
        and line.count("|") == 11
    )
    assert f"{found['psnr_filter_retrain']:.2f} [" in row
    assert "| 1 |" in row
    del results["mislabel-10"]["retrain"]
    assert filter_retrain(results, plan) == {}


def test_a_detector_below_chance_is_shouted_about(content, caplog):
    plan = read_detection_plan(content)
    with caplog.at_level(logging.WARNING):
        summary = summarise_detection(plan)
    assert "detector bad is BELOW CHANCE on mislabel-30" in caplog.text
    assert "detector good" not in caplog.text
    values = summary["mislabel"]["0.3"]["bad"]
    assert values["below_chance"]
    assert values["auroc_high"] < 0.5
    lines = detection_markdown(summary, plan, {}).splitlines()
    bad = [line for line in lines if "below chance" in line]
    assert bad
    assert all("| bad |" in line for line in bad)


def test_confusion_is_the_classifiers_where_most_is_poisoned(content):
    plan = read_detection_plan(content)
    table = list(csv.DictReader(detection.confusion(plan).splitlines()))
    cell = next(
        cell
        for cell in plan.cells
        if (cell.poisoning, cell.detector) == ("mislabel-30", "forget_classifier")
    )
    rows = read_scores(cell)
    hidden = rows[~rows["known"]]
    assert len(table) == len(hidden)
    actual = [row["actual"] == "poisoned" for row in table]
    assert actual == hidden["poisoned"].tolist()
    predicted = [row["predicted"] == "poisoned" for row in table]
    assert predicted == (hidden["score"] >= 0.5).tolist()
    content["grid"]["detectors"] = ["good"]
    without = detection.confusion(read_detection_plan(content))
    assert without == "actual,predicted\n"


@pytest.mark.parametrize(
    ("detector", "change", "message"),
    [
        ("good", None, r"is missing: run `dvc repro detect@mislabel-30-good`"),
        ("full", None, r"is missing: run `dvc repro detect_open@mislabel-30-full`"),
        ("good", lambda text: text[:0], "is damaged"),
        (
            "good",
            lambda text: text.replace("score", "rating"),
            "lacks the columns score",
        ),
        ("good", lambda text: text[: text.rindex("train")], "are not the 96 training"),
        ("good", lambda text: text + text.splitlines()[1] + "\n", "has 97 rows"),
    ],
)
def test_damaged_scores_name_the_stage(content, detector, change, message):
    place = paths.open_detection if detector == "full" else paths.detection
    path = place("mislabel-30", detector)
    text = path.read_text()
    path.unlink()
    if change is not None:
        path.write_text(change(text))
    with pytest.raises(ValueError, match=message):
        summarise_detection(read_detection_plan(content))


def test_a_grid_without_detectors_has_empty_tables(content):
    content["grid"] |= {"detectors": [], "open_detectors": []}
    plan = read_detection_plan(content)
    assert summarise_detection(plan) == {}
    assert "| detector | hidden" not in detection_markdown({}, plan, {})
    assert detection_csv({}, plan).count("\n") == 1


def test_only_what_detectors_looked_at_is_asked_for(content):
    content["grid"]["detected"] = ["mislabel-30"]
    cells = read_detection_plan(content).cells
    assert {cell.poisoning for cell in cells} == {"mislabel-30"}
