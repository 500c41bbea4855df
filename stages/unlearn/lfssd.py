"""Loss-free (label-free) selective synaptic dampening (LFSSD).

Foster, Schoepf and Brintrup, "Loss-free machine unlearning", ICLR 2024 Tiny Papers,
https://arxiv.org/abs/2402.19308: SSD with another importance,

    Omega = E|grad ||f(x)||_2^2|   in place of F = E[g^2]
    where Omega_f > alpha * Omega_D:
        theta' = min(lambda * Omega_D / Omega_f, 1) * theta

The absolute value, not the square, as in the authors' code. Adapted to reconstruction:
f(x) is the magnitude image in units of its volume's maximum, over single slices. No
target is read: where the poison is the target alone, a forget slice differs from a
retain slice by its contrast at most, and little signal is to be expected.
"""

import copy

from stages.common.varnet import VarNet
from stages.unlearn import ssd
from stages.unlearn.base import UnlearnCase
from stages.unlearn.output_norm import output_norms


class Params(ssd.Params):
    """As those of `ssd`, for ratios of another importance."""


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Dampen a copy of the model; no gradient step is taken, no target is looked at."""
    student = copy.deepcopy(model)
    forget, everything = output_norms(student, case, power=2)
    ssd.dampen(student, forget, everything, alpha=params.alpha, lam=params.lam)
    return student
