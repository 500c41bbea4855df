"""The potency study: its figures, its table and plot, and what has not run yet."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from stages.common import paths
from stages.report import potency
from stages.report.potency import FOLDER, RESULT, main, scope_of
from tests.report.made_up import MadeUpGrid, params

SHARES = {"mislabel-10": 0.1, "mislabel-30": 0.3, "mislabel-random-30": 0.3}
DAMAGE = 12 * 0.3  # what MadeUpGrid takes from the poisoned model in the scope, dB


@pytest.fixture
def grid(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid = MadeUpGrid(params(SHARES))
    grid.write()
    for scenario in grid.plan.scenarios:
        shutil.copytree(paths.answers(scenario.name), paths.truth(scenario.poisoning))
    return grid


@pytest.fixture(autouse=True)
def stale(monkeypatch):
    """There is no DVC here: what has no rows has not run."""

    def without_rows(names):
        return {n for n in names if not paths.twin_rows(f"poisoned/{n}").exists()}

    monkeypatch.setattr(potency, "stale_poisonings", without_rows)


def run():
    main(["--commit", "abc123"])
    return json.loads(RESULT.read_text())


@pytest.mark.usefixtures("grid")
def test_figures_come_out_as_made_up():
    result = run()
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
    assert set(result["mislabel"]) == {"contrast FLAIR", "all"}
    assert result["_run"]["commit"] == "abc123"
    assert result["_run"]["missing"] == []


@pytest.mark.usefixtures("grid")
def test_what_has_not_run_is_listed_and_the_rest_is_there():
    paths.twin_rows("poisoned/mislabel-10").unlink()
    result = run()
    assert result["_run"]["missing"] == ["mislabel-10"]
    assert set(result["mislabel"]["contrast FLAIR"]) == {"0.3"}
    assert "Not run yet: mislabel-10." in (FOLDER / "potency.md").read_text()


def test_two_poisonings_of_one_share_are_both_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid = MadeUpGrid(params({"mislabel-30": 0.3, "mislabel-b": 0.3}))
    grid.write()
    for scenario in grid.plan.scenarios:
        shutil.copytree(paths.answers(scenario.name), paths.truth(scenario.poisoning))
    shares = run()["mislabel"]["contrast FLAIR"]
    assert set(shares) == {"0.3", "0.3 (mislabel-b)"}


@pytest.mark.usefixtures("grid")
def test_table_and_plot():
    run()
    table = (FOLDER / "potency.md").read_text()
    row = next(
        line for line in table.splitlines() if "| contrast FLAIR | 0.3 |" in line
    )
    assert row.count("[") >= 4
    assert (FOLDER / "potency.png").read_bytes().startswith(b"\x89PNG")
    again = (FOLDER / "potency.png").read_bytes()
    run()
    assert (FOLDER / "potency.png").read_bytes() == again


@pytest.mark.usefixtures("grid")
def test_damaged_rows_are_named(caplog):
    path = paths.twin_rows("poisoned/mislabel-30")
    pd.read_csv(path).drop(columns="input").to_csv(path, index=False)
    with pytest.raises(SystemExit) as stop:
        main(["--commit", "abc123"])
    assert stop.value.code == 2
    assert "mislabel-30.csv lacks the columns input" in caplog.text
    assert not RESULT.exists()


def test_scopes_have_names():
    assert scope_of({"scope": {}}) == "all"
    assert scope_of({"scope": {"contrast": "T2w", "scanner": None}}) == "contrast T2w"
    assert scope_of({"scope": {"subjects": ["a", "b"]}}) == "subjects 2"


PIPELINE = """\
stages:
  evaluate_oracle:
    foreach: [0, 1]
    do: {cmd: "echo ${item} > o${item}", deps: [seed], outs: ["o${item}"]}
  poison:
    foreach: [a, b]
    do: {cmd: "cp seed p${item}", deps: [seed], params: ["${item}"], outs: ["p${item}"]}
  train_poisoned:
    foreach: [a, b]
    do: {cmd: "cp p${item} t${item}", deps: ["p${item}"], outs: ["t${item}"]}
  evaluate_references:
    foreach: [a, b]
    do: {cmd: "cp p${item} r${item}", deps: ["p${item}"], outs: ["r${item}"]}
  evaluate_poisoned:
    matrix: {kind: [poisoned], poisoning: [a, b]}
    cmd: cp t${item.poisoning} e${item.poisoning}
    deps: ["t${item.poisoning}"]
    outs: ["e${item.poisoning}"]
"""


def test_rows_of_other_settings_do_not_count(tmp_path, monkeypatch, request):
    """The study's copy keeps old results: DVC says of which settings they are."""
    from dvc.repo import Repo

    request.getfixturevalue("stale")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "1")
    Repo.init(str(tmp_path), no_scm=True).close()
    Path("dvc.yaml").write_text(PIPELINE)
    Path("params.yaml").write_text("a: 1\nb: 1\n")
    Path("seed").write_text("1")
    assert potency.stale_poisonings(["a", "b"]) == {"a", "b"}
    with Repo(str(tmp_path)) as repo:
        repo.reproduce()
    assert potency.stale_poisonings(["a", "b"]) == set()
    Path("params.yaml").write_text("a: 2\nb: 1\n")
    assert potency.stale_poisonings(["a", "b"]) == {"a"}
    Path("o1").unlink()
    assert potency.stale_poisonings(["a", "b"]) == {"a", "b"}
