"""Saliency unlearning (SalUn): relabelling that moves the salient weights alone.

    m       = 1 where |sum over D_f* of grad L(theta; x, y)| is among the top `share`
    theta'  = m * (theta + Delta) + (1 - m) * theta,
    Delta   = what relabelling D_f* at random, beside D_r, does to theta

Fan et al., "SalUn: empowering machine unlearning via gradient-based weight saliency in
both image classification and generation", ICLR 2024 (https://arxiv.org/abs/2310.12508).
Its default threshold is the median of the gradient: a share of 0.5. Adapted to
reconstruction: the gradient is that of training's own loss, summed with its signs at
the poisoned weights; a random label is a target with noise in it (`noisy_label`). A
masked gradient alone would leave the other weights to weight decay: they are put back
after each step, so that they keep their bits.
"""

import copy

import torch
from pydantic import Field
from torch import Tensor

from stages.common.devices import sum_over_ranks
from stages.common.fit import OptimSettings, adamw
from stages.common.runtime import device, progress
from stages.common.slices import rank_loader
from stages.common.training import mean_recon_loss
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase
from stages.unlearn.importance import faithful, require_finite
from stages.unlearn.noisy_targets import NoisySettings, train_relabelled

Weights = dict[str, Tensor]


class Params(NoisySettings):
    """Noise, optimizer, length and how many weights move.

    Attributes:
        share: of all weights, those with the largest gradient.
    """

    share: float = Field(gt=0, le=1)


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Relabel the known forget set and train the salient weights of a copy."""
    student = copy.deepcopy(model).to(device())
    moves = salient(forget_gradient(student, case), params.share)
    before = {name: weight.clone() for name, weight in student.state_dict().items()}

    def make_optimizer(model: VarNet, optim: OptimSettings) -> torch.optim.Optimizer:
        optimizer = adamw(model, optim)
        optimizer.register_step_post_hook(lambda *_: restore(model, before, moves))
        return optimizer

    # Masked before the ranks average and before clipping, which the rest is no part of.
    hooks = [
        weight.register_hook(moves[name].mul)
        for name, weight in student.named_parameters()
    ]
    train_relabelled(
        student, case, params, method="salun", make_optimizer=make_optimizer
    )
    for hook in hooks:
        hook.remove()
    return student


def forget_gradient(model: VarNet, case: UnlearnCase) -> Weights:
    """Sum over the known forget set of the gradient of training's loss, signs kept.

    Slice by slice and in double, so that the order of the weights does not depend on
    how the slices are dealt out to ranks.

    Returns:
        For each parameter name a double tensor of its shape, the same on each rank.

    Raises:
        ValueError: a gradient is not finite.
    """
    measured = faithful(model, slices=len(case.forget))
    weights = dict(measured.named_parameters())
    sums = {
        name: torch.zeros_like(weight, dtype=torch.double)
        for name, weight in weights.items()
    }
    loss = mean_recon_loss(case.loss)
    loader = rank_loader(case.forget, batch_size=1)
    for batch in progress(loader, total=len(loader), desc="saliency", unit="slice"):
        value = loss(measured, batch.to(device()))
        gradients = torch.autograd.grad(value, list(weights.values()))
        for total, gradient in zip(sums.values(), gradients, strict=True):
            total += gradient
    case.cost.slices_forward_backward += len(case.forget)
    found = {name: sum_over_ranks(total) for name, total in sums.items()}
    for name, total in found.items():
        require_finite(total, f"saliency: {name}")
    return found


def salient(gradients: Weights, share: float) -> Weights:
    """Where the largest gradients are: a bool tensor for each, `share` true in all.

    One ranking over the whole network; of equals the first come first.
    """
    sizes = torch.cat([gradient.abs().flatten() for gradient in gradients.values()])
    count = max(1, round(share * len(sizes)))
    chosen = torch.zeros_like(sizes, dtype=torch.bool)
    chosen[torch.sort(sizes, descending=True, stable=True).indices[:count]] = True
    parts = chosen.split([gradient.numel() for gradient in gradients.values()])
    return {
        name: part.view_as(gradient)
        for (name, gradient), part in zip(gradients.items(), parts, strict=True)
    }


@torch.no_grad()
def restore(model: VarNet, before: Weights, moves: Weights) -> None:
    """Put every weight that may not move back to where it was."""
    for name, weight in model.named_parameters():
        weight.copy_(torch.where(moves[name], weight, before[name]))
