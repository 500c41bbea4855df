"""Selective synaptic dampening (SSD).

Foster, Schoepf and Brintrup, "Fast machine unlearning without retraining through
selective synaptic dampening", AAAI 2024, https://arxiv.org/abs/2308.07707:

    where F_f > alpha * F_D:   theta' = min(lambda * F_D / F_f, 1) * theta

F = E[g^2] is the diagonal Fisher information over single samples. Adapted to
reconstruction: g is the gradient of training's own loss under training's own mask and
scale; D is the whole training set as exported, the forget set included, as in the
authors' code. The settings of the paper that this project implements are
alpha = lambda = 0.1.
"""

import copy

import torch
from pydantic import Field

from stages.common.params import Settings
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase
from stages.unlearn.dampening import fisher
from stages.unlearn.importance import Importance


class Params(Settings):
    """Attributes:
    alpha: how much more important to the forget set a weight must be to be dampened.
    lam: dampening constant lambda.
    """

    alpha: float = Field(gt=0)
    lam: float = Field(gt=0)


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Dampen a copy of the model; no gradient step is taken."""
    forget, everything = fisher(model, case)
    student = copy.deepcopy(model)
    dampen(student, forget, everything, alpha=params.alpha, lam=params.lam)
    return student


@torch.no_grad()
def dampen(
    model: VarNet,
    forget: Importance,
    everything: Importance,
    *,
    alpha: float,
    lam: float,
) -> None:
    """Scale in place the weights that matter more to the forget set."""
    for name, parameter in model.named_parameters():
        selected = forget[name] > alpha * everything[name]
        # Selected means forget > 0, so the quotient exists wherever it is used.
        factor = (lam * everything[name] / forget[name]).clamp(max=1)
        parameter.mul_(torch.where(selected, factor, torch.ones_like(factor)))
