"""SCRUB: a student that leaves its teacher on the forget set and stays on the rest.

Kurmanji, Triantafillou, Hayes and Triantafillou, "Towards unbounded machine
unlearning", NeurIPS 2023, https://arxiv.org/abs/2302.09880. With T0 the poisoned model,
phases by turns, a descent first and last:

    min over D_r:    gamma * L(S(x), y) + alpha * d(S(x), T0(x))
    max over D_f*:   min(d(S(x), T0(x)), budget)

Theirs: gamma 0.99, alpha 0.001, two ascents. Adapted to reconstruction: d is training's
own loss between two images, where theirs is a divergence of class probabilities. L1 is
not bounded, so a slice that is `budget` away from T0 no longer drives the ascent.
Theirs starts with an ascent; but at S = T0 the gradient of d is zero, and near it
small: the first phase is a descent, and ascents take plain gradient steps, since Adam
would make whole steps of rounding errors. T0 is the poisoned model: alpha keeps what
undiscovered poison taught.
"""

import copy

import torch
from pydantic import Field
from torch import Tensor

from stages.common.fit import BatchLoss, OptimSettings, fit, sgd
from stages.common.losses import LossSettings, recon_loss
from stages.common.reconstruct import reconstruct
from stages.common.runtime import device
from stages.common.slices import ReconBatch, make_loader
from stages.common.training import steps_for
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase


class Params(OptimSettings):
    """The optimizer of the descents, started anew in each, and the two objectives.

    Attributes:
        epochs: passes over the retain set in each descent.
        max_rounds: ascents; there is one descent more.
        max_epochs: passes over the known forget set in each ascent.
        max_lr: peak rate of the ascents' plain gradient steps.
        gamma: weight of the training loss in a descent.
        alpha: weight of the distance to the poisoned model in a descent.
        budget: distance to the poisoned model, in units of the loss, at which a slice
            no longer drives the ascent.
    """

    epochs: float = Field(gt=0)
    max_rounds: int = Field(ge=0, le=100)
    max_epochs: float = Field(gt=0)
    max_lr: float = Field(gt=0, le=1)
    gamma: float = Field(ge=0)
    alpha: float = Field(ge=0)
    budget: float = Field(gt=0)


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Descend on the retain set and ascend on the known forget set by turns."""
    teacher = copy.deepcopy(model).to(device()).eval().requires_grad_(False)
    student = copy.deepcopy(model)
    down = descent(teacher, case.loss, gamma=params.gamma, alpha=params.alpha)
    up = ascent(teacher, case.loss, budget=params.budget)
    before = case.cost.slices_forward_backward

    size = case.train.batch_size
    for turn in range(params.max_rounds + 1):
        # Every phase has an order of its own.
        seed = case.seed + turn
        if turn:
            fit(
                student,
                make_loader(case.forget, batch_size=size, shuffle_seed=seed),
                up,
                params.model_copy(update={"lr": params.max_lr}),
                steps=steps_for(params.max_epochs, len(case.forget), size),
                cost=case.cost,
                desc=f"ascent {turn}",
                scratch=case.scratch / f"max-{turn}.pt",
                make_optimizer=sgd,
            )
        fit(
            student,
            make_loader(case.retain, batch_size=size, shuffle_seed=seed),
            down,
            params,
            steps=steps_for(params.epochs, len(case.retain), size),
            cost=case.cost,
            desc=f"descent {turn}",
            scratch=case.scratch / f"min-{turn}.pt",
        )
    # The teacher looks at each slice that the student does.
    case.cost.slices_forward += case.cost.slices_forward_backward - before
    return student


def descent(
    teacher: VarNet, settings: LossSettings, *, gamma: float, alpha: float
) -> BatchLoss:
    """gamma * L + alpha * d, averaged over a batch."""

    def loss(student: VarNet, batch: ReconBatch) -> Tensor:
        output = reconstruct(student, batch)
        task = recon_loss(output, batch.target, batch.max_value, settings)
        return batch.mean(
            gamma * task + alpha * _distance(output, teacher, batch, settings)
        )

    return loss


def ascent(teacher: VarNet, settings: LossSettings, *, budget: float) -> BatchLoss:
    """-min(d, budget), averaged over a batch."""

    def loss(student: VarNet, batch: ReconBatch) -> Tensor:
        output = reconstruct(student, batch)
        distance = _distance(output, teacher, batch, settings)
        return -batch.mean(distance.clamp(max=budget))

    return loss


def _distance(
    output: Tensor, teacher: VarNet, batch: ReconBatch, settings: LossSettings
) -> Tensor:
    """(N,) training's loss of the output, with the teacher's image for a target."""
    with torch.no_grad():
        image = reconstruct(teacher, batch)
    return recon_loss(output, image, batch.max_value, settings)
