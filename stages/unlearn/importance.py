"""Diagonal Fisher information of the training loss, sample by sample."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from stages.common.devices import sum_over_ranks
from stages.common.fit import BatchLoss, Cost
from stages.common.runtime import device, progress
from stages.common.slices import ReconBatch, SliceDataset, rank_loader
from stages.common.varnet import VarNet
from stages.unlearn.per_sample import squared_gradients

Importance = dict[str, Tensor]


def importance(
    model: VarNet,
    dataset: SliceDataset,
    batch_loss: BatchLoss,
    *,
    cost: Cost,
    desc: str,
    batch_size: int = 8,
) -> Importance:
    """F = E[g^2] over the single samples of one data set; see `importances`."""
    (found,) = importances(
        model, [dataset], batch_loss, cost=cost, desc=desc, batch_size=batch_size
    )
    return found


def importances(
    model: VarNet,
    datasets: Sequence[SliceDataset],
    batch_loss: BatchLoss,
    *,
    cost: Cost,
    desc: str,
    batch_size: int = 8,
) -> list[Importance]:
    """F = E[g^2] over the single samples of each data set, in one pass over them all.

    Never the square of a mean over a batch or over ranks: the result does not depend on
    how the samples are batched or dealt out, but for rounding.

    Args:
        model: where the gradients are taken, in its own precision.
        datasets: samples, under training's own mask and scale.
        batch_loss: training's own loss, the mean over a batch of a loss per sample.
        cost: counts one forward and backward pass per sample, over all ranks.
        desc: what the progress line says.
        batch_size: slices at a time on each rank.

    Returns:
        For each data set and parameter name, a tensor of its shape and type, >= 0.

    Raises:
        ValueError: a data set is empty, or a gradient is not finite.
    """
    if not all(map(len, datasets)):
        raise ValueError(f"{desc}: a data set without slices has no importance")
    model = model.to(device()).train()
    parameters = dict(model.named_parameters())
    # Double, so that a long sum loses nothing.
    sums = [
        {
            name: torch.zeros_like(p, dtype=torch.double)
            for name, p in parameters.items()
        }
        for _ in datasets
    ]
    loaders = [rank_loader(dataset, batch_size=batch_size) for dataset in datasets]

    def batches() -> Iterator[tuple[Importance, ReconBatch]]:
        for total, loader in zip(sums, loaders, strict=True):
            for batch in loader:
                yield total, batch

    steps = sum(map(len, loaders))
    for total, batch in progress(batches(), total=steps, desc=desc, unit="batch"):
        squares = squared_gradients(model, batch_loss, batch.to(device()))
        for name, square in squares.items():
            total[name] += square
    cost.slices_forward_backward += sum(map(len, datasets))
    found = []
    for total, dataset in zip(sums, datasets, strict=True):
        means = {
            name: (sum_over_ranks(total[name]) / len(dataset)).to(parameter.dtype)
            for name, parameter in parameters.items()
        }
        for name, mean in means.items():
            if not mean.isfinite().all():
                raise ValueError(
                    f"{desc}: {name} has a gradient that is not finite: look for "
                    "damaged samples"
                )
        found.append(means)
    return found


def pooled(parts: Sequence[tuple[int, Importance]]) -> Importance:
    """Importance over a union of sets, from (number of samples, importance) of each."""
    total = sum(count for count, _ in parts)
    shares = [(count / total, part) for count, part in parts]
    return {
        name: torch.stack([share * part[name] for share, part in shares]).sum(0)
        for name in parts[0][1]
    }
