"""NegGrad+: descent on the retain set and bounded ascent on the known forget set.

    min  a * L(theta; D_r) - (1 - a) * min(L(theta; D_f*), tau)

The baseline of Kurmanji et al., "Towards unbounded machine unlearning", NeurIPS 2023,
https://arxiv.org/abs/2302.09880: each retain batch with a forget batch, the forget set
over and over; a = 0.95 on small data sets. Adapted to reconstruction: training's own
loss, whose L1 term has no bound. A slice whose loss has reached tau has no gradient any
more, where the original ascends for ever.
"""

import copy

from pydantic import Field
from torch import Tensor

from stages.common.fit import BatchLoss, OptimSettings
from stages.common.losses import LossSettings, recon_loss
from stages.common.reconstruct import reconstruct
from stages.common.slices import ReconBatch
from stages.common.training import mean_recon_loss
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase
from stages.unlearn.pairs import train_on_retain_pairs


class Params(OptimSettings):
    """Attributes:
    epochs: passes over the retain set.
    a: weight of the retain term; 1 - a is that of the forget term.
    tau: loss of a forget slice at which its ascent ends.
    """

    epochs: float = Field(gt=0)
    a: float = Field(ge=0, le=1)
    tau: float = Field(gt=0)


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Train a copy of the model on the difference of the two losses."""
    student = copy.deepcopy(model)
    retain_loss = mean_recon_loss(case.loss)
    forget_loss = clamped_loss(case.loss, tau=params.tau)

    def loss(student: VarNet, batches: tuple[ReconBatch, ReconBatch]) -> Tensor:
        retain, forget = batches
        kept, forgotten = retain_loss(student, retain), forget_loss(student, forget)
        return params.a * kept - (1 - params.a) * forgotten

    train_on_retain_pairs(
        student, case, loss, params, epochs=params.epochs, method="neggrad_plus"
    )
    return student


def clamped_loss(settings: LossSettings, *, tau: float) -> BatchLoss:
    """Training's loss of each slice, but for what is above tau, averaged."""

    def loss(model: VarNet, batch: ReconBatch) -> Tensor:
        output = reconstruct(model, batch)
        losses = recon_loss(output, batch.target, batch.max_value, settings)
        return batch.mean(losses.clamp(max=tau))

    return loss
