"""Importance without a loss: how much a weight moves the norm of the output image."""

import torch

from stages.common.devices import sum_over_ranks
from stages.common.fit import Cost
from stages.common.reconstruct import reconstruct
from stages.common.runtime import device, progress
from stages.common.slices import SliceDataset, rank_loader
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase
from stages.unlearn.dampening import of_both
from stages.unlearn.importance import Importance, faithful, require_finite


def output_norms(
    model: VarNet, case: UnlearnCase, *, power: int
) -> tuple[Importance, Importance]:
    """Such importances over the known forget set, and over the whole training set."""

    def measure(dataset: SliceDataset, desc: str) -> Importance:
        return output_norm_importance(
            model, dataset, power=power, cost=case.cost, desc=desc
        )

    return of_both(case, measure)


def output_norm_importance(
    model: VarNet, dataset: SliceDataset, *, power: int, cost: Cost, desc: str
) -> Importance:
    """E|d r^power / d theta| over single samples, r the RMS of the output / maximum.

    Slice by slice, because an absolute value does not come out of a batch's gradient.
    The root mean square stands for the norm, so that slices of other sizes count alike;
    the factor between the two cancels in F_f / F_D. No target is looked at.

    Args:
        model: where the gradients are taken.
        dataset: samples, under training's own mask and scale.
        power: 2 for LFSSD, 1 for XLF.
        cost: counts one forward and backward pass per sample, over all ranks.
        desc: what the progress line says.

    Returns:
        For each parameter name, a tensor of its shape and type, >= 0.

    Raises:
        ValueError: a gradient is not finite.
    """
    model = faithful(model, slices=len(dataset)).to(device()).train()
    parameters = dict(model.named_parameters())
    # Double, so that a long sum loses nothing.
    sums = {
        name: torch.zeros_like(parameter, dtype=torch.double)
        for name, parameter in parameters.items()
    }
    loader = rank_loader(dataset, batch_size=1)
    for batch in progress(loader, total=len(loader), desc=desc, unit="slice"):
        batch = batch.to(device())
        image = reconstruct(model, batch) / batch.max_value[:, None, None]
        square = image.square().mean()
        gradients = torch.autograd.grad(
            square if power == 2 else square.sqrt(),
            list(parameters.values()),
            allow_unused=True,
            materialize_grads=True,
        )
        for name, gradient in zip(parameters, gradients, strict=True):
            sums[name] += gradient.abs()
    cost.slices_forward_backward += len(dataset)
    found = {}
    for name, parameter in parameters.items():
        mean = sum_over_ranks(sums[name]) / len(dataset)
        require_finite(mean, f"{desc}: {name}")
        found[name] = mean.to(parameter.dtype)
    return found
