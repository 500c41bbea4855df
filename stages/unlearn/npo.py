"""Negative preference optimisation (NPO): an ascent that runs out by itself.

    min  gamma * (-2 / beta) log sigmoid(beta (L(theta; x, y) - L_0(x, y)))  over D_f*
         + alpha * L(theta; D_r)

Zhang, Lin, Bai and Mei, "Negative preference optimization: From catastrophic collapse
to effective unlearning", 2024, https://arxiv.org/abs/2404.05868, in its variant with a
retain term. Theirs has log(pi / pi_ref) of a text, which is L_0 - L. Adapted to
reconstruction: L is training's own loss of a slice, L_0 that of the poisoned model on
the same slice. The forget term's derivative by L is

    -2 sigmoid(-beta (L - L_0)):   -1 at the start, as in plain ascent, and towards 0 as
                                   the loss grows

so that after a rise of a few 1 / beta the retain term is all that is left. (Alone, the
forget term would go on under Adam, which makes up for small gradients.) The loss of a
reconstruction is of the order of 1 and the log-likelihood of a text of 100, hence a
beta far above theirs (0.1).
"""

import copy

from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from stages.common.fit import OptimSettings, fit
from stages.common.losses import recon_loss
from stages.common.reconstruct import reconstruct
from stages.common.slices import ReconBatch
from stages.common.training import mean_recon_loss, steps_for
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase
from stages.unlearn.pairs import forget_pairs
from stages.unlearn.slice_values import loss_value, slice_values, values_of


class Params(OptimSettings):
    """Attributes:
    epochs: passes over the known forget set.
    beta: inverse of the rise of the loss after which the ascent runs out.
    gamma: weight of the forget term.
    alpha: weight of the retain term.
    """

    epochs: float = Field(gt=0)
    beta: float = Field(gt=0)
    gamma: float = Field(ge=0)
    alpha: float = Field(ge=0)


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Raise the forget loss of a copy of the model above that of the model."""
    student = copy.deepcopy(model)
    size = case.train.batch_size
    start = slice_values(
        student, case.forget, loss_value(case.loss), batch_size=size, cost=case.cost
    )
    retain_loss = mean_recon_loss(case.loss)

    def loss(student: VarNet, batches: tuple[ReconBatch, ReconBatch]) -> Tensor:
        forget, retain = batches
        output = reconstruct(student, forget)
        losses = recon_loss(output, forget.target, forget.max_value, case.loss)
        ascent = preference(losses, values_of(forget, start), beta=params.beta)
        kept = retain_loss(student, retain)
        return params.gamma * forget.mean(ascent) + params.alpha * kept

    fit(
        student,
        forget_pairs(case),
        loss,
        params,
        steps=steps_for(params.epochs, len(case.forget), size),
        cost=case.cost,
        desc="npo",
        scratch=case.scratch / "npo.pt",
    )
    return student


def preference(losses: Tensor, start: Tensor, *, beta: float) -> Tensor:
    """-(2 / beta) log sigmoid(beta (L - L_0)): falls as L rises, towards 0.

    Args:
        losses: (N,) L, one per slice.
        start: (N,) L_0.
        beta: inverse temperature.

    Returns:
        (N,), > 0.
    """
    return -2 / beta * logsigmoid(beta * (losses - start))
