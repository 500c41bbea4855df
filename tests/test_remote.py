"""Many machines: a DVC remote hands results on, and nothing is computed twice."""

from pathlib import Path

import pytest

from stages.common import paths
from tests.smoke_project import Project, stages_run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

CELL = "unlearn@mislabel-30-ssd"


@pytest.fixture(scope="module")
def origin(finished, tmp_path_factory) -> Project:
    """A finished project whose data has been pushed to a remote."""
    root = tmp_path_factory.mktemp("machines")
    origin = finished.copy(root / "origin")
    origin.dvc("remote", "add", "--default", "storage", str(root / "remote"))
    origin.commit()
    origin.dvc("push")
    return origin


@pytest.fixture
def clone(origin, tmp_path) -> Project:
    """Another machine: what git has, and an empty DVC cache."""
    origin.run("git", "clone", "--quiet", str(origin.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    assert files(clone, "data") == [Path("README.md")]
    return clone


def files(project: Project, folder: str) -> list[Path]:
    root = project.root / folder
    return sorted(path.relative_to(root) for path in root.rglob("*") if path.is_file())


def test_a_second_clone_pulls_the_models_and_reruns_nothing(origin, clone):
    clone.dvc("pull")
    assert stages_run(clone.dvc("repro")) == set()
    assert clone.run("git", "status", "--porcelain") == ""
    assert files(clone, "data") == files(origin, "data")
    model = paths.checkpoint("poisoned/mislabel-30")
    assert (clone.root / model).read_bytes() == (origin.root / model).read_bytes()
    clone.change(lambda p: p["unlearn"]["ssd"].update(alpha=0.2))
    affected = clone.affected()
    assert {CELL} <= affected
    assert not any(name.startswith("train") for name in affected)


def test_one_cell_fetches_what_it_reads_and_hands_its_result_on(origin, clone):
    clone.change(lambda p: p["unlearn"]["ssd"].update(alpha=0.3))
    log = clone.dvc("repro", "--pull", "--allow-missing", CELL)
    assert stages_run(log) == {"code", "check", CELL}
    assert not (clone.root / paths.kspace("test")).exists()
    clone.dvc("push", CELL)
    for name in ("params.yaml", "dvc.lock"):
        (origin.root / name).write_bytes((clone.root / name).read_bytes())
    model = paths.checkpoint("unlearned/mislabel-30/ssd")
    before = (origin.root / model).read_bytes()
    origin.dvc("pull", CELL)
    assert before != (origin.root / model).read_bytes()
    assert CELL not in origin.affected()
