"""What the relatives of SSD share: importances of both sets, and their ratios."""

import math
from collections.abc import Callable

import numpy as np

from stages.common.slices import SliceDataset
from stages.common.training import mean_recon_loss
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase
from stages.unlearn.importance import Importance, faithful, importance, pooled

# Rounding must not select the weight whose ratio is the threshold itself.
_ABOVE = 1 + 1e-6


def of_both(
    case: UnlearnCase, measure: Callable[[SliceDataset, str], Importance]
) -> tuple[Importance, Importance]:
    """Importances over the known forget set, and over the whole training set.

    Args:
        case: the two parts, each of which is measured once.
        measure: (data set, what the progress line says) -> its importances.
    """
    forget = measure(case.forget, "importance of forget")
    retain = measure(case.retain, "importance of retain")
    everything = pooled([(len(case.forget), forget), (len(case.retain), retain)])
    return forget, everything


def fisher(model: VarNet, case: UnlearnCase) -> tuple[Importance, Importance]:
    """F_f and F_D as `ssd` has them: F = E[g^2], g the gradient of training's loss."""

    def measure(dataset: SliceDataset, desc: str) -> Importance:
        return importance(
            faithful(model, slices=len(dataset)),
            dataset,
            mean_recon_loss(case.loss),
            cost=case.cost,
            desc=desc,
        )

    return of_both(case, measure)


def ratios(forget: Importance, everything: Importance) -> np.ndarray:
    """F_f / F_D of all weights in one list, float64.

    Weights that nothing depends on have no ratio and are left out, as in the code of
    ASSD's authors.
    """
    flat = [
        (forget[name].double().flatten(), everything[name].double().flatten())
        for name in forget
    ]
    return np.concatenate([(f[d > 0] / d[d > 0]).cpu().numpy() for f, d in flat])


def threshold(ratios: np.ndarray, percentile: float) -> float:
    """The ratio above which the rest, 100 - percentile per cent of them, lies.

    Without any ratio it is infinite: there is nothing to dampen.
    """
    if not ratios.size:
        return math.inf
    return float(np.percentile(ratios, percentile)) * _ABOVE


def adaptive_percentile(share: float) -> float:
    """ASSD's rule: 100 - ln(1 + 100 share), share being |D_f*| / |D|; at least 0."""
    return max(0.0, 100 - math.log1p(100 * share))
