"""The one training loop: it learns, counts, stops on NaN, and resumes to the bit."""

import csv
import math
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from stages.common import fit as fit_module
from stages.common.fit import CURVE_COLUMNS, Cost, CurveRow, FitError, write_curve
from stages.common.slices import ReconBatch
from stages.common.training import mean_recon_loss, steps_for
from stages.common.varnet import VarNet
from tests.common.fit_toy import LOSS, OPTIM, PER_EPOCH, train

ROOT = Path(__file__).resolve().parents[2]
STEPS = 4 * PER_EPOCH + 2  # the last epoch is a part of one

pytestmark = pytest.mark.usefixtures("tiny_cohort")


def same(a: tuple[VarNet, list[CurveRow]], b: tuple[VarNet, list[CurveRow]]) -> bool:
    weights = [model.state_dict() for model, _ in (a, b)]
    equal = all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    return equal and a[1] == b[1]


def kill_at(step: int, scratch: Path) -> None:
    """Train in a process of its own that dies by SIGKILL before a step."""
    command = [sys.executable, "-m", "tests.common.fit_toy"]
    command += [str(scratch), str(STEPS), str(step)]
    run = subprocess.run(
        command, env=os.environ | {"PYTHONPATH": str(ROOT)}, check=False
    )
    assert run.returncode == -signal.SIGKILL


def test_the_loss_falls_and_the_work_is_counted():
    cost = Cost()
    _, curve = train(None, STEPS, cost=cost)
    assert curve[-1]["train_loss"] < 0.9 * curve[0]["train_loss"]
    assert curve[-1]["val_loss"] < curve[1]["val_loss"]
    # 18 slices an epoch, then two batches of 4.
    assert vars(cost) == {
        "slices_forward_backward": 4 * 18 + 8,
        "slices_forward": 0,
        "gradient_steps": STEPS,
    }
    assert [row["epoch"] for row in curve] == [1, 2, 3, 4, 5]
    assert [row["step"] for row in curve] == [5, 10, 15, 20, 22]
    assert ["val_loss" in row for row in curve] == [False, True, False, True, True]


def test_a_killed_run_resumes_to_the_bit(tmp_path):
    step = random.Random().randrange(1, STEPS)  # any moment will do
    unbroken = train(None, STEPS)
    scratch = tmp_path / "scratch" / "fit.pt"
    kill_at(step, scratch)
    assert scratch.exists() == (step >= PER_EPOCH)
    cost = Cost()
    resumed = train(scratch, STEPS, cost=cost)
    assert same(resumed, unbroken), f"killed before step {step}"
    assert cost.gradient_steps == STEPS
    finished = train(scratch, STEPS, batch_loss=never)
    assert same(finished, unbroken)


def never(model: VarNet, batch: ReconBatch) -> Tensor:  # noqa: ARG001
    raise AssertionError("a finished run took a step")


class FiveBatches:
    """A loader that counts what is read from it."""

    read = 0

    def set_epoch(self, epoch: int) -> None:
        pass

    def __len__(self) -> int:
        return 5

    def __iter__(self) -> Iterator[int]:
        for batch in range(5):
            self.read += 1
            yield batch


@pytest.mark.parametrize(
    ("done", "epochs"), [(0, [0] * 5 + [1] * 2), (5, [1, 1]), (7, [])]
)
def test_nothing_is_read_beyond_the_last_step(done, epochs):
    loader, state = FiveBatches(), fit_module._State(step=done)
    taken = []
    for epoch, _ in fit_module._remaining(loader, state, 7):
        state.step += 1
        taken.append(epoch)
    assert taken == epochs
    assert loader.read == 7 - done


@pytest.mark.parametrize("lost", ["optimizer", "step", "weights"])
def test_the_resume_check_notices_what_is_not_resumed(tmp_path, monkeypatch, lost):
    unbroken = train(None, STEPS)
    scratch = tmp_path / "fit.pt"
    stop = {"after": 2 * PER_EPOCH}

    def breaking(model: VarNet, batch: ReconBatch) -> Tensor:
        if stop["after"] == 0:
            raise KeyboardInterrupt
        stop["after"] -= 1
        return mean_recon_loss(LOSS)(model, batch)

    with pytest.raises(KeyboardInterrupt):
        train(scratch, STEPS, batch_loss=breaking)
    whole = fit_module._restore

    def forgetful(scratch, model, optimizer):
        before = {name: value.clone() for name, value in model.state_dict().items()}
        state = whole(scratch, model, optimizer)
        if lost == "optimizer":
            optimizer.state.clear()
        elif lost == "step":
            state.step += PER_EPOCH
        else:
            model.load_state_dict(before)
        return state

    monkeypatch.setattr(fit_module, "_restore", forgetful)
    assert not same(train(scratch, STEPS), unbroken)


@pytest.mark.parametrize("what", ["loss", "gradient"])
def test_what_is_not_finite_names_step_and_last_good_state(tmp_path, what):
    taken = 0

    def poisoned(model: VarNet, batch: ReconBatch) -> Tensor:
        nonlocal taken
        loss = mean_recon_loss(LOSS)(model, batch)
        if taken == PER_EPOCH + 2:
            loss = loss * math.nan if what == "loss" else loss + (loss * 0).sqrt()
        taken += 1
        return loss

    scratch = tmp_path / "fit.pt"
    with pytest.raises(FitError, match=rf"toy: {what} is nan at step 7: .*fit.pt"):
        train(scratch, STEPS, batch_loss=poisoned)
    assert torch.load(scratch, weights_only=True)["state"]["step"] == PER_EPOCH


def test_the_rate_rises_and_falls_to_zero():
    rates = [fit_module._rate(step, 100, OPTIM) for step in range(100)]
    assert rates[:20] == pytest.approx([OPTIM.lr * (n + 1) / 20 for n in range(20)])
    assert max(rates) == pytest.approx(OPTIM.lr)
    assert rates[19:] == sorted(rates[19:], reverse=True)
    assert rates[-1] < 0.001 * OPTIM.lr
    flat = OPTIM.model_copy(update={"warmup": 0.0})
    assert fit_module._rate(0, 1, flat) == OPTIM.lr


@pytest.mark.parametrize(
    ("epochs", "slices", "steps"),
    [(1, 18, 5), (0.5, 18, 2), (2.5, 16, 10), (0.001, 18, 1), (3, 1, 3)],
)
def test_epochs_may_be_parts(epochs, slices, steps):
    assert steps_for(epochs, slices, 4) == steps


def test_the_global_random_state_does_not_matter():
    first = train(None, PER_EPOCH)
    torch.manual_seed(123)
    assert same(train(None, PER_EPOCH), first)


def test_a_curve_is_a_table(tmp_path):
    row: CurveRow = {"epoch": 1, "step": 5, "lr": 1e-3, "train_loss": 0.123456789}
    write_curve(tmp_path / "curve.csv", [row, row | {"val_psnr": 30.0}])
    with (tmp_path / "curve.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CURVE_COLUMNS
    assert rows[0]["train_loss"] == "0.123457"
    assert [entry["val_psnr"] for entry in rows] == ["", "30"]
