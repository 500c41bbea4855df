"""The potency study: figures, tables and plots, what is kept and what is missing."""

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stages.common import paths
from stages.common.truth import read_record, write_truth
from stages.report import potency
from stages.report.potency import main
from stages.report.potency_store import DETECTION, FOLDER, POTENCY
from stages.report.study_digests import code_digests
from tests.report.study_grid import (
    DETECTORS,
    SHARES,
    StudyGrid,
    content_of,
    draw_where_asked,
)

DAMAGE = 12 * 0.3  # what MadeUpGrid takes from the poisoned model in the scope, dB


@pytest.fixture
def grid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid = StudyGrid(content_of(SHARES))
    grid.write()
    return grid


@pytest.fixture(scope="module")
def code():
    return code_digests()


@pytest.fixture(autouse=True)
def changed(monkeypatch, code):
    """What DVC would run; there is none here. The code stays as it is."""
    monkeypatch.setattr(potency, "code_digests", lambda: code)
    stages: set[str] = set()
    monkeypatch.setattr(potency, "changed_stages", lambda: stages)
    return stages


@pytest.fixture(autouse=True)
def plots(request, monkeypatch):
    draw_where_asked(request, monkeypatch, potency, "draw_plot", "draw_detection")


@pytest.fixture
def drawn():
    """Let the plots be drawn."""


def run():
    main(["--commit", "abc123"])
    return json.loads(POTENCY.read_text()), json.loads(DETECTION.read_text())


def needs(capsys):
    main(["--needs"])
    return json.loads(capsys.readouterr().out)


def change_params(change):
    content = yaml.safe_load(Path("params.yaml").read_text())
    change(content)
    Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


@pytest.mark.usefixtures("grid")
def test_figures_come_out_as_made_up():
    result, detection = run()
    figures = result["mislabel"]["contrast FLAIR"]["0.3"]
    assert figures["poisoning"] == "mislabel-30"
    for name in ("loss_scope_db", "loss_poisoned_db", "loss_scope_val_db"):
        assert figures[name] == pytest.approx(DAMAGE, abs=0.1)
        assert figures[f"{name}_low"] < figures[name] < figures[f"{name}_high"]
    assert figures["loss_outside_db"] == pytest.approx(0.27, abs=0.05)
    less = result["mislabel"]["contrast FLAIR"]["0.1"]["loss_scope_db"]
    assert less == pytest.approx(DAMAGE / 3, abs=0.1)
    assert figures["agreement"] > figures["agreement_oracle"]
    assert figures["agreement_oracle"] == pytest.approx(0.06, abs=0.01)
    assert figures["agreement_zero_filled"] == pytest.approx(0.02)
    assert figures["ssim_poisoned_to_clean"] == pytest.approx(0.7)
    assert figures["commit"] == "abc123"
    assert set(result["mislabel"]) == {"contrast FLAIR", "all"}
    assert result["_run"]["commit"] == "abc123"
    assert result["_run"]["missing"] == detection["_run"]["missing"] == []
    assert set(detection["mislabel"]) == {"0.1", "0.3"}
    found = detection["mislabel"]["0.3"]
    assert found["loss_outlier"]["auroc"] > 0.95 > found["data_consistency"]["auroc"]
    assert found["kspace_consistency"]["threat_model"] == "open"


@pytest.mark.usefixtures("grid")
def test_what_has_not_run_is_listed_and_the_rest_is_there(changed):
    changed |= {"train_poisoned@mislabel-10", "detect@mislabel-30-loss_outlier"}
    result, detection = run()
    assert result["_run"]["missing"] == ["mislabel-10"]
    assert set(result["mislabel"]["contrast FLAIR"]) == {"0.3"}
    assert "Not run yet: mislabel-10." in (FOLDER / "potency.md").read_text()
    assert set(detection["mislabel"]) == {"0.3"}
    assert set(detection["mislabel"]["0.3"]) == set(DETECTORS) - {"loss_outlier"}
    missing = [f"mislabel-10 {name}" for name in DETECTORS]
    assert detection["_run"]["missing"] == [*missing, "mislabel-30 loss_outlier"]
    table = (FOLDER / "detection.md").read_text()
    assert "\n- no detector on mislabel-10\n" in table
    assert "\n- loss_outlier not on mislabel-30\n" in table


