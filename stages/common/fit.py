"""The one training loop: any loss over any batches, resumable at each epoch."""

import csv
import io
import itertools
import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from pydantic import Field
from torch import Tensor

from stages.common.devices import (
    data_parallel,
    on_rank_zero,
    sum_over_ranks,
    world_size,
)
from stages.common.params import Settings
from stages.common.runtime import device, progress
from stages.common.slices import ReconBatch
from stages.common.varnet import VarNet
from stages.common.volume import atomic_path, write_text

log = logging.getLogger("mendmri")

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
        model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay, fused=True
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


class _Run(NamedTuple):
    """A training under way."""

    model: VarNet
    optimizer: torch.optim.Optimizer
    optim: OptimSettings
    state: _State
    steps: int
    desc: str
    scratch: Path | None

    def step(self, loss: Tensor) -> None:
        """Take one optimizer step along a loss.

        Raises:
            FitError: the loss or a gradient is not finite.
        """
        self.state.loss = sum_over_ranks(loss.detach()).item() / world_size()
        self._require_finite("loss", self.state.loss)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        groups = self.optimizer.param_groups
        norm = torch.nn.utils.clip_grad_norm_(
            [parameter for group in groups for parameter in group["params"]],
            self.optim.clip_norm,
        )
        self._require_finite("gradient", norm.item())
        for group in groups:
            group["lr"] = _rate(self.state.step, self.steps, self.optim)
        self.optimizer.step()
        self.state.step += 1

    def save(self) -> None:
        if self.scratch is None:
            return
        content = {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "state": vars(self.state),
        }
        # Written by Python, which alone says what is wrong when the disk is full.
        image = io.BytesIO()
        torch.save(content, image)
        with atomic_path(self.scratch) as temporary:
            temporary.write_bytes(image.getbuffer())

    def _require_finite(self, what: str, value: float) -> None:
        if math.isfinite(value):
            return
        good = self.scratch is not None and self.scratch.exists()
        raise FitError(
            f"{self.desc}: {what} is {value} at step {self.state.step}: lower the "
            "learning rate or look for damaged samples"
            + (f"; the last good state is {self.scratch}" if good else "")
        )


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

    Of several ranks each calls it with the same arguments; every step is that of one
    process with the whole batch, and rank 0 alone keeps the state.

    Args:
        model: what is trained.
        loader: batches; their order depends on the epoch number alone.
        batch_loss: (model, batch) -> scalar loss, averaged by `ReconBatch.mean`.
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
    module = data_parallel(model.train())
    optimizer = make_optimizer(model, optim)
    state = _restore(scratch, model, optimizer)
    if state.step:
        log.info("%s: resumed at step %d of %d", desc, state.step, steps)
    run = _Run(model, optimizer, optim, state, steps, desc, scratch)
    total_loss, batches = 0.0, 0
    for epoch, batch in progress(
        _remaining(loader, state, steps),
        total=steps - state.step,
        desc=desc,
        unit="step",
        status=lambda: f"loss {state.loss:.4f}",
    ):
        run.step(batch_loss(module, _on_device(batch)))
        state.slices += batch_slices(batch)
        total_loss, batches = total_loss + state.loss, batches + 1
        if state.step % len(loader) and state.step < steps:
            continue
        rate = optimizer.param_groups[0]["lr"]
        row: CurveRow = {"epoch": epoch + 1, "step": state.step, "lr": rate}
        row["train_loss"] = total_loss / batches
        total_loss, batches = 0.0, 0
        due = (epoch + 1) % validate_every == 0 or state.step == steps
        if validate is not None and due:
            row |= validate(model)
            model.train()
        state.curve.append(row)
        on_rank_zero(run.save)
    cost.gradient_steps += state.step
    cost.slices_forward_backward += state.slices
    return state.curve


def batch_slices(batch: Any) -> int:
    """Slices in a batch, over all ranks, or in all members of a tuple of batches."""
    if isinstance(batch, ReconBatch):
        return batch.total
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


def _remaining(
    loader: EpochLoader, state: _State, steps: int
) -> Iterator[tuple[int, Any]]:
    """(epoch, batch) of each step that is left; nothing is read beyond the last."""
    for epoch in range(state.step // len(loader), math.ceil(steps / len(loader))):
        loader.set_epoch(epoch)
        for batch in itertools.islice(loader, steps - state.step):
            yield epoch, batch


def _on_device(batch: Any) -> Any:
    if isinstance(batch, ReconBatch):
        return batch.to(device())
    return tuple(_on_device(part) for part in batch)


def _restore(scratch: Path | None, model: VarNet, optimizer: Any) -> _State:
    """Take up what rank 0 finds; the other ranks may see another file system."""
    content = on_rank_zero(lambda: _load(scratch))
    if content is None:
        return _State()
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return _State(**content["state"])


def _load(scratch: Path | None) -> dict[str, Any] | None:
    if scratch is None or not scratch.exists():
        return None
    content: dict[str, Any] = torch.load(scratch, weights_only=True, map_location="cpu")
    return content
