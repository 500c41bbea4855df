"""Alignment of a slice's gradient with that of the reported poison.

    direction = mean of g over the known forget set - mean of g over a retain sample
    score     = cos(g_i, direction),   g_i = grad L(theta; x_i, t_i)

The first-order influence of training on slice i on the loss of the reported poison
(Pruthi et al., "TracIn", NeurIPS 2020, https://arxiv.org/abs/2002.08484), at the final
weights alone and free of the gradient's length, which is `loss_outlier`'s matter. A
reported slice is scored without its own part in the direction. The retain sample holds
undiscovered poison, as retain sets do.
"""

import copy

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from stages.common.manifest import SliceRef
from stages.common.params import Settings
from stages.common.runtime import device, progress
from stages.common.slices import ReconBatch, SliceDataset, make_loader, rank_loader
from stages.common.training import mean_recon_loss
from stages.common.varnet import VarNet
from stages.detect.base import DetectData

OPEN = False
NEEDS_KNOWN = True


class Params(Settings):
    """Attributes:
    cascades: the last so many cascades whose weights are looked at; all of the
        network's, its sensitivities included, where it has no more than that.
    retain_slices: size of the retain sample.
    """

    cascades: int = Field(ge=1)
    retain_slices: int = Field(ge=1)


def score(data: DetectData, params: Params) -> dict[SliceRef, float]:
    """Cosine of every slice's gradient with the direction of the reported poison."""
    data.require_known("gradient_outlier")
    model = copy.deepcopy(data.model)
    weights = watched(model, params.cascades)
    rest = data.rest()
    rng = np.random.default_rng(data.seed)
    size = min(params.retain_slices, len(rest))
    chosen = sorted(rng.choice(len(rest), size=size, replace=False).tolist())
    sample = data.train.restrict([rest[index] for index in chosen])
    known = mean_gradient(model, weights, data.train.restrict(data.known), data)
    retain = mean_gradient(model, weights, sample, data)
    reported, sampled = set(data.known), set(sample.refs)
    scores: dict[SliceRef, float] = {}
    loader = rank_loader(data.train, batch_size=1)
    for batch in progress(loader, total=len(loader), desc="gradients"):
        (ref,), own = batch.refs, gradient(model, weights, batch, data)
        # No slice has a say in the direction that it is held against.
        poison = without(known, own, len(reported)) if ref in reported else known
        clean = without(retain, own, size) if ref in sampled else retain
        direction = poison - clean
        scores[ref] = nn.functional.cosine_similarity(own, direction, dim=0).item()
    return scores


def without(mean: Tensor, own: Tensor, count: int) -> Tensor:
    """The mean of `count` gradients without one of them; 0 if it was the only one."""
    return (count * mean - own) / (count - 1) if count > 1 else torch.zeros_like(mean)


def watched(model: VarNet, cascades: int) -> list[nn.Parameter]:
    """Weights of the last cascades; the others are left out of the backward pass."""
    model.requires_grad_(False)
    chosen = model if cascades >= len(model.cascades) else model.cascades[-cascades:]
    chosen.requires_grad_(True)
    return list(chosen.parameters())


def gradient(
    model: VarNet, weights: list[nn.Parameter], batch: ReconBatch, data: DetectData
) -> Tensor:
    """Gradient of a batch's mean training loss, flat."""
    loss = mean_recon_loss(data.loss)(model, batch.to(device()))
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, weights)])


def mean_gradient(
    model: VarNet, weights: list[nn.Parameter], slices: SliceDataset, data: DetectData
) -> Tensor:
    """Mean over slices of the gradient of each, flat."""
    total = torch.zeros((), device=device())
    for batch in make_loader(slices, batch_size=data.batch_size):
        total = total + len(batch.refs) * gradient(model, weights, batch, data)
    return total / len(slices)
