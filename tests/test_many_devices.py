"""Stages on two ranks: the files of one process, written once."""

import csv
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from stages.common import paths
from stages.common.varnet import load_checkpoint
from stages.unlearn.base import method_names
from tests.common.ranks import ROOT, run_stage, torchrun
from tests.train.test_base_models import PARAMS
from tests.unlearn.toy_case import PARAMS_FILE, quick, write_case


@pytest.fixture
def one_and_two(tiny_cohort: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The same project twice, for one process and for two."""
    write_case()
    methods = yaml.safe_load(PARAMS_FILE.read_text())["unlearn"]
    for name in method_names():
        methods[name] = quick(methods[name])
    params = PARAMS | {"unlearn": methods, "evaluate": {"batch_size": 5}}
    Path("params.yaml").write_text(yaml.safe_dump(params))
    project = [tiny_cohort / "one", tiny_cohort / "two"]
    for folder in project:
        shutil.copytree("data", folder / "data")
        shutil.copy("params.yaml", folder)
    monkeypatch.setenv("MENDMRI_DEVICE", "cpu")
    return project


def files(folder: Path) -> dict[str, Path]:
    """What the stages wrote, but for how long it took."""
    return {
        str(path.relative_to(folder)): path
        for path in folder.rglob("*")
        if path.is_file() and "timing" not in path.parts and path.name != "lock"
    }


def assert_same_model(first: Path, second: Path, start: Path, apart_by: float) -> None:
    """The same weights, up to a share of how far each tensor has moved from a start.

    Adam makes steps of one size: where a gradient is next to nothing, of its rounding.
    So single weights may differ by more, and a tensor as a whole may not.
    """
    before, ours, theirs = (
        load_checkpoint(path).state_dict() for path in (start, first, second)
    )
    for name, value in ours.items():
        # The first data consistency meets what was measured, and has no gradient but
        # the rounding.
        if name == "cascades.0.dc_weight":
            continue
        apart, moved = (
            float(torch.linalg.vector_norm(value - other[name]))
            for other in (theirs, before)
        )
        rounding = 1e-6 * math.sqrt(value.numel())
        assert apart <= rounding + apart_by * moved, (
            f"{second}: {name}: {apart}, {moved}"
        )


def assert_same_table(first: Path, second: Path) -> None:
    ours, theirs = (list(csv.reader(path.open())) for path in (first, second))
    assert len(ours) == len(theirs)
    for row, other in zip(ours, theirs, strict=True):
        for value, another in zip(row, other, strict=True):
            try:
                assert float(another) == pytest.approx(float(value), rel=1e-4)
            except ValueError:
                assert another == value


def test_every_stage_that_uses_many_devices(one_and_two, monkeypatch):
    """18 slices, 4 at a time: the last batch is uneven. 3 of them are known."""
    commands = ["train --cell oracle-0", "evaluate --cell oracle-0"]
    commands += [f"unlearn --scenario s --method {name}" for name in method_names()]
    one, two = one_and_two
    monkeypatch.chdir(one)
    for command in commands:
        run_stage(command)
    monkeypatch.chdir(two)
    torchrun("stages", *commands)
    assert set(files(one)) == set(files(two))
    for name, path in files(one).items():
        other = two / name
        if path.suffix == ".safetensors":
            case = one / paths.case("s") / "model.safetensors"
            start = case if "unlearned" in name else path
            # `scrub` begins where student and teacher are equal, and the sign of their
            # difference is rounding's: weights 1e-6 apart end up to 5 % apart.
            share = 0.1 if "scrub" in path.parts else 0.02
            assert_same_model(path, other, start, share)
        elif path.suffix == ".csv":
            assert_same_table(path, other)
        elif path.name == "oracle-0.json":
            found = json.loads(other.read_text())
            assert found == pytest.approx(json.loads(path.read_text()), rel=1e-4)
        elif path.suffix == ".json":
            assert other.read_text() == path.read_text()
    assert len(list((two / paths.METRICS / "timing").rglob("*.json"))) == len(commands)


@pytest.mark.parametrize("stage", ["train", "unlearn", "evaluate"])
def test_a_stage_of_dvc_can_be_launched_on_many(stage):
    found = subprocess.run(
        [sys.executable, "-m", f"stages.{stage}", "--cell", "oracle-0"],
        env=os.environ | {"MENDMRI_LAUNCH": "echo srun python"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert found.stdout == f"srun python -m stages.{stage} --cell oracle-0\n"
