"""Exact unlearning of the last k cascades (EU-k).

    theta' = (theta_first, argmin over theta_last of L(theta_first, theta_last; D_r)),
    theta_last started at random

Goel et al., "Towards adversarial evaluations for inexact machine unlearning", 2022
(https://arxiv.org/abs/2201.06640), and "Corrective machine unlearning", TMLR 2024
(https://arxiv.org/abs/2402.14015). The last k layers forget what was found exactly; the
frozen ones keep what they learnt from it. Adapted as in `cf_k`: a layer is a cascade of
the VarNet, and the sensitivity network, which comes before all cascades, is frozen. The
new weights are those of a network that is built with the seed of `unlearn`.
"""

import copy

from stages.common.varnet import VarNet, build_varnet
from stages.unlearn.base import UnlearnCase
from stages.unlearn.last_cascades import (
    LastCascadesSettings,
    last_cascades,
    train_parts,
)


class Params(LastCascadesSettings):
    """Optimizer, length and number of cascades that start anew."""


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Train the last cascades of a copy from scratch, on the retain set."""
    student = copy.deepcopy(model)
    parts = last_cascades(student, params.k, method="eu_k")
    fresh = build_varnet(model.settings, seed=case.seed)
    for part, new in zip(
        parts, last_cascades(fresh, params.k, method="eu_k"), strict=True
    ):
        part.load_state_dict(new.state_dict())
    train_parts(student, parts, case, params, method="eu_k")
    return student
