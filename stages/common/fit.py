"""The one training loop: any loss over any batches, resumable at each epoch."""

import csv
import io
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from stages.common.params import Settings
from stages.common.runtime import device, progress
from stages.common.varnet import VarNet
from stages.common.volume import atomic_path, write_text

log = logging.getLogger("mendmri")

BatchT = TypeVar("BatchT")
BatchLoss = Callable[[VarNet, Any], Tensor]
CurveRow = dict[str, float]

CURVE_COLUMNS = (
    "epoch", "step", "lr", "train_loss", "val_loss", "val_psnr", "val_ssim",
)  # fmt: skip


class FitError(ValueError):
    """Training cannot go on."""


class OptimSettings(Settings):
    """Rate with linear warm-up and a cosine to zero, weight decay, clipping.

    Attributes:
        lr: peak learning rate.
        weight_decay: decoupled weight decay.
        warmup: share of the steps that raises the rate linearly.
        clip_norm: largest gradient norm.
    """

    lr: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0)
    warmup: float = Field(ge=0, lt=1)
    clip_norm: float = Field(gt=0)


def adamw(model: VarNet, optim: OptimSettings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay
    )


def sgd(model: VarNet, optim: OptimSettings) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay
    )


class EpochLoader(Protocol):
    """What `fit` needs of a loader: batches, their number, and a way to move on."""

    def __iter__(self) -> Iterator[Any]: ...

    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int) -> None: ...


@dataclass
class Cost:
    """Work done, teachers and importances included, in slices and gradient steps."""

    slices_forward_backward: int = 0
    slices_forward: int = 0
    gradient_steps: int = 0


@dataclass
class _State:
    """What a resumed run needs: all of it depends on the step alone."""

    step: int = 0
    slices: int = 0
    loss: float = math.nan
    curve: list[CurveRow] = field(default_factory=list)


def fit(
    model: VarNet,
    loader: EpochLoader,
    batch_loss: BatchLoss,
    optim: OptimSettings,
    *,
    steps: int,
    cost: Cost,
    desc: str,
    validate: Callable[[VarNet], CurveRow] | None = None,
    validate_every: int = 1,
    scratch: Path | None = None,
    make_optimizer: Callable[[VarNet, OptimSettings], torch.optim.Optimizer] = adamw,
) -> list[CurveRow]:
    """Train `model` in place for a number of optimizer steps.

    Args:
        model: what is trained.
        loader: batches; their order depends on the epoch number alone.
        batch_loss: (model, batch) -> scalar loss, averaged over the batch.
        optim: rate, weight decay and clipping.
        steps: optimizer steps; the rate is annealed to zero over them.
        cost: counts the slices and steps of this call.
        desc: what the progress line says.
        validate: measures for the training curve; never chooses anything.
        validate_every: epochs between two validations; the last epoch always has one.
        scratch: file that holds the state after each epoch; None never resumes.
        make_optimizer: optimizer over the model's parameters.

    Returns:
        One row per epoch, columns `CURVE_COLUMNS`.

    Raises:
        FitError: the loss is not finite; names the step and the last good state.
    """
    # Seconds of start-up that only training should pay for.
    from lightning_fabric import Fabric

    fabric = Fabric(accelerator=device().type, devices=1)
    module, optimizer = fabric.setup(model.train(), make_optimizer(model, optim))
    state = _restore(scratch, model, optimizer)
    if state.step:
        log.info("%s: resumed at step %d of %d", desc, state.step, steps)
    per_epoch = len(loader)

    def remaining() -> Iterator[tuple[int, Any]]:
        for epoch in range(state.step // per_epoch, math.ceil(steps / per_epoch)):
            loader.set_epoch(epoch)
            for batch in loader:
                if state.step < steps:
                    yield epoch, batch

    total_loss, batches = 0.0, 0
    for epoch, batch in progress(
        remaining(),
        total=steps - state.step,
        desc=desc,
        unit="step",
        status=lambda: f"loss {state.loss:.4f}",
    ):
        rate = _rate(state.step, steps, optim)
        for group in optimizer.param_groups:
            group["lr"] = rate
        loss = batch_loss(module, fabric.to_device(batch))
        state.loss = loss.item()
        if not math.isfinite(state.loss):
            raise FitError(_not_finite(desc, state.step, "loss", state.loss, scratch))
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(loss)
        norm = fabric.clip_gradients(
            module, optimizer, max_norm=optim.clip_norm, error_if_nonfinite=False
        )
        if norm is not None and not math.isfinite(norm):
            message = _not_finite(desc, state.step, "gradient", float(norm), scratch)
            raise FitError(message)
        optimizer.step()
        state.step += 1
        state.slices += batch_slices(batch)
        total_loss, batches = total_loss + state.loss, batches + 1
        if state.step % per_epoch and state.step < steps:
            continue
        row: CurveRow = {"epoch": epoch + 1, "step": state.step, "lr": rate}
        row["train_loss"] = total_loss / batches
        total_loss, batches = 0.0, 0
        due = (epoch + 1) % validate_every == 0 or state.step == steps
        if validate is not None and due:
            row |= validate(model)
            model.train()
        state.curve.append(row)
        _save(scratch, model, optimizer, state)
    cost.gradient_steps += state.step
    cost.slices_forward_backward += state.slices
    return state.curve


def batch_slices(batch: Any) -> int:
    """Slices in a batch, or in all parts of a tuple of batches."""
    if hasattr(batch, "refs"):
        return len(batch.refs)
    return sum(batch_slices(part) for part in batch)


def write_curve(path: Path, curve: list[CurveRow]) -> None:
    """Write a training curve as CSV; epochs without validation have empty cells."""
    text = io.StringIO()
    writer = csv.DictWriter(text, CURVE_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in curve:
        writer.writerow({key: f"{value:.6g}" for key, value in row.items()})
    write_text(path, text.getvalue())


def _rate(step: int, steps: int, optim: OptimSettings) -> float:
    warm = round(steps * optim.warmup)
    if step < warm:
        return optim.lr * (step + 1) / warm
    return optim.lr * 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def _not_finite(
    desc: str, step: int, what: str, value: float, scratch: Path | None
) -> str:
    kept = f"; the last good state is {scratch}" if scratch and scratch.exists() else ""
    return (
        f"{desc}: {what} is {value} at step {step}: lower the learning rate or "
        f"look for damaged samples{kept}"
    )


def _save(scratch: Path | None, model: VarNet, optimizer: Any, state: _State) -> None:
    if scratch is None:
        return
    content = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "state": vars(state),
    }
    with atomic_path(scratch) as temporary:
        torch.save(content, temporary)


def _restore(scratch: Path | None, model: VarNet, optimizer: Any) -> _State:
    if scratch is None or not scratch.exists():
        return _State()
    content = torch.load(scratch, weights_only=True, map_location=device())
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return _State(**content["state"])
