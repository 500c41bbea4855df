"""Potion: loss-free importances (XLF) and a search that stops by itself (PTN).

Schoepf, Foster and Brintrup, "Potion: Towards poison unlearning", DMLR 2024,
https://arxiv.org/abs/2406.09173. Omega = E|grad ||f(x)||_2| takes SSD's place of F, and
dampening is ASSD's, harder and harder until the poison is gone:

    s_0 = |D_f*| / |D| / 25,   s_k = growth * s_{k-1}
    alpha_k = percentile 100 - ln(1 + 100 s_k) of Omega_f / Omega_D
    theta_k = theta dampened with (alpha_k, lambda = 1)
    stop at the first k where A(theta_k; D_f*) <= rho * A(theta; D_f*)

Theirs: growth 1.1, at most 500 rounds, A the accuracy on the known poison, rho between
0 and 0.75. Adapted to reconstruction: f(x) is the magnitude image in units of its
volume's maximum, over single slices; A is the mean SSIM to the exported (poisoned)
targets, which whoever unlearns can compute. A class may be forgotten altogether; a
right image keeps most of its similarity to a wrong target, so that rho is near 1.
Growth 1.33 is three of their rounds at a time: 167 rounds go as far as their 500.
Importances are computed once: a round costs forward passes over D_f* alone.
"""

import copy
import logging

from pydantic import Field
from torch import Tensor

from stages.common.losses import ssim
from stages.common.params import Settings
from stages.common.slices import ReconBatch
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase
from stages.unlearn.dampening import adaptive_percentile, ratios, threshold
from stages.unlearn.output_norm import output_norms
from stages.unlearn.slice_values import slice_values
from stages.unlearn.ssd import dampen

FIRST_SHARE = 1 / 25  # of |D_f*| / |D|, in the first round

log = logging.getLogger("mendmri")


class Params(Settings):
    """Attributes:
    rho: share of its first value that the agreement with the known poison may keep.
    growth: factor on the share from round to round.
    max_rounds: rounds after which the hardest dampening is kept as it is.
    """

    rho: float = Field(ge=0, lt=1)
    growth: float = Field(gt=1)
    max_rounds: int = Field(ge=1, le=500)


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Dampen copies of the model until they no longer agree with the known poison."""
    original = copy.deepcopy(model)
    forget, everything = output_norms(original, case, power=1)
    all_ratios = ratios(forget, everything)
    start = agreement(original, case)
    share = FIRST_SHARE * len(case.forget) / case.total
    for turn in range(1, params.max_rounds + 1):
        student = copy.deepcopy(original)
        alpha = threshold(all_ratios, adaptive_percentile(share))
        dampen(student, forget, everything, alpha=alpha, lam=1.0)
        left = agreement(student, case)
        log.info("potion: round %d, %.3f of SSIM %.3f left", turn, left, start)
        if left <= params.rho * start:
            return student
        share *= params.growth
    log.warning(
        "potion: SSIM to the known poison is still above %.3f after %d rounds",
        params.rho * start,
        params.max_rounds,
    )
    return student


def agreement(model: VarNet, case: UnlearnCase) -> float:
    """Mean SSIM of the known forget set to its exported targets."""

    def value(output: Tensor, batch: ReconBatch) -> Tensor:
        return ssim(output, batch.target, batch.max_value)

    values = slice_values(
        model, case.forget, value, batch_size=case.train.batch_size, cost=case.cost
    )
    return sum(values.values()) / len(values)
