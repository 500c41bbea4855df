"""What the report writes of detectors: files, tables, warnings."""

import csv
import json
import logging
from pathlib import Path

import matplotlib.image
import pytest
import yaml

from stages.common import paths
from stages.report import detection
from stages.report.__main__ import main
from stages.report.detection import summarise_detection
from stages.report.detection_rows import read_detection_plan, read_scores
from stages.report.detection_tables import detection_csv, detection_markdown
from stages.report.filter_retrain import filter_retrain
from tests.report.detected_grid import DETECTORS, SHARES, DetectedGrid
from tests.report.made_up import params


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
    section = text.partition("## From detected to forgotten")[2].splitlines()
    row = next(line for line in section if line.startswith("| mislabel-10 |"))
    assert f"{found['psnr_filter_retrain']:.2f} [" in row
    assert "10 % of the training slices" in row
    assert f"| {found['n_suspects']} | 1 |" in row
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