@pytest.mark.parametrize(
    ("stage", "potency_left", "detections_left"),
    [
        ("code", 0, 0),
        ("download@icbm152", 0, 0),
        ("evaluate_oracle@1", 0, 6),
        ("train_oracle_continue", 0, 6),
        ("forget_tips@mislabel-10", 3, 3),
        ("evaluate_poisoned@poisoned-mislabel-10", 2, 3),
        ("train_continue@mislabel-10", 3, 6),
    ],
)
@pytest.mark.usefixtures("grid")
def test_a_changed_stage_takes_what_depends_on_it(
    stage, potency_left, detections_left, changed
):
    changed.add(stage)
    result, detection = run()
    assert 3 - len(result["_run"]["missing"]) == potency_left
    assert 6 - len(detection["_run"]["missing"]) == detections_left


@pytest.mark.usefixtures("grid")
def test_a_fresh_clone_keeps_what_is_committed_and_needs_the_rest(changed, capsys):
    changed |= {"poison@mislabel-10", "detect@mislabel-30-loss_outlier"}
    first = run()
    for folder in ("slices", "twins", "detection", "detection_open"):
        shutil.rmtree(paths.METRICS / folder)
    changed.add("code")
    assert run() == first
    wanted = needs(capsys)
    assert list(wanted) == list(SHARES)
    assert wanted["mislabel-random-30"] == []
    scores = "evaluate_poisoned@poisoned-mislabel-30"
    assert wanted["mislabel-30"] == [scores, "detect@mislabel-30-loss_outlier"]
    assert wanted["mislabel-10"] == [
        "evaluate_oracle@0",
        "evaluate_oracle@1",
        "evaluate_references@mislabel-10",
        "evaluate_poisoned@poisoned-mislabel-10",
        "detect@mislabel-10-loss_outlier",
        "detect@mislabel-10-data_consistency",
        "detect_open@mislabel-10-kspace_consistency",
    ]


@pytest.mark.usefixtures("grid")
def test_figures_of_other_settings_are_told_and_dropped(changed, capsys, caplog):
    run()
    changed.add("code")

    def other_row(content):
        content["poisonings"]["mislabel-10"]["settings"]["severity"] = 0.5

    change_params(other_row)
    with caplog.at_level("WARNING"):
        wanted = needs(capsys)
    assert "4 committed figures are out of date" in caplog.text
    told = caplog.text.rstrip().rpartition("have changed: ")[2].split(", ")
    assert set(told) == {"mislabel-10", *(f"mislabel-10 {name}" for name in DETECTORS)}
    assert [name for name in wanted if wanted[name]] == ["mislabel-10"]
    result, _ = run()
    assert result["_run"]["missing"] == ["mislabel-10"]
    assert set(result["mislabel"]["contrast FLAIR"]) == {"0.3"}


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        (POTENCY, lambda _: "{", r"potency\.json is damaged \(.*restore it from git"),
        (
            POTENCY,
            lambda text: text.replace('"severity": null', '"severity": NaN'),
            "damaged \\(NaN is no JSON\\): restore it",
        ),
        (POTENCY, lambda _: "[]", "the file holds \\[\\], no mapping"),
        (
            POTENCY,
            lambda text: text.replace('"loss_scope_db":', '"lost":'),
            "'loss_scope_db' of mislabel > contrast FLAIR > 0.1 is missing",
        ),
        (
            POTENCY,
            lambda text: text.replace('"n_poisoned": ', '"n_poisoned": "many", "n": '),
            "'n_poisoned' of mislabel > contrast FLAIR > 0.1 is 'many'",
        ),
        (
            POTENCY,
            lambda text: text.replace('"mislabel-10"', '"mislabel-30"'),
            "has mislabel-30 twice",
        ),
        (
            DETECTION,
            lambda text: text.replace('"auroc":', '"auc":'),
            r"studies/detection\.json is damaged: 'auroc' of mislabel > 0.1",
        ),
    ],
)
@pytest.mark.usefixtures("grid")
def test_damaged_results_are_named(path, change, message, caplog):
    run()
    path.write_text(change(path.read_text()))
    for arguments in (["--needs"], ["--commit", "abc123"]):
        caplog.clear()
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        assert len(caplog.records) == 1
        assert re.search(message, caplog.text)


