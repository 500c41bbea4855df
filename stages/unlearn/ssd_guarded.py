"""Selective synaptic dampening with guards that keep a VarNet whole.

`ssd` (Foster et al., AAAI 2024, https://arxiv.org/abs/2308.07707) with options of this
project, each of which may be off; with all of them off it is `ssd` to the bit:

    for each tensor t that is not protected, where F_f > alpha_t * F_D:
        theta' = min(lambda_t * F_D / F_f, 1) * theta

- `protect`: `dc_weight`, the scalars that weigh the measured data, which dampening
  would switch off, and `sens_net`, which has learnt coils and not contrasts;
- `per_layer`: alpha_t is a percentile of F_f / F_D within the tensor. One alpha for all
  falls on the few layers whose ratios are large as a whole;
- `tie_lambda`: lambda_t = alpha_t. Dampening then starts at 1 where selection starts,
  instead of jumping to lambda / alpha;
- `healing_steps`: training on the retain set afterwards.

F is as in `ssd`: over single slices, of training's own loss under training's own mask.
"""

import copy
import math
from typing import Literal

import torch
from pydantic import Field

from stages.common.fit import OptimSettings
from stages.common.training import train_reconstruction
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase
from stages.unlearn.dampening import fisher, ratios, threshold
from stages.unlearn.importance import Importance


class Params(OptimSettings):
    """SSD's parameters, the guards, and the optimizer of the healing steps.

    Attributes:
        alpha: how much more important to the forget set a weight must be to be
            dampened; not used with `per_layer`.
        lam: dampening constant lambda; not used with `tie_lambda`.
        protect: parts of the network that keep their weights.
        per_layer: percentile of the ratios within each tensor; None uses `alpha`.
        tie_lambda: whether lambda is alpha.
        healing_steps: optimizer steps on the retain set.
    """

    alpha: float = Field(gt=0)
    lam: float = Field(gt=0)
    protect: tuple[Literal["dc_weight", "sens_net"], ...]
    per_layer: float | None = Field(ge=0, le=100)
    tie_lambda: bool
    healing_steps: int = Field(ge=0)


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Dampen a copy of the model, then heal it."""
    student = copy.deepcopy(model)
    forget, everything = fisher(student, case)
    dampen(student, forget, everything, params)
    if params.healing_steps:
        train_reconstruction(
            student,
            case.retain,
            params,
            case.loss,
            steps=params.healing_steps,
            batch_size=case.train.batch_size,
            seed=case.train.seed,
            cost=case.cost,
            desc="healing",
            scratch=case.scratch / "healing.pt",
        )
    return student


@torch.no_grad()
def dampen(
    model: VarNet, forget: Importance, everything: Importance, params: Params
) -> None:
    """Scale in place the weights that matter more to the forget set."""
    for name, parameter in model.named_parameters():
        if protected(name, params.protect):
            continue
        f, d = forget[name], everything[name]
        alpha = params.alpha
        if params.per_layer is not None:
            alpha = threshold(ratios({name: f}, {name: d}), params.per_layer)
        if math.isinf(alpha):
            continue  # nothing depends on this tensor
        selected = f > alpha * d
        # Selected means f > 0, so the quotient exists wherever it is used.
        factor = ((alpha if params.tie_lambda else params.lam) * d / f).clamp(max=1)
        parameter.mul_(torch.where(selected, factor, torch.ones_like(factor)))


def protected(name: str, parts: tuple[str, ...]) -> bool:
    """Whether a parameter belongs to a protected part: `sens_net`, or a `dc_weight`."""
    return not set(name.split(".")).isdisjoint(parts)
