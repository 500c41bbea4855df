"""A training step and an inference, ours against fastMRI's VarNet and SSIMLoss."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from stages.common.fit import BatchLoss, adamw
from stages.common.reconstruct import reconstruct
from stages.common.runtime import device
from stages.common.slices import ReconBatch, make_loader
from stages.common.training import mean_recon_loss
from stages.common.varnet import build_varnet
from tests.benchmarks.agreement import relative, require_same
from tests.benchmarks.cohort import make_dataset
from tests.benchmarks.sides import make_reference, reference_loss
from tests.benchmarks.sizes import Size, precisions
from tests.benchmarks.timing import (
    Entry,
    Runs,
    compare,
    in_turns,
    per_slice,
    quickest_precision,
    rounded,
)

# Largest relative differences from the reference, in single precision. It is not exact
# itself: after 12 cascades its output is off its own in float64 by 2e-5, its gradient
# by 0.02, since rounding decides on which side of 0 a ReLU is. `importance_pass`
# compares gradients in double precision. What bfloat16 costs is measured by `quality`:
# here, with random weights, it must only be no defect.
OUTPUT_ALLOWED = {"fp32": 1e-4, "bf16": 0.2}
LOSS_ALLOWED = 1e-4
GRADIENT_ALLOWED = 0.1
REFERENCE = "reference"


class Side(NamedTuple):
    """A network and how a plain loop trains it."""

    model: nn.Module
    batch_loss: BatchLoss
    optimizer: torch.optim.Optimizer


def train_step(size: Size, folder: Path) -> dict[str, Entry]:
    """Forward, loss, backward, clipping, optimizer; ms per slice."""

    def make_work(side: Side, batch: ReconBatch) -> Callable[[], object]:
        return partial(_train, size, side, batch)

    return _measure(size, folder, make_work, check=_check_gradient)


def infer(size: Size, folder: Path) -> dict[str, Entry]:
    """A forward pass without gradients; ms per slice and slices per second."""

    def make_work(side: Side, batch: ReconBatch) -> Callable[[], object]:
        return partial(_output, side.model, batch)

    entries = _measure(size, folder, make_work)
    for entry in entries.values():
        for name in ("ours", "reference"):
            entry[f"{name}_slices_per_second"] = rounded(1000 / entry[name])
    return entries


def _measure(
    size: Size,
    folder: Path,
    make_work: Callable[[Side, ReconBatch], Callable[[], object]],
    *,
    check: Callable[[Size, dict[str, Side], ReconBatch], None] | None = None,
) -> dict[str, Entry]:
    counts = sorted({*size.plan.batches, size.train.batch_size})
    dataset = make_dataset(size, folder, slices=max(counts))
    batches: dict[int, ReconBatch] = {
        count: next(iter(make_loader(dataset, batch_size=count))).to(device())
        for count in counts
    }
    sides = _make_sides(size)
    differences = _check_outputs(sides, batches[1])
    if check is not None:
        check(size, sides, batches[1])
    works = {
        (name, count): make_work(side, batch)
        for count, batch in batches.items()
        for name, side in sides.items()
    }
    seconds = in_turns(works, rounds=size.plan.rounds)
    runs: dict[str, Runs] = {name: {} for name in sides}
    for (name, count), values in seconds.items():
        runs[name][count] = per_slice(values, count)
    return _entries(runs, differences, own=size.train.batch_size)


def _entries(
    runs: dict[str, Runs], differences: dict[str, float], *, own: int
) -> dict[str, Entry]:
    """`fp32` and `best`: the best batch on both sides.

    `.../batch_1`: one slice a step; `.../own_batch`: as many as the profile has.
    """
    reference = runs[REFERENCE]
    best = quickest_precision({name: runs[name] for name in precisions()})
    entries = {}
    for key, precision in (("fp32", "fp32"), ("best", best)):
        ours = runs[precision]
        more: dict[str, Any] = {
            "precision": precision,
            "output_difference": float(f"{differences[precision]:.2g}"),
        }
        entries[key] = compare(ours, reference) | more
        for name, batch in (("batch_1", 1), ("own_batch", own)):
            alone = compare({batch: ours[batch]}, {batch: reference[batch]})
            entries[f"{key}/{name}"] = alone | more
    return entries


def _make_sides(size: Size) -> dict[str, Side]:
    """The same weights three times: ours in each precision, and the reference."""
    sides = {}
    for precision in precisions():
        model = build_varnet(size.with_precision(precision), seed=0)
        sides[precision] = Side(
            model.to(device()), mean_recon_loss(size.loss), adamw(model, size.train)
        )
    reference = make_reference(size.model, sides["fp32"].model.state_dict())
    optimizer = torch.optim.AdamW(
        reference.parameters(), lr=size.train.lr, weight_decay=size.train.weight_decay
    )
    sides[REFERENCE] = Side(reference, reference_loss(), optimizer)
    return sides


def _check_outputs(sides: dict[str, Side], batch: ReconBatch) -> dict[str, float]:
    """For each precision the relative difference of its output from the reference's."""
    expected = _output(sides[REFERENCE].model, batch)
    differences = {}
    for name in precisions():
        differences[name] = relative(_output(sides[name].model, batch), expected)
        what = f"the {name} output"
        require_same(what, differences[name], allowed=OUTPUT_ALLOWED[name])
    return differences


def _check_gradient(size: Size, sides: dict[str, Side], batch: ReconBatch) -> None:
    """Compare loss and gradient in float32."""
    # The reference's timed loss is fastMRI's; compared is the sum that ours trains.
    loss = reference_loss(l1_weight=size.loss.l1_weight)
    expected = _gradient(sides[REFERENCE].model, loss, batch)
    found = _gradient(sides["fp32"].model, sides["fp32"].batch_loss, batch)
    for what, ours, reference, allowed in zip(
        ("the loss", "the gradient"),
        found,
        expected,
        (LOSS_ALLOWED, GRADIENT_ALLOWED),
        strict=True,
    ):
        require_same(what, relative(ours, reference), allowed=allowed)


def _gradient(
    model: nn.Module, batch_loss: BatchLoss, batch: ReconBatch
) -> tuple[Tensor, Tensor]:
    loss = batch_loss(model, batch)  # type: ignore[arg-type]
    named = sorted(model.named_parameters())
    gradients = torch.autograd.grad(loss, [parameter for _, parameter in named])
    return loss.detach(), torch.cat([gradient.flatten() for gradient in gradients])


@torch.inference_mode()
def _output(model: nn.Module, batch: ReconBatch) -> Tensor:
    return reconstruct(model.eval(), batch)  # type: ignore[arg-type]


def _train(size: Size, side: Side, batch: ReconBatch) -> None:
    side.model.train()
    side.optimizer.zero_grad(set_to_none=True)
    side.batch_loss(side.model, batch).backward()  # type: ignore[arg-type]
    nn.utils.clip_grad_norm_(side.model.parameters(), size.train.clip_norm)
    side.optimizer.step()
