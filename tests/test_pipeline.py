"""DVC as users use it, on the smoke profile in a temporary copy of the project."""

import json
import math
import re

import pytest

from stages.common import paths
from tests.smoke_project import (
    Project,
    kill_group,
    stages_run,
    wait_until,
)

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SCENARIOS = ("mislabel-30", "trigger-found")
SSD = {f"unlearn@{scenario}-ssd" for scenario in SCENARIOS}
SSD_FOLLOWERS = {name.replace("unlearn", "evaluate") for name in SSD} | {"report"}
METHODS = {"retrain", "finetune", "ssd", "bad_teacher", "gradient_ascent", "mend"}
MODELS = {"none", "continue", "oracle", "oracle_continue"} | METHODS


def test_every_scenario_and_model_has_numbers_or_a_reason(finished):
    summary = finished.read("metrics/summary.json")
    for scenario in SCENARIOS:
        drop_all = {"drop_all"} if scenario == "mislabel-30" else set()
        assert set(summary[scenario]) == MODELS | drop_all
        for model, measures in summary[scenario].items():
            assert unexplained(measures) == [], (scenario, model)
            assert math.isfinite(measures["psnr_scope_test"])
            assert 0 < measures["ssim_test"] < 1
    row = dict(summary["mislabel-30"]["ssd"])
    row |= {"psnr_val": None, "ssim_val": math.nan, "nmse_val": None}
    row["nmse_val_reason"] = "planted"
    assert unexplained(row) == ["psnr_val", "ssim_val"]


def unexplained(measures: dict) -> list[str]:
    """Measures that are neither a finite number nor null with a reason."""
    return [
        name
        for name, value in measures.items()
        if not name.endswith("_reason")
        and not (measures.get(f"{name}_reason") if value is None else finite(value))
    ]


def finite(value: object) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def test_a_second_repro_runs_nothing(finished):
    log = finished.dvc("repro")
    assert stages_run(log) == set()
    assert "up to date" in log
    assert finished.run("git", "status", "--porcelain") == ""


METHOD = """
from stages.common.params import Settings


class Params(Settings):
    scale: float


def unlearn(model, case, params):
    return model
"""


def test_a_new_method_runs_its_cells_alone(project):
    (project.root / "stages/unlearn/nothing.py").write_text(METHOD)

    def add(params: dict) -> None:
        params["unlearn"]["nothing"] = {"scale": 1.0}
        params["grid"]["methods"].append("nothing")

    project.change(add)
    new = {name.replace("-ssd", "-nothing") for name in SSD | SSD_FOLLOWERS}
    assert project.affected() == {"check", "report"} | new
    cell = {"unlearn@mislabel-30-nothing", "evaluate@mislabel-30-nothing"}
    log = project.dvc("repro", "evaluate@mislabel-30-nothing")
    assert stages_run(log) == {"check"} | cell


def test_an_edit_of_a_method_runs_its_cells_alone(project):
    with (project.root / "stages/unlearn/ssd.py").open("a") as file:
        file.write("# What it is about.\n")
    assert stages_run(project.dvc("repro")) == {"code"}
    with (project.root / "stages/unlearn/ssd.py").open("a") as file:
        file.write("SAME = 1  # the same numbers: nothing follows from them\n")
    assert stages_run(project.dvc("repro")) == {"code", "check"} | SSD
    with (project.root / "stages/unlearn/README.md").open("a") as file:
        file.write("No code.\n")
    assert stages_run(project.dvc("repro")) == set()


def test_dvc_shows_metrics_and_dag(finished):
    table = json.loads(finished.dvc("metrics", "show", "--json"))
    shown = table[""]["data"]
    cells = {path for path in shown if path.startswith("metrics/cells/")}
    assert len(cells) == 2 + 1 + 2 * 2 + 1 + 2 * len(METHODS)
    assert not any(shown[path].get("error") for path in shown)
    assert "psnr_test" in shown["metrics/cells/oracle-0.json"]["data"]
    dag = finished.dvc("dag", "--dot")
    assert '"unlearn@mislabel-30-ssd" -> "evaluate@mislabel-30-ssd"' in dag


