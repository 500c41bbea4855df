"""Adaptive selective synaptic dampening (ASSD): SSD without anything to tune.

Schoepf, Foster and Brintrup, "Parameter-tuning-free data entry error unlearning with
adaptive selective synaptic dampening", 2024, https://arxiv.org/abs/2402.10098:

    where F_f > alpha * F_D:   theta' = min(lambda * F_D / F_f, 1) * theta
    lambda = 1,  alpha = percentile p of F_f / F_D over all weights
    p = 100 - ln(1 + 100 |D_f*| / |D|)

Adapted to reconstruction as `ssd` is: F is over single slices, of training's own loss
under training's own mask. The ratio does not depend on the loss's scale.
"""

import copy

from stages.common.params import Settings
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase
from stages.unlearn.dampening import adaptive_percentile, fisher, ratios, threshold
from stages.unlearn.ssd import dampen


class Params(Settings):
    """None: the sizes of the sets decide."""


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:  # noqa: ARG001
    """Dampen a copy of the model; no gradient step is taken."""
    student = copy.deepcopy(model)
    forget, everything = fisher(student, case)
    percentile = adaptive_percentile(len(case.forget) / case.total)
    alpha = threshold(ratios(forget, everything), percentile)
    dampen(student, forget, everything, alpha=alpha, lam=1.0)
    return student
