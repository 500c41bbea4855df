"""The maps: figures, tables and plots, what is kept and what is missing."""

import json
import re
import shutil
from pathlib import Path

import matplotlib.image
import pytest
import yaml

from stages.check import studies
from stages.common import paths
from stages.common.manifest import read_slices
from stages.report import maps
from stages.report.maps_cells import map_cells, mapped, read_maps
from stages.report.maps_store import FIGURES, FOLDER
from stages.report.settings import read_plan
from stages.report.study_digests import Digests, code_digests
from tests.report.made_up import QUALITY, MadeUpGrid, params
from tests.report.study_grid import draw_where_asked, profile_content

SHARES = {"mislabel-10": 0.1, "mislabel-30": 0.3}
MAPS = {
    "known": {"scenarios": list(SHARES), "methods": ["retrain", "finetune", "ssd"]},
    "seeds": {"scenarios": ["mislabel-30"], "methods": ["bad_teacher"]},
}
BASE = ("oracle", "oracle_continue", "drop_all", "none", "continue")


@pytest.fixture(autouse=True)
def grid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = profile_content("maps") | params(SHARES, maps=MAPS)
    content["report"]["bootstrap"]["resamples"] = 100
    grid = MadeUpGrid(content)
    grid.write()
    return grid


@pytest.fixture(scope="module")
def code():
    return code_digests()


@pytest.fixture(autouse=True)
def changed(monkeypatch, code):
    """What DVC would run; there is none here. The code stays as it is."""
    monkeypatch.setattr(maps, "code_digests", lambda: code)
    stages: set[str] = set()
    monkeypatch.setattr(maps, "changed_stages", lambda: stages)
    return stages


@pytest.fixture(autouse=True)
def plots(request, monkeypatch):
    draw_where_asked(request, monkeypatch, maps, "draw_map", "draw_costs")


@pytest.fixture
def drawn():
    """Let the plots be drawn."""


def run():
    maps.main(["--commit", "abc123"])
    return json.loads(FIGURES.read_text())


def needs(capsys):
    maps.main(["--needs"])
    return json.loads(capsys.readouterr().out)


def change_params(change):
    content = yaml.safe_load(Path("params.yaml").read_text())
    change(content)
    Path("params.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def models(result, scenario):
    return set(result.get(scenario, {}))


def test_figures_come_out_as_made_up():
    result = run()
    known = {"retrain", "finetune", "ssd", *BASE}
    assert models(result, "mislabel-10") == known
    assert models(result, "mislabel-30") == known | {"bad_teacher"}
    for model in ("finetune", "ssd", "retrain"):
        figures = result["mislabel-30"][model]
        healed = 1 - QUALITY[model][0]
        for name in ("healing_scope_test", "healing_hidden"):
            assert figures[name] == pytest.approx(healed, abs=0.1), name
        ends = figures["healing_scope_test_low"], figures["healing_scope_test_high"]
        assert ends[0] <= figures["healing_scope_test"] <= ends[1]
        assert figures["commit"] == "abc123"
    # Training has cost 1200 slices; half of the poisoned ones are known.
    path = paths.answers("mislabel-30") / "known.json"
    kept = 1 - len(read_slices(path, made_by="forget")) / (6 * 3 * 4)
    cost = {name: result["mislabel-30"][name]["cost_share"] for name in known}
    assert cost["retrain"] == pytest.approx(1 / kept, rel=1e-4)
    assert cost["finetune"] == pytest.approx(0.1 / kept, rel=1e-4)
    assert cost["none"] == 0
    worst = result["mislabel-30"]["ssd"]["damage_outside_worst_db"]
    assert worst < result["mislabel-30"]["ssd"]["damage_outside_db"] < -2
    ssd = result["mislabel-30"]["ssd"]
    contrast = ssd["damage_vs_continue_contrast_db"]
    assert ssd["damage_outside_worst_db"] <= contrast <= ssd["damage_vs_continue_db"]
    assert ssd["damage_vs_continue_contrast"] != "FLAIR"
    # Made-up likeness to the poison is the same for members and strangers.
    assert 0.3 < result["mislabel-30"]["none"]["membership_auroc"] < 0.7
    assert result["_run"]["missing"] == []


@pytest.mark.usefixtures("drawn")
def test_every_map_is_a_table_and_two_plots():
    run()
    table = (FOLDER / "known.md").read_text()
    assert "| model | mislabel-10 | mislabel-30 |" in table
    assert "bad_teacher" not in table
    assert "Not run yet" not in table
    assert "bad_teacher" in (FOLDER / "seeds.md").read_text()
    for name in MAPS:
        for kind in ("", "_cost"):
            image = matplotlib.image.imread(FOLDER / f"{name}{kind}.png")
            assert image[..., :3].std() > 0.05


def test_what_has_not_run_is_listed_and_the_rest_is_there(changed):
    changed |= {"unlearn@mislabel-30-ssd", "train_continue@mislabel-10"}
    result = run()
    assert models(result, "mislabel-10") == set()
    assert "ssd" not in models(result, "mislabel-30") >= {"finetune", *BASE}
    assert "mislabel-30 ssd" in result["_run"]["missing"]
    assert len(result["_run"]["missing"]) == 8 + 1
    table = (FOLDER / "known.md").read_text()
    assert "\n- ssd not on mislabel-30\n" in table
    assert "\n- no method on mislabel-10\n" in table


@pytest.mark.usefixtures("drawn")
def test_plots_stand_before_anything_has_run(changed):
    changed.add("code")
    result = run()
    assert set(result) == {"_run"}
    assert (FOLDER / "known_cost.png").exists()


def test_a_fresh_clone_keeps_what_is_committed_and_needs_the_rest(changed, capsys):
    changed.add("unlearn@mislabel-30-ssd")
    first = run()
    for folder in ("slices", "twins", "cells"):
        shutil.rmtree(paths.METRICS / folder)
    changed.add("code")
    assert run() == first
    assert needs(capsys) == {
        "mislabel-10": [],
        "mislabel-30": [
            "evaluate_oracle@0",
            "evaluate_oracle_continue",
            "evaluate_drop_all@mislabel-30",
            "evaluate_poisoned@poisoned-mislabel-30",
            "evaluate_poisoned@continue-mislabel-30",
            "evaluate_oracle@1",
            "evaluate_references@mislabel-30",
            "evaluate@mislabel-30-ssd",
        ],
    }


def test_other_oracles_drop_all_figures(capsys):
    run()
    assert not any(needs(capsys).values())
    change_params(lambda content: content["grid"].update(oracles=[0, 1, 2]))
    wanted = needs(capsys)
    assert all("evaluate_oracle@2" in stages for stages in wanted.values())


def test_other_settings_of_a_method_drop_its_figures_alone(capsys, caplog):
    run()
    change_params(lambda content: content["unlearn"]["ssd"].update(alpha=0.7))
    wanted = needs(capsys)
    assert "mislabel-10 ssd, mislabel-30 ssd" in caplog.text
    assert "evaluate@mislabel-10-ssd" in wanted["mislabel-10"]
    assert "evaluate@mislabel-10-finetune" not in wanted["mislabel-10"]


def test_other_known_slices_drop_a_scenario_and_another_training_all(capsys):
    run()
    change_params(lambda content: content["scenarios"]["mislabel-10"].update(known=1))
    wanted = needs(capsys)
    assert wanted["mislabel-30"] == []
    assert "evaluate@mislabel-10-ssd" in wanted["mislabel-10"]
    change_params(lambda content: content["train"].update(epochs=3))
    assert all(needs(capsys).values())


def test_without_its_drop_all_a_scenario_is_measured_anew(capsys):
    run()
    change_params(lambda content: content["grid"].update(drop_all=["mislabel-30"]))
    wanted = needs(capsys)
    assert wanted["mislabel-30"] == []
    assert "evaluate@mislabel-10-ssd" in wanted["mislabel-10"]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda text: text[:99], "is damaged"),
        (lambda text: text.replace("gradient_steps", "steps"), "'gradient_steps' of"),
        (lambda _: '{"mislabel-30": 3}', "mislabel-30 holds 3, no mapping"),
        (lambda _: '{"a": {"b": NaN}}', "NaN is no JSON"),
    ],
)
def test_damaged_figures_are_named(damage, message, caplog):
    run()
    FIGURES.write_text(damage(FIGURES.read_text()))
    with pytest.raises(SystemExit) as stop:
        maps.main(["--needs"])
    assert stop.value.code == 2
    assert message in caplog.text
    assert str(FIGURES) in caplog.text