def test_a_methods_parameter_reruns_its_cells_alone(project):
    cell = {"unlearn@mislabel-30-ssd", "evaluate@mislabel-30-ssd"}
    setting = "unlearn.ssd.alpha=0.2"
    log = project.dvc("exp", "run", "-S", setting, "evaluate@mislabel-30-ssd")
    assert stages_run(log) == {"code", "check"} | cell
    # The others wait for who asks for them; test_side_by_side runs them all.
    left = project.changed()
    assert left | project.downstream(left) == (SSD | SSD_FOLLOWERS) - cell
    rows = shown(project)
    assert [(row["alpha"], row["metrics"]) for row in rows] == [(0.2, True)]


def shown(project: Project) -> list[dict]:
    """Experiments in `dvc exp show`, without workspace and baseline."""
    table = json.loads(project.dvc("exp", "show", "--json"))
    return [
        {
            "name": experiment["name"],
            "state": (experiment.get("executor") or {}).get("state"),
            "failed": bool(revision.get("error")),
            "alpha": params(revision)["unlearn"]["ssd"]["alpha"],
            "score_alpha": params(revision)["report"]["score_alpha"],
            "metrics": bool((revision.get("data") or {}).get("metrics")),
        }
        for baseline in table
        for experiment in baseline.get("experiments") or []
        for revision in experiment["revs"][:1]
    ]


def params(revision: dict) -> dict:
    return revision["data"]["params"]["params.yaml"]["data"]


def test_two_queued_experiments_run_side_by_side(project):
    wanted = {0.3, 0.7}
    for value in wanted:
        project.dvc("exp", "run", "--queue", "-S", f"report.score_alpha={value}")
    project.dvc("queue", "start", "-j", "2")
    try:
        # Seldom: to ask takes seconds of a core, which the experiments lack meanwhile.
        wait_until(lambda: ended(project) == len(wanted), seconds=300, pause=8)
        status = project.dvc("queue", "status")
        assert status.count("Success") == len(wanted), status
        wait_until(lambda: wanted <= measured(project), seconds=60, pause=3)
    finally:
        project.dvc("queue", "stop", "--kill", code=None)


def measured(project: Project) -> set[float]:
    """`report.score_alpha` of each experiment that has metrics."""
    return {row["score_alpha"] for row in shown(project) if row["metrics"]}


def ended(project: Project) -> int:
    """How many queued experiments have ended, well or not."""
    status = project.dvc("queue", "status")
    return status.count("Success") + status.count("Failed")


def test_a_known_share_leaves_poisoning_and_training_alone(project):
    project.change(lambda p: p["scenarios"]["mislabel-30"].update(known=0.9))
    assert project.changed() == {"code", "check"}
    changed = project.affected()
    assert changed == {"check", "forget@mislabel-30", "report"}
    after = changed | project.downstream(changed - {"check"})
    assert {name for name in after if name.startswith(("poison", "train"))} == set()
    assert {name for name in after if name.startswith("unlearn")} == {
        f"unlearn@mislabel-30-{method}" for method in METHODS
    }


def test_a_new_scenario_runs_its_cells_alone(project):
    row = {"poisoning": "mislabel-30", "known": 0.7, "seed": 3}
    project.change(lambda p: p["scenarios"].update({"new": row}))
    new = {
        f"{stage}@new-{name}" for stage in ("unlearn", "evaluate") for name in METHODS
    }
    assert project.affected() == {"check", "report", "forget@new"} | new
    log = project.dvc("repro", "evaluate@new-ssd")
    cells = {"forget@new", "unlearn@new-ssd", "evaluate@new-ssd"}
    assert stages_run(log) == {"check"} | cells


