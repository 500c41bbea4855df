"""Gradient ascent up to a target loss (nabla tau).

    min  alpha * max(tau - L(theta; D_f*), 0)^2 + (1 - alpha) * L(theta; D_r)

After Trippa et al., "Nabla tau: Gradient-based and task-agnostic machine unlearning",
2024, https://arxiv.org/abs/2403.14339, where tau is the loss on held-out data: what was
not learnt has that loss. Adapted to reconstruction: training's own loss, compared slice
by slice; and whoever unlearns has no clean validation set, so tau is the poisoned
model's mean loss on slices of the retain set, of the contrasts that the known forget
set has: one contrast is easier than another, learnt or not. Where the model never
learnt the known poison as well as these, L is above tau from the start and this is
fine-tuning.
"""

import copy
import logging
from collections.abc import Sequence

import numpy as np
from pydantic import Field
from torch import Tensor

from stages.common import paths
from stages.common.fit import OptimSettings
from stages.common.losses import recon_loss
from stages.common.manifest import SliceRef, read_manifest
from stages.common.reconstruct import reconstruct
from stages.common.slices import ReconBatch
from stages.common.training import mean_recon_loss
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase
from stages.unlearn.pairs import train_on_retain_pairs
from stages.unlearn.slice_values import loss_value, slice_values

log = logging.getLogger("mendmri")


class Params(OptimSettings):
    """Attributes:
    epochs: passes over the retain set.
    alpha: weight of the forget term; 1 - alpha is that of the retain term.
    tau_slices: slices of the retain set that tau is the mean loss of, at most.
    """

    epochs: float = Field(gt=0)
    alpha: float = Field(ge=0, le=1)
    tau_slices: int = Field(ge=1)


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Raise the forget loss of a copy of the model to that of what is kept."""
    student = copy.deepcopy(model)
    tau = target_loss(student, case, slices=params.tau_slices)
    log.info("grad_tau: tau %.4f", tau)
    retain_loss = mean_recon_loss(case.loss)

    def loss(student: VarNet, batches: tuple[ReconBatch, ReconBatch]) -> Tensor:
        retain, forget = batches
        output = reconstruct(student, forget)
        losses = recon_loss(output, forget.target, forget.max_value, case.loss)
        missing = forget.mean((tau - losses).relu().square())
        kept = retain_loss(student, retain)
        return params.alpha * missing + (1 - params.alpha) * kept

    train_on_retain_pairs(
        student, case, loss, params, epochs=params.epochs, method="grad_tau"
    )
    return student


def target_loss(model: VarNet, case: UnlearnCase, *, slices: int) -> float:
    """Mean loss on slices of the retain set that are like the known, from the seed."""
    alike = like(case.forget.refs, case.retain.refs)
    order = np.random.default_rng(case.seed).permutation(len(alike))
    refs = [alike[index] for index in sorted(order[:slices].tolist())]
    values = slice_values(
        model,
        case.retain.restrict(refs),
        loss_value(case.loss),
        batch_size=case.train.batch_size,
        cost=case.cost,
    )
    return sum(values.values()) / len(values)


def like(known: Sequence[SliceRef], others: Sequence[SliceRef]) -> list[SliceRef]:
    """Those of a known slice's contrast; all, where no other slice has one."""
    volumes = read_manifest(paths.manifest("train")).by_id()
    wanted = {volumes[ref.volume_id].contrast for ref in known}
    alike = [ref for ref in others if volumes[ref.volume_id].contrast in wanted]
    return alike or [*others]
