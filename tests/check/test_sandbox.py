"""The copy holds what git would commit, without results, and never eats a folder."""

import subprocess
from pathlib import Path

import pytest

from stages.check.profile import render
from stages.check.sandbox import make_sandbox, refresh_sandbox


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "a project"
    files = {
        "stages/a.py": "x = 1\n",
        "params.yaml": "profile: default\n",
        "dvc.lock": "stages: {}\n",
        "metrics/summary.json": "{}\n",
        "data/README.md": "data\n",
        "data/raw/big.h5": "big",
        ".gitignore": "/data/*\n!/data/README.md\n/.scratch/\n",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run(["git", "init", "--quiet", str(root)], check=True)
    return root


def test_the_copy_has_code_and_profile_but_no_results(project):
    target = project / ".scratch" / "smoke"
    assert make_sandbox(project, target, profile="smoke") == 4
    assert (target / "stages/a.py").read_text() == "x = 1\n"
    assert (target / "params.yaml").read_text() == render("smoke")
    assert (target / "data/README.md").exists()
    assert (target / ".git").exists()
    for name in ("dvc.lock", "metrics", "data/raw"):
        assert not (target / name).exists()
    assert (project / "params.yaml").read_text() == "profile: default\n"


def test_a_second_copy_starts_anew(project):
    target = project / ".scratch" / "smoke"
    make_sandbox(project, target, profile="smoke")
    (target / "dvc.lock").write_text("old")
    (project / "stages/a.py").write_text("x = 2\n")
    make_sandbox(project, target, profile="smoke")
    assert not (target / "dvc.lock").exists()
    assert (target / "stages/a.py").read_text() == "x = 2\n"


def test_a_folder_that_is_no_copy_is_left_alone(project):
    target = project / "precious"
    target.mkdir()
    (target / "work.txt").write_text("mine")
    with pytest.raises(ValueError, match="remove it yourself"):
        make_sandbox(project, target, profile="smoke")
    assert (target / "work.txt").read_text() == "mine"


def test_outside_of_git_is_said(tmp_path):
    with pytest.raises(ValueError, match="git could not list"):
        make_sandbox(tmp_path, tmp_path / "copy", profile="smoke")


def test_a_refreshed_copy_has_the_new_files_and_keeps_its_results(project):
    target = project / ".scratch" / "study"
    assert refresh_sandbox(project, target, profile="smoke") == 4
    for name in ("dvc.lock", "metrics/potency.json", "data/raw/made.h5"):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text("result")
    (project / "stages/a.py").unlink()
    (project / "stages/b.py").write_text("x = 2\n")
    refresh_sandbox(project, target, profile="default")
    assert not (target / "stages/a.py").exists()
    assert (target / "stages/b.py").read_text() == "x = 2\n"
    assert (target / "params.yaml").read_text() == render("default")
    for name in ("dvc.lock", "metrics/potency.json", "data/raw/made.h5"):
        assert (target / name).read_text() == "result"
