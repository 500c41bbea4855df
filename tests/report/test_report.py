"""The whole report on a made-up grid."""

import csv
import json
from pathlib import Path

import h5py
import pandas as pd
import pytest
import yaml

from stages.common import paths
from stages.common.params import ParamsError
from stages.report import plots, tables
from stages.report.__main__ import main
from stages.report.settings import read_plan
from stages.report.summary import summarise
from tests.report.made_up import MadeUpGrid, params

SHARES = {"mislabel-01": 0.001, "mislabel-30": 0.3}
FIGURES = ("heatmap", "healing_by_share", "convergence", "panels_mislabel-30")


@pytest.fixture
def content(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = params(SHARES)
    MadeUpGrid(made).write()
    return made


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Plan and summary of the grid as made up; nobody changes it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("made"))
        content = params(SHARES)
        MadeUpGrid(content).write()
        plan = read_plan(content)
        return plan, summarise(plan)


@pytest.fixture
def summary(made):
    return made[1]


def outputs():
    kinds = ("summary.json", "headline.json", "tables/*", "plots/*", "figures/*")
    files = [file for kind in kinds for file in Path("metrics").glob(kind)]
    return {file: file.read_bytes() for file in sorted(files)}


@pytest.mark.usefixtures("content")
def test_report_writes_everything_and_repeats():
    main([])
    first = outputs()
    assert {f"metrics/figures/{name}.png" for name in FIGURES} <= set(map(str, first))
    main([])
    assert outputs() == first


def test_summary_holds_the_grid(made):
    plan, summary = made
    methods = plan.scenarios[0].methods
    controls = ["oracle", "oracle_continue", "none", "continue"]
    assert set(summary) == {*SHARES, "_run"}
    assert set(summary["mislabel-01"]) == {*controls, *methods}
    assert set(summary["mislabel-30"]) == {*controls, "drop_all", *methods}


def test_every_null_has_its_reason(summary):
    for scenario in SHARES:
        for values in summary[scenario].values():
            for name, value in values.items():
                if value is None:
                    assert values[f"{name}_reason"], name


def test_healing_of_the_agreement_is_the_oracles_or_nothing(summary):
    models = summary["mislabel-30"]
    assert models["oracle"]["healing_agreement_scope_test"] == pytest.approx(1)
    assert models["none"]["healing_agreement_scope_test"] == 0
    # Agreement 0.05 + 0.4 * inside * share; the oracle's is 0.06.
    left = models["none"]["agreement_scope_test"] - 0.06
    gone = models["none"]["agreement_scope_test"] - (0.05 + 0.4 * 0.5 * 0.3)
    found = models["finetune"]["healing_agreement_scope_test"]
    assert found == pytest.approx(gone / left, abs=0.1)
    clean = summary["mislabel-01"]["none"]
    assert clean["healing_agreement_scope_test"] is None
    assert "agreement" in clean["healing_agreement_scope_test_reason"]


def test_measures_come_out_as_made_up(summary):
    models = summary["mislabel-30"]
    damage = models["none"]["behind_oracle_scope_test_db"]
    assert damage == pytest.approx(12 * 0.3, abs=0.05)
    assert models["none"]["healing_scope_test"] == 0
    assert models["oracle"]["healing_scope_test"] == 1
    assert models["finetune"]["healing_scope_test"] == pytest.approx(0.5, abs=0.02)
    assert models["finetune"]["healing_hidden"] == pytest.approx(0.5, abs=0.02)
    expected = 0.5 / 0.7
    drop = models["finetune"]["healing_drop_scope_test"]
    assert drop == pytest.approx(expected, abs=0.02)
    assert models["ssd"]["damage_outside_db"] == pytest.approx(-3.33, abs=0.05)
    assert models["finetune"]["cost_share"] == pytest.approx(0.1)
    assert models["none"]["cost_share"] == 0
    assert models["none"]["agreement_scope_test"] == pytest.approx(0.17, abs=0.01)


def test_small_poison_has_no_healing(summary):
    values = summary["mislabel-01"]["finetune"]
    assert values["healing_scope_test"] is None
    assert values["healing_scope_test_reason"] == "no measurable damage"
    assert values["healing_drop_val_reason"].startswith("drop_all is not in the grid")


def test_intervals_hold_their_estimates(summary):
    for scenario in SHARES:
        for values in summary[scenario].values():
            for name, low in values.items():
                if name.endswith("_low") and low is not None:
                    value = values[name.removesuffix("_low")]
                    high = values[name.replace("_low", "_high")]
                    assert low - 1e-9 <= value <= high + 1e-9, name


def test_run_says_whether_it_converged(summary):
    run = summary["_run"]
    assert run["profile"] == "made-up"
    assert run["convergence_gain_db"] == pytest.approx(0.04, abs=0.03)
    assert run["converged"] is True


