"""What the tests of many devices run on each rank, and how they start it.

torchrun --nproc-per-node 2 -m tests.common.ranks collectives <folder>
torchrun --nproc-per-node 2 -m tests.common.ranks stages "train --cell oracle-0"
"""

import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from stages.common import devices
from stages.common.fit import BatchLoss, Cost
from stages.common.runtime import stage_run
from stages.common.slices import ReconBatch
from stages.common.training import mean_recon_loss
from stages.common.varnet import VarNet
from tests.common.fit_toy import LOSS, train_slowly

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 600

Marks = Callable[[int], dict[str, str]]


def torchrun(*arguments: str) -> None:
    """Run this program on two ranks and wait for them."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "tests.common.ranks", *arguments]
    launcher = subprocess.Popen(command, env=_environment())
    try:
        assert launcher.wait(timeout=SECONDS) == 0
    finally:
        launcher.terminate()  # and it ends the ranks
        launcher.wait()


def of_torchrun(rank: int) -> dict[str, str]:
    return {
        "TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "RANK": str(rank),
        "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
    }  # fmt: skip


def of_srun(rank: int) -> dict[str, str]:
    """What `srun --nodes=2 --ntasks-per-node=1` sets, with one machine as both."""
    return {
        "SLURM_JOB_ID": "1234", "SLURM_JOB_NAME": "interactive", "SLURM_STEP_ID": "0",
        "SLURM_NODELIST": "127.0.0.1", "SLURM_NTASKS": "2", "SLURM_STEP_NUM_TASKS": "2",
        "SLURM_NTASKS_PER_NODE": "1", "SLURM_PROCID": str(rank), "SLURM_LOCALID": "0",
        "SLURM_NODEID": str(rank),
    }  # fmt: skip


def unwatched(*arguments: str, marks: Marks | None = None) -> list[tuple[int, str]]:
    """Run this program on two ranks that no launcher ends: (exit code, stderr).

    Args:
        arguments: of the program.
        marks: variables that a launcher sets, by rank; torchrun's if None.
    """
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [sys.executable, "-m", "tests.common.ranks", *arguments]
    ranks = [
        subprocess.Popen(
            command,
            env=_environment(MASTER_PORT=str(port), **(marks or of_torchrun)(rank)),
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [rank.communicate(timeout=SECONDS)[1] for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
    return [(rank.returncode, text) for rank, text in zip(ranks, said, strict=True)]


def _environment(**more: str) -> dict[str, str]:
    ours = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MENDMRI_DEVICE": "cpu"}
    return os.environ | ours | more


def collectives(folder: str) -> None:
    """Write what each rank sees of the helpers."""
    mine = devices.shard(range(5))
    seen = {
        "shard": mine,
        "gathered": devices.gathered([f"slice {number}" for number in mine]),
        "sum": devices.sum_over_ranks(torch.tensor([1.0, devices.rank()])).tolist(),
        "rank zero": devices.on_rank_zero(devices.rank),
    }
    Path(folder, f"{devices.rank()}.json").write_text(json.dumps(seen))


def fit(folder: str) -> None:
    """Train the toy, once unbroken and once broken off and resumed."""
    cost = Cost()
    model, curve = train_slowly(cost=cost)
    scratch = Path(folder, "scratch", "fit.pt")
    try:
        train_slowly(scratch=scratch, batch_loss=breaking(KeyboardInterrupt(), step=4))
    except KeyboardInterrupt:
        resumed, curve_again = train_slowly(scratch=scratch)
    seen = {
        "model": model.state_dict(), "curve": curve, "cost": vars(cost),
        "resumed": resumed.state_dict(), "curve again": curve_again,
    }  # fmt: skip
    torch.save(seen, Path(folder, f"{devices.rank()}.pt"))


def breaking(error: BaseException, *, step: int) -> BatchLoss:
    """Training's loss, until it raises before the given step."""
    descent, done = mean_recon_loss(LOSS), 0

    def batch_loss(model: VarNet, batch: ReconBatch) -> Tensor:
        nonlocal done
        if done == step:
            raise error
        done += 1
        return descent(model, batch)

    return batch_loss


def fail(rank: str, scratch: str) -> None:
    """Train with a bad sample on one rank; `scratch` may be a place for no file."""
    bad = devices.rank() == int(rank)
    loss = breaking(ValueError("a bad sample"), step=2 if bad else -1)
    with stage_run("train", "toy", many_devices=True):
        train_slowly(scratch=Path(scratch) if scratch else None, batch_loss=loss)


def stages(*commands: str) -> None:
    """Run stages one after another, each with its own arguments."""
    if devices.rank() != 0:
        tempfile.mkstemp = tempfile.mkdtemp = _refuse
    for command in commands:
        run_stage(command)


def run_stage(command: str) -> None:
    name, *arguments = command.split()
    importlib.import_module(f"stages.{name}.__main__").main(arguments)


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("rank 1 writes a file")


def main(arguments: Sequence[str]) -> None:
    programs = {
        "collectives": collectives, "fit": fit, "fail": fail, "stages": stages,
    }  # fmt: skip
    programs[arguments[0]](*arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
