"""What a process learns of the launch that it is part of."""

import os
import subprocess
import sys

import pytest

from stages.common.launch import Launch, launch

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none", "RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1",
    "LOCAL_WORLD_SIZE": "4",
}  # fmt: skip
SRUN = {
    "SLURM_STEP_ID": "0", "SLURM_PROCID": "6", "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_LOCALID": "2", "SLURM_NTASKS_PER_NODE": "4",
}  # fmt: skip
# What a job's own script sees, `dvc repro` in it too.
JOB = {"SLURM_JOB_ID": "9", "SLURM_NTASKS": "8", "SLURM_PROCID": "0",
       "SLURM_NTASKS_PER_NODE": "4", "SLURM_LOCALID": "0"}  # fmt: skip


@pytest.fixture(autouse=True)
def bare(monkeypatch):
    for name in TORCHRUN | SRUN | JOB:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Launch(0, 1, 0, 1)),
        ({"WORLD_SIZE": "8", "RANK": "3"}, Launch(0, 1, 0, 1)),  # somebody else's
        (TORCHRUN, Launch(5, 8, 1, 4)),
        (TORCHRUN | {"WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"}, Launch()),
        (SRUN, Launch(6, 8, 2, 4)),
        (JOB, Launch()),
        (JOB | {"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "1"}, Launch()),
        (SRUN | TORCHRUN, Launch(5, 8, 1, 4)),
    ],
)
def test_rank_and_size_are_the_launcher_s(monkeypatch, variables, expected):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert launch() == expected
    assert launch().nodes == expected.world_size // expected.per_node


def test_an_incomplete_launch_is_named(monkeypatch):
    for name, value in (SRUN | {"SLURM_NTASKS_PER_NODE": ""}).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ValueError, match="SLURM_NTASKS_PER_NODE is not set in a launch"
    ):
        launch()
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "3")
    with pytest.raises(ValueError, match="= 8 is no multiple of SLURM_NTASKS_PER_NODE"):
        launch()


def run(command: str, *, marks: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Start a program that relaunches itself as `stages.train`."""
    program = "from stages.common.launch import relaunch; relaunch('stages.train')"
    return subprocess.run(
        [sys.executable, "-c", f"{program}; print('went on')", "--cell", "a b"],
        env=os.environ | {"MENDMRI_LAUNCH": command} | marks,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_stage_turns_into_its_launcher():
    found = run("env -u HOME echo 'two words'", marks={})
    assert found.stdout == "two words -m stages.train --cell a b\n"
    assert run("", marks={}).stdout == "went on\n"
    assert run("echo", marks=TORCHRUN).stdout == "went on\n"  # launched already
    shown = run(f"{sys.executable} -c 'import os; print(os.environ)'", marks={})
    assert "MENDMRI_LAUNCH" not in shown.stdout


def test_a_launcher_that_is_not_there_is_named():
    found = run("no-such-launcher --nodes 2", marks={})
    assert found.returncode == 1
    assert found.stderr == (
        "MENDMRI_LAUNCH: 'no-such-launcher' cannot be run: No such file or directory\n"
    )
