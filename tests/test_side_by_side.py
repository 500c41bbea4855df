"""`make repro`: several cells at a time, and the same results as DVC alone."""

import pytest

from tests.smoke_project import stages_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_side_by_side_writes_what_dvc_alone_writes(project):
    for name in ("unlearn@mislabel-30-finetune", "evaluate@mislabel-30-finetune"):
        log = project.dvc("repro", "--force", "--single-item", name)
        assert stages_run(log) == {name}
    changed = project.run("git", "status", "--porcelain").splitlines()
    assert [line for line in changed if "metrics/timing" not in line] == []
    assert changed  # it has run


def test_an_edit_runs_its_cells_alone_side_by_side(project):
    project.change(lambda p: p["unlearn"]["ssd"].update(alpha=0.2))
    log = project.side_by_side()
    assert stages_run(log) == {"code", "check", "report"} | {
        f"{stage}@{scenario}-ssd"
        for stage in ("unlearn", "evaluate")
        for scenario in ("mislabel-30", "trigger-found")
    }
    assert project.changed() == set()