@pytest.mark.usefixtures("grid")
def test_figures_of_older_code_may_lack_what_is_measured_since():
    run()
    text = DETECTION.read_text().replace('"auroc":', '"auc":')
    DETECTION.write_text(re.sub('"digest": "[0-9a-f]+"', '"digest": "older"', text))
    assert run()[1]["_run"]["missing"] == []
    assert '"auc"' not in DETECTION.read_text()


@pytest.mark.usefixtures("grid", "drawn")
def test_tables_and_plots(changed):
    changed.add("detect@mislabel-10-loss_outlier")
    run()
    table = (FOLDER / "potency.md").read_text()
    row = next(
        line for line in table.splitlines() if "| contrast FLAIR | 0.3 |" in line
    )
    assert row.count("[") >= 4
    page = (FOLDER / "detection.md").read_text()
    closed, heading, opened = page.partition("## Open threat model")
    assert heading
    for part, last in ((closed, "data_consistency"), (opened, "kspace_consistency")):
        table = part.splitlines()
        head = next(line for line in table if line.startswith("| attack |"))
        assert head.endswith(f"| {last} |")
        rows = [line for line in table if line.startswith("| mislabel |")]
        assert [row.split(" | ")[2] for row in rows] == ["0.1", "0.3"]
        *counts, _, figures = rows[1].split(" | ")[3:7]
        assert all(int(count) for count in counts)
        assert figures.count("[") >= 2
        assert "; in scope 0." in rows[1] or "; in scope 1." in rows[1]
    assert "kspace_consistency" not in closed
    assert "| – |" in closed
    assert "| – |" not in opened
    pictures = [FOLDER / f"{name}.png" for name in ("potency", "detection")]
    first = [path.read_bytes() for path in pictures]
    assert all(image.startswith(b"\x89PNG") for image in first)
    run()
    assert [path.read_bytes() for path in pictures] == first


@pytest.mark.usefixtures("grid")
def test_damaged_rows_are_named(caplog):
    path = paths.twin_rows("poisoned/mislabel-30")
    pd.read_csv(path).drop(columns="input").to_csv(path, index=False)
    with pytest.raises(SystemExit) as stop:
        main(["--commit", "abc123"])
    assert stop.value.code == 2
    assert "mislabel-30.csv lacks the columns input" in caplog.text
    assert not POTENCY.exists()


@pytest.mark.usefixtures("grid")
def test_a_scope_without_unseen_slices_is_told_as_such():
    """A group of training subjects: nothing is lost where nobody looks."""
    folder = paths.truth("mislabel-30")
    record = read_record(folder)
    seen = {"train": record.scope["train"], "val": (), "test": ()}
    shutil.rmtree(folder)
    write_truth(folder, record.model_copy(update={"scope": seen}), {})

    def one_subject(content):
        content["poisonings"]["mislabel-30"]["scope"] = {"subjects": ["train-00"]}

    change_params(one_subject)
    run()
    result, _ = run()
    figures = result["mislabel"]["subjects 1"]["0.3"]
    assert figures["loss_scope_db"] is None
    assert figures["loss_scope_db_reason"] == "no slices in this split"
    assert figures["loss_poisoned_db"] == pytest.approx(DAMAGE, abs=0.1)
    assert "| mislabel | subjects 1 | 0.3 |" in (FOLDER / "potency.md").read_text()
