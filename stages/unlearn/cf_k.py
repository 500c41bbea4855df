"""Catastrophic forgetting in the last k cascades (CF-k).

    theta' = (theta_first, argmin over theta_last of L(theta_first, theta_last; D_r)),
    started at the poisoned theta

Goel et al., "Towards adversarial evaluations for inexact machine unlearning", 2022
(https://arxiv.org/abs/2201.06640), and "Corrective machine unlearning", TMLR 2024
(https://arxiv.org/abs/2402.14015). There the last k layers of a classifier are trained
and the others frozen; here a layer is a cascade of the VarNet, its data consistency
weight included. The sensitivity network comes before all cascades: it is frozen unless
`sens_net` says otherwise. With all cascades and `sens_net` this is `finetune`, whose
length is counted in the same way.
"""

import copy

from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase
from stages.unlearn.last_cascades import (
    LastCascadesSettings,
    last_cascades,
    train_parts,
)


class Params(LastCascadesSettings):
    """Attributes:
    sens_net: train the sensitivity network too.
    """

    sens_net: bool


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Go on training the last cascades of a copy of the model on the retain set."""
    student = copy.deepcopy(model)
    parts = last_cascades(student, params.k, method="cf_k")
    if params.sens_net:
        parts.append(student.sens_net)
    train_parts(student, parts, case, params, method="cf_k")
    return student