def test_headline_is_flat_and_short(made):
    plan, summary = made
    headline = tables.headline(summary, plan)
    best = summary["mislabel-30"]["finetune"]["healing_scope_test"]
    assert headline["healing_mislabel-30"] == best
    assert not any(isinstance(value, dict) for value in headline.values())
    assert len(headline) == 2 + 2 * len(SHARES)


def test_tables_have_a_row_per_model(made):
    plan, summary = made
    text = tables.markdown(summary, plan)
    assert text.count("| gradient_ascent |") == 2
    assert "no measurable damage" in text
    rows = list(csv.DictReader(tables.as_csv(summary, plan).splitlines()))
    assert len(rows) == 9 + 10


def test_plots_have_a_line_per_series_and_no_empty_cell(made):
    plan, summary = made
    curve = pd.DataFrame(
        {"epoch": [1, 2], "val_loss": [None, 0.2], "val_psnr": [None, 30.0]}
    ).assign(val_ssim=[None, 0.9])
    files = plots.series(summary, {"poisoned/mislabel-30": curve}, plan)
    assert files["validation.csv"].splitlines() == [
        "epoch,val_psnr,series",
        "2,30.0,poisoned/mislabel-30",
    ]
    rows = list(csv.DictReader(files["healing.csv"].splitlines()))
    drawn = [row for row in rows if row["series"] == "finetune"]
    # 1 % does no measurable damage: there is nothing to heal and nothing to draw.
    assert [float(row["share"]) for row in drawn] == [0.3]
    assert float(drawn[0]["healing"]) == pytest.approx(
        summary["mislabel-30"]["finetune"]["healing_scope_test"]
    )


def test_removed_scenario_is_ignored(content):
    for part in ("scenarios", "poisonings"):
        del content[part]["mislabel-01"]
    Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    main([])
    summary = json.loads(Path("metrics/summary.json").read_text())
    assert set(summary) == {"mislabel-30", "_run"}
    assert "mislabel-01" not in Path("metrics/tables/results.md").read_text()


@pytest.mark.parametrize(
    ("cell", "stage"),
    [
        ("oracle-1", "evaluate_oracle@1"),
        ("oracle_continue", "evaluate_oracle_continue"),
        ("poisoned/mislabel-30", "evaluate_poisoned@poisoned-mislabel-30"),
        ("drop_all/mislabel-30", "evaluate_drop_all@mislabel-30"),
        ("unlearned/mislabel-30/ssd", "evaluate@mislabel-30-ssd"),
    ],
)
def test_missing_rows_name_the_cell_and_the_stage(content, cell, stage):
    paths.slice_rows(cell).unlink()
    with pytest.raises(ValueError, match=f"'{cell}': run `dvc repro {stage}`"):
        summarise(read_plan(content))


def test_missing_references_are_named(content):
    paths.twin_rows("references/mislabel-30").unlink()
    with pytest.raises(ValueError, match="dvc repro evaluate_references@mislabel-30`"):
        summarise(read_plan(content))


def test_a_lost_row_is_missed(content):
    path = paths.twin_rows("unlearned/mislabel-30/ssd")
    path.write_text("\n".join(path.read_text().splitlines()[:-1]) + "\n")
    with pytest.raises(ValueError, match=r"ssd' has no row of .*1 missing"):
        summarise(read_plan(content))


def test_a_lost_column_is_named(content):
    path = paths.slice_rows("oracle-0")
    path.write_text(path.read_text().replace("psnr", "snr", 1))
    with pytest.raises(ValueError, match="lacks the columns psnr"):
        summarise(read_plan(content))


def test_a_missing_cost_is_named(content):
    paths.cell_metrics("poisoned/mislabel-30").write_text("{}")
    with pytest.raises(ValueError, match="no cost of cell 'poisoned/mislabel-30'"):
        summarise(read_plan(content))


@pytest.mark.usefixtures("content")
def test_panels_of_a_cell_without_its_slice_are_an_error(capsys):
    path = paths.panels("unlearned/mislabel-30/ssd")
    with h5py.File(path, "w"):
        pass
    with pytest.raises(SystemExit):
        main([])
    assert str(path) in capsys.readouterr().err


def test_few_subjects_still_make_a_report(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MadeUpGrid(params(SHARES), subjects=2, slices=3).write()
    main([])
    values = json.loads(Path("metrics/summary.json").read_text())["mislabel-30"]["ssd"]
    assert values["psnr_scope_test_low"] is None
    assert values["psnr_scope_test_low_reason"] == "fewer than 5 subjects"
    assert values["healing_scope_test"] is None


def test_wrong_settings_name_the_key():
    wrong = params(SHARES)
    wrong["report"]["score_alpha"] = 2
    with pytest.raises(ParamsError, match=r"report\.score_alpha"):
        read_plan(wrong)
    orphan = params(SHARES)
    del orphan["poisonings"]["mislabel-30"]
    with pytest.raises(ParamsError, match=r"poisonings\.mislabel-30"):
        read_plan(orphan)
