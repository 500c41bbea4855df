"""Diagonal Fisher information of the training loss, sample by sample."""

from collections.abc import Iterable

import torch
from torch import Tensor

from stages.common.fit import BatchLoss, Cost
from stages.common.runtime import device, progress
from stages.common.slices import SliceDataset, make_loader
from stages.common.varnet import VarNet

Importance = dict[str, Tensor]


def importance(
    model: VarNet,
    dataset: SliceDataset,
    batch_loss: BatchLoss,
    *,
    cost: Cost,
    desc: str,
) -> Importance:
    """F = E[g^2] over single samples, never over a batch's mean.

    Args:
        model: where the gradients are taken.
        dataset: samples, under training's own mask and scale.
        batch_loss: training's own loss.
        cost: counts one forward and backward pass per sample.
        desc: what the progress line says.

    Returns:
        For each parameter name, a tensor of its shape, float32, >= 0.
    """
    model = model.to(device()).train()
    names, parameters = zip(*model.named_parameters(), strict=True)
    squares = [torch.zeros_like(parameter) for parameter in parameters]
    loader = make_loader(dataset, batch_size=1)
    for batch in progress(loader, total=len(dataset), desc=desc, unit="slice"):
        loss = batch_loss(model, batch.to(device()))
        for square, gradient in zip(
            squares, torch.autograd.grad(loss, parameters), strict=True
        ):
            square += gradient.square()
    cost.slices_forward_backward += len(dataset)
    return dict(zip(names, (square / len(dataset) for square in squares), strict=True))


def pooled(parts: Iterable[tuple[int, Importance]]) -> Importance:
    """Importance over a union of sets, from (number of samples, importance) of each."""
    parts = list(parts)
    total = sum(count for count, _ in parts)
    return {
        name: sum(count / total * part[name] for count, part in parts)  # type: ignore[misc]
        for name in parts[0][1]
    }