def test_figures_of_older_code_may_lack_what_is_measured_since(caplog):
    before = run()
    text = FIGURES.read_text().replace("gradient_steps", "steps")
    FIGURES.write_text(re.sub('"digest": "[0-9a-f]+"', '"digest": "older"', text))
    with caplog.at_level("WARNING"):
        maps.main(["--needs"])
    assert "committed figures are out of date" in caplog.text
    assert run() == before


def test_the_study_knows_every_map_of_its_profile():
    whole = profile_content("maps")
    assert set(studies.MAPS) == set(whole["maps"])
    for row in whole["maps"].values():
        assert set(row["scenarios"]) <= set(whole["scenarios"])


def test_what_was_found_hangs_on_its_detector(code):
    whole = profile_content("maps")
    plan, read = read_plan(whole), read_maps(whole)
    found = next(s for s in mapped(read, plan) if s.name == "shading-30-found")
    drawn = next(s for s in mapped(read, plan) if s.name == "shading-30")

    def cells(scenario, detector, code):
        digests = Digests(whole, code)
        return map_cells(scenario, plan.oracles, digests, detector=detector)

    detector = whole["scenarios"]["shading-30-found"]["detected"]
    before = cells(found, detector, code)
    stage = f"detect@shading-30-{detector}"
    assert all(stage in cell.through for cell in before)
    assert not any(stage in cell.through for cell in cells(drawn, None, code))
    edited = {**code, f"detect/{detector}": "edited"}
    after = cells(found, detector, edited)
    assert not {cell.digest for cell in before} & {cell.digest for cell in after}
    assert cells(drawn, None, edited) == cells(drawn, None, code)


def test_the_held_out_attack_is_in_its_own_map_alone():
    held_out = {"attack": "artefact", "scope": {"contrast": "T2w"}}
    for kind in ("default", "maps", "potency"):
        whole = profile_content(kind)
        rows = whole["poisonings"].items()
        found = {
            name
            for name, row in rows
            if {key: row[key] for key in held_out} == held_out
        }
        scenarios = {
            key for key, row in whole["scenarios"].items() if row["poisoning"] in found
        }
        assert bool(scenarios) == (kind == "maps")
        assert not scenarios & set(whole["tune"]["scenarios"])
        for key, row in whole["maps"].items():
            assert bool(scenarios & set(row["scenarios"])) == (key == "held_out")