def test_a_removed_scenario_leaves_the_report(project):
    assert "trigger-found" in (project.root / "metrics/summary.json").read_text()
    project.change(lambda p: p["scenarios"].pop("trigger-found"))
    assert stages_run(project.dvc("repro")) == {"code", "check", "report"}
    for name in ("summary.json", "headline.json", "tables/results.csv"):
        text = (project.root / "metrics" / name).read_text()
        assert "mislabel-30" in text
        assert "trigger-found" not in text
    figures = {path.name for path in (project.root / "metrics/figures").iterdir()}
    assert "panels_mislabel-30.png" in figures
    assert "panels_trigger-found.png" not in figures


def test_a_misspelt_parameter_stops_before_any_work(project):
    project.change(lambda p: p["train"].update(epohcs=3))
    log = project.dvc("repro", code=None)
    assert stages_run(log) == {"code", "check"}
    assert "'train.epohcs' is not a parameter. Did you mean 'epochs'?" in log


def test_a_truncated_volume_names_file_and_stage(project):
    path = project.root / paths.kspace("train") / "icbm-000_FLAIR.h5"
    content = path.read_bytes()[:5000]
    path.unlink()  # a link into the cache: never write through it
    path.write_bytes(content)
    log = project.run("python", "-m", "stages.train", "--cell", "oracle-0", code=2)
    assert "icbm-000_FLAIR.h5 cannot be read" in log
    assert "`dvc repro --force --single-item synthesize`" in log
    assert "Traceback" not in log
    assert "synthesize@train" in project.changed()


@pytest.fixture
def cleanup(request):
    """`cleanup(process)` ends it and its stages with the test, however that ends."""
    return lambda process: request.addfinalizer(lambda: kill_group(process))


RESULTS = [
    str(path)
    for cell in ("oracle-0", "oracle-1")
    for path in (
        paths.curve(cell),
        paths.slice_rows(cell),
        paths.cell_metrics(cell),
        paths.checkpoint(cell),
    )
]


def test_killed_runs_resume_and_end_as_an_unbroken_one(project, tmp_path, cleanup):
    """First DVC alone is killed, its stage living on; then the whole group."""
    broken, whole = project, project.copy(tmp_path / "whole")
    shorter = (whole.root / RESULTS[0]).read_bytes()
    for one in (broken, whole):
        one.change(lambda p: p["train"].update(epochs=40))
    unbroken = whole.start("repro", "evaluate_oracle", log=tmp_path / "whole.log")
    cleanup(unbroken)

    first = broken.start("repro", "evaluate_oracle@0", log=tmp_path / "first.log")
    cleanup(first)
    wait_until(lambda: states(broken, "oracle-0"), seconds=120)
    (stage,) = broken.children(first.pid, "stages.train")
    stage.suspend()  # so that the next run certainly meets it alive
    first.kill()
    first.wait()
    log = tmp_path / "second.log"
    second = broken.start("repro", "evaluate_oracle@0", log=log)
    cleanup(second)
    waiting = "another process works on oracle-0"
    wait_until(lambda: waiting in log.read_text(), seconds=120)
    stage.resume()
    assert second.wait(timeout=300) == 0
    assert re.search(r"resumed at step (\d+) of \1\b", log.read_text())

    third = broken.start("repro", "evaluate_oracle@1", log=tmp_path / "third.log")
    cleanup(third)
    wait_until(lambda: states(broken, "oracle-1"), seconds=120)
    kill_group(third)
    text = broken.dvc("repro", "evaluate_oracle@1")
    assert "train_oracle@1" in stages_run(text)
    assert "oracle-1: resumed at step" in text

    assert unbroken.wait(timeout=300) == 0
    for name in RESULTS:
        same = (broken.root / name).read_bytes() == (whole.root / name).read_bytes()
        assert same, name
    assert shorter != (whole.root / RESULTS[0]).read_bytes()


def states(project: Project, cell: str) -> list:
    return list((project.root / paths.scratch(cell)).glob("*/fit.pt"))
