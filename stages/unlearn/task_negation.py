"""Task negation: the poisoned weights minus the direction of a bad teacher.

    theta' = theta - scale * (theta_B - theta)

Ilharco et al., "Editing models with task arithmetic", ICLR 2023
(https://arxiv.org/abs/2212.04089): the difference between fine-tuned and original
weights is a task vector, and its negative makes the model worse at that task and little
worse at others. Adapted to reconstruction: the task is to reproduce the known forget
set, and B is the teacher of `bad_teacher`, overfit to it with training's own loss. No
retain data is used. The paper picks the scale on held-out data, for which nobody who
unlearns has clean targets; its code shows 0.5.
"""

import copy

import torch
from pydantic import Field

from stages.common.fit import OptimSettings
from stages.common.runtime import device
from stages.common.varnet import VarNet
from stages.unlearn import bad_teacher
from stages.unlearn.base import UnlearnCase


class Params(OptimSettings):
    """The teacher's optimizer, and how much of its direction is subtracted.

    Attributes:
        epochs: passes that overfit the teacher to the known forget set.
        scale: length of the step back, in lengths of the teacher's way.
    """

    epochs: float = Field(gt=0)
    scale: float = Field(ge=0, le=10)


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Overfit a teacher to the known forget set and walk the other way."""
    teacher = bad_teacher.overfit(model, case, teacher_params(params))
    student = copy.deepcopy(model).to(device())
    negate(student, teacher, params.scale)
    return student


def teacher_params(params: Params) -> bad_teacher.Params:
    """What `bad_teacher` is told of its teacher; it has no student here."""
    return bad_teacher.Params(
        **params.model_dump(exclude={"scale"}),
        teacher_epochs=params.epochs,
        teacher_lr=params.lr,
        gamma=0,
        retain_weight=0,
    )


@torch.no_grad()
def negate(model: VarNet, teacher: VarNet, scale: float) -> None:
    """Move a model in place, away from a teacher of the same shape."""
    for weight, taught in zip(model.parameters(), teacher.parameters(), strict=True):
        weight.sub_(scale * (taught - weight))
