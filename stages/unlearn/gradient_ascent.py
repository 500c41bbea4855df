"""Gradient ascent on the loss of the known forget set.

    theta' = theta + lr * grad L(theta; D_f*)

Paper, section 3.2, item 4 (after Trippa et al., https://arxiv.org/abs/2403.14339).
Plain gradient steps, the norm of each clipped at `clip_norm`, so that the whole walk is
at most steps x lr x clip_norm long: (1 - SSIM) is bounded, the L1 term is not.
"""

import copy

from pydantic import Field
from torch import Tensor

from stages.common.fit import OptimSettings, fit, sgd
from stages.common.slices import ReconBatch, make_loader
from stages.common.training import mean_recon_loss, steps_for
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase


class Params(OptimSettings):
    """Attributes:
    epochs: passes over the known forget set.
    """

    epochs: float = Field(gt=0)


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Climb the loss of the known forget set from a copy of the model."""
    student = copy.deepcopy(model)
    descent = mean_recon_loss(case.loss)

    def ascent(model: VarNet, batch: ReconBatch) -> Tensor:
        return -descent(model, batch)

    batch_size = case.train.batch_size
    fit(
        student,
        make_loader(case.forget, batch_size=batch_size, shuffle_seed=case.seed),
        ascent,
        params,
        steps=steps_for(params.epochs, len(case.forget), batch_size),
        cost=case.cost,
        desc="gradient_ascent",
        scratch=case.scratch / "ascent.pt",
        make_optimizer=sgd,
    )
    return student
