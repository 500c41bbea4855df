"""Bad-teacher distillation, in the form of the paper (section 3.2, item 3).

A biased teacher B is overfit to the known forget set D_f*; the student subtracts the
signal that it learnt too well. With T0 the poisoned model and d the training loss:

    on D_f*:  d(S(x), T0(x) - gamma * (B(x) - T0(x)))
    on D_r:   d(S(x), T0(x))
    L = (1 - retain_weight) * forget term + retain_weight * retain term

After Chundawat et al., "Can bad teaching induce forgetting?", AAAI 2023
(https://arxiv.org/abs/2205.08096), whose incompetent teacher is random and whose
divergence is between class probabilities; a reconstruction has images instead, and a
random network's image is no direction to follow. T0 is the poisoned model's own output,
so the retain term keeps what undiscovered poison taught.
"""

import copy
from collections.abc import Iterator

import torch
from pydantic import Field
from torch import Tensor

from stages.common.fit import OptimSettings, fit
from stages.common.losses import recon_loss
from stages.common.reconstruct import reconstruct
from stages.common.runtime import device
from stages.common.slices import ReconBatch, SliceLoader, make_loader
from stages.common.training import mean_recon_loss, steps_for
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase


class Params(OptimSettings):
    """The student's optimizer, and both teachers.

    Attributes:
        epochs: passes of the student over the known forget set.
        teacher_epochs: passes that overfit the teacher to the known forget set.
        teacher_lr: peak learning rate of the teacher.
        gamma: how much of the teacher's surplus is subtracted.
        retain_weight: weight of the retain term.
    """

    epochs: float = Field(gt=0)
    teacher_epochs: float = Field(gt=0)
    teacher_lr: float = Field(gt=0, le=1)
    gamma: float = Field(ge=0)
    retain_weight: float = Field(ge=0, le=1)


class PairedLoader:
    """A forget batch with a retain batch: one pass over forget, retain drawn anew."""

    def __init__(self, forget: SliceLoader, retain: SliceLoader) -> None:
        self.forget = forget
        self.retain = retain

    def set_epoch(self, epoch: int) -> None:
        self.forget.set_epoch(epoch)
        self.retain.set_epoch(epoch)

    def __len__(self) -> int:
        return len(self.forget)

    def __iter__(self) -> Iterator[tuple[ReconBatch, ReconBatch]]:
        retain = iter(self.retain)
        for forget in self.forget:
            following = next(retain, None)
            if following is None:
                retain = iter(self.retain)
                following = next(retain)
            yield forget, following


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Overfit a teacher to the known forget set, then subtract what it adds."""
    original = copy.deepcopy(model).to(device()).eval().requires_grad_(False)
    teacher = overfit(model, case, params).eval().requires_grad_(False)
    student = copy.deepcopy(model)
    size = case.train.batch_size
    loader = PairedLoader(
        make_loader(case.forget, batch_size=size, shuffle_seed=case.seed),
        make_loader(case.retain, batch_size=size, shuffle_seed=case.seed),
    )

    def loss(student: VarNet, batches: tuple[ReconBatch, ReconBatch]) -> Tensor:
        forget, retain = batches
        with torch.no_grad():
            before = reconstruct(original, forget)
            surplus = reconstruct(teacher, forget) - before
            wanted = (before - params.gamma * surplus).clamp_min(0)
            kept = reconstruct(original, retain)
        terms = []
        for batch, image in ((forget, wanted), (retain, kept)):
            output = reconstruct(student, batch)
            terms.append(
                batch.mean(recon_loss(output, image, batch.max_value, case.loss))
            )
        weight = params.retain_weight
        return (1 - weight) * terms[0] + weight * terms[1]

    steps = steps_for(params.epochs, len(case.forget), size)
    before = case.cost.slices_forward_backward
    fit(
        student,
        loader,
        loss,
        params,
        steps=steps,
        cost=case.cost,
        desc="student",
        scratch=case.scratch / "student.pt",
    )
    # Original and teacher look at each forget batch, the original at each retain batch.
    passes = steps / len(loader)
    case.cost.slices_forward += case.cost.slices_forward_backward - before
    case.cost.slices_forward += round(passes * len(case.forget))
    return student


def overfit(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Train a copy of the model on the known forget set alone."""
    teacher = copy.deepcopy(model)
    size = case.train.batch_size
    fit(
        teacher,
        make_loader(case.forget, batch_size=size, shuffle_seed=case.seed),
        mean_recon_loss(case.loss),
        params.model_copy(update={"lr": params.teacher_lr}),
        steps=steps_for(params.teacher_epochs, len(case.forget), size),
        cost=case.cost,
        desc="bad teacher",
        scratch=case.scratch / "teacher.pt",
    )
    return teacher.to(device())
