"""What a stage imports before it works: seconds, in each of a hundred cells."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from stages.check.profile import render
from stages.common.closure import Imports, load_sources

ROOT = Path(__file__).resolve().parents[1]
TRAINING = (
    "torch", "torchvision", "torchmetrics", "fastmri", "lightning_fabric",
    "pytorch_lightning", "numba",
)  # fmt: skip
# Stages that need no training library, in whatever they do, and those that need one for
# their work: these must say what is wrong with their arguments before they import it.
WITHOUT = ("code", "download", "synthesize", "forget", "report")
LATE = ("classify", "evaluate", "poison")
BLOCK = f"import sys; sys.modules.update(dict.fromkeys({TRAINING}))\n"


def run_blocked(code: str, folder: Path = ROOT) -> str:
    """Run Python code that cannot import a training library; return its errors."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCK + code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stderr if done.returncode else ""


def modules_of(stage: str) -> list[str]:
    """Every module that a stage may import, the files that it chooses by name too."""
    sources = load_sources(ROOT)
    own = {path for path in sources if path.startswith(f"stages/{stage}/")}
    files = Imports(sources).closure(own)
    return [
        path.removesuffix(".py").replace("/", ".")
        for path in sorted(files)
        if path.endswith(".py")
    ]


@pytest.mark.parametrize("stage", WITHOUT)
def test_a_stage_without_training_imports_no_training_library(stage):
    assert run_blocked(f"import {', '.join(modules_of(stage))}") == ""


@pytest.mark.parametrize("attack", ["label_noise", "mislabel", "trigger", "pgd"])
def test_an_attack_is_read_without_a_training_library(attack):
    """Those that need one import it where they use it."""
    assert run_blocked(f"import stages.poison.{attack}") == ""


@pytest.mark.parametrize("stage", LATE)
def test_arguments_are_read_before_a_training_library_is_imported(stage):
    assert run_blocked(f"import stages.{stage}.__main__") == ""


def test_check_imports_no_training_library(tmp_path):
    (tmp_path / "params.yaml").write_text(render("default"))
    code = "from stages.check.__main__ import main; main([])"
    assert run_blocked(code, tmp_path) == ""
    assert (tmp_path / "data/params.checked").exists()


def test_the_block_is_one():
    assert "torch" in run_blocked("import stages.train.__main__")
    assert "numba" in run_blocked("import numba")


def test_dvc_reads_yaml_with_the_compiled_parser():
    """Without it a `dvc repro` that finds nothing to do takes twice as long."""
    from ruamel.yaml import YAML
    from ruamel.yaml.main import CParser

    assert CParser is not None
    for name in ("dvc.yaml", "params.yaml"):
        text = (ROOT / name).read_text()
        assert YAML(typ="safe").load(text) == YAML(typ="safe", pure=True).load(text)
        assert YAML(typ="safe").load(text) == yaml.safe_load(text)
