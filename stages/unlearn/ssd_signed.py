"""Signed dampening: scale down what does harm, by the sign that SSD squares away.

This project's own member of SSD's family: every weight is multiplied once by a factor
in [0, 1], no optimizer takes a step. With J as `mend` trains on,

    J = L(theta; D_r - D_s) + weight * l(theta; D_s + D_f*),   g = grad J
    s_i = clip(kappa * g_i / (sqrt(F_i) * theta_i), 0, 1)
    theta'_i = (1 - s_i) * theta_i

L is training's own loss on what is trusted; l, which looks at no target, how badly
held-out and central sampled columns of doubtful slices are predicted; D_s the suspects
(`mend` has both); F = E[g^2] of L over trusted slices, SSD's importance.

SSD ranks weights by E[g^2] over the forget set, in which the sign of g is lost. In a
VarNet that ranking says which weights matter, not whether less of them is better: to
first order dampening lowers J for the half of the weights with g_i * theta_i > 0 and
raises it for the others. Here the first half alone is dampened, the more the less a
weight matters to what is retained.

kappa is searched on the export, forward passes alone: it doubles from `first` for as
long as J goes down. Where it never does, the model stays as it was.
"""

import copy
import logging
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor

from stages.common.devices import sum_over_ranks, world_size
from stages.common.losses import recon_loss
from stages.common.manifest import SliceRef
from stages.common.params import Settings
from stages.common.reconstruct import reconstruct
from stages.common.runtime import device, progress
from stages.common.sampled_lines import lines_error
from stages.common.slices import ReconBatch, SliceDataset, rank_loader
from stages.common.training import mean_recon_loss
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase
from stages.unlearn.importance import (
    Importance,
    faithful,
    importance,
    require_finite,
)
from stages.unlearn.mend import held_out, residuals, suspects
from stages.unlearn.slice_values import per_slice

# Of a search that doubles: everything is dampened long before.
ROUNDS = 20

log = logging.getLogger("mendmri")


class Params(Settings):
    """The objective, as `mend` has it, and the search.

    Attributes:
        sift: whether suspects are taken out of the retain set.
        weight: of the error on measured lines.
        held_out: share of a doubtful slice's sampled columns outside of the centre.
        centre: weight of the centre's columns beside those.
        first: the smallest kappa.
        judged: slices of each kind at most that F and the search look at.
    """

    sift: bool
    weight: float = Field(gt=0)
    held_out: float = Field(gt=0, lt=1)
    centre: float = Field(ge=0)
    first: float = Field(gt=0)
    judged: int = Field(ge=1)


class Part(NamedTuple):
    """One term of J: the weighted mean of a value over slices."""

    dataset: SliceDataset
    weight: float
    measure: Callable[[VarNet, ReconBatch], Tensor]


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Dampen a copy of the model; no gradient step is taken.

    Raises:
        ValueError: every slice is doubtful, or a gradient is not finite.
    """
    # What is measured lies on the device, and so must what it is multiplied with.
    poisoned = student = copy.deepcopy(model).to(device())
    found = suspects(residuals(student, case), case.forget.refs) if params.sift else []
    log.info("ssd_signed: %d of %d retain suspected", len(found), len(case.retain))
    told = set(found)
    trusted = [ref for ref in case.retain.refs if ref not in told]
    if not trusted:
        raise ValueError(
            "ssd_signed: every slice of the retain set contradicts its own k-space: "
            "are targets and k-space of the same scans?"
        )
    objective = Objective(case, params, trusted, [*case.forget.refs, *found])
    gradient = objective.gradient(student)
    everywhere = objective.importance(student)
    before = best = objective.value(student)
    kappa = params.first
    for _ in range(ROUNDS):
        dampened = copy.deepcopy(poisoned)
        dampen(dampened, gradient, everywhere, kappa=kappa)
        value = objective.value(dampened)
        log.info("ssd_signed: kappa %.3g: J %.5g, %.5g before", kappa, value, before)
        if not value < best:
            break
        best, student = value, dampened
        kappa *= 2
    return student


class Objective:
    """J, its gradient, and the importances of what is trusted.

    Attributes:
        parts: (slices, weight of their mean, (model, batch) -> (N,) values).
        judged: the same with fewer slices.
    """

    def __init__(
        self,
        case: UnlearnCase,
        params: Params,
        trusted: list[SliceRef],
        doubtful: list[SliceRef],
    ) -> None:
        self._case = case

        def loss(model: VarNet, batch: ReconBatch) -> Tensor:
            output = reconstruct(model, batch)
            return recon_loss(output, batch.target, batch.max_value, case.loss)

        def lines(model: VarNet, batch: ReconBatch) -> Tensor:
            held = held_out(batch, share=params.held_out, seed=(case.seed,))
            return lines_error(model, batch, held, centre=params.centre)

        def parts(most: int) -> list[Part]:
            return [
                Part(case.retain.restrict(spread(trusted, most)), 1.0, loss),
                Part(
                    case.retain.restrict(spread(doubtful, most)), params.weight, lines
                ),
            ]

        self.parts = parts(case.total)
        self.judged = parts(params.judged)

    def value(self, model: VarNet) -> float:
        """J on the judged slices, forward passes alone."""
        total = 0.0
        for dataset, weight, measure in self.judged:
            values = per_slice(
                model,
                dataset,
                measure,
                batch_size=self._case.train.batch_size,
                cost=self._case.cost,
            )
            total += weight * fmean(values.values())
        return total

    def gradient(self, model: VarNet) -> Importance:
        """The gradient of J over all slices, signs kept.

        Returns:
            For each parameter name a double tensor of its shape, the same on each rank.

        Raises:
            ValueError: it is not finite.
        """
        model = faithful(model, slices=self._case.total).to(device()).train()
        weights = dict(model.named_parameters())
        sums = {
            name: torch.zeros_like(w, dtype=torch.double) for name, w in weights.items()
        }
        for dataset, weight, measure in self.parts:
            loader = rank_loader(dataset, batch_size=self._batch_size)
            for batch in progress(
                loader, total=len(loader), desc="gradient", unit="batch"
            ):
                value = weight * measure(model, batch.to(device())).sum() / len(dataset)
                found = torch.autograd.grad(value, list(weights.values()))
                for total, part in zip(sums.values(), found, strict=True):
                    total += part
            self._case.cost.slices_forward_backward += len(dataset)
        gradient = {name: sum_over_ranks(total) for name, total in sums.items()}
        for name, total in gradient.items():
            require_finite(total, f"gradient: {name}")
        return gradient

    def importance(self, model: VarNet) -> Importance:
        """F = E[g^2] of training's loss over judged slices of what is trusted."""
        dataset = self.judged[0].dataset
        return importance(
            faithful(model, slices=len(dataset)),
            dataset,
            mean_recon_loss(self._case.loss),
            cost=self._case.cost,
            desc="importance of trusted",
        )

    @property
    def _batch_size(self) -> int:
        """No more at a time than training puts on a device."""
        return max(1, self._case.train.batch_size // world_size())


def spread(refs: Sequence[SliceRef], most: int) -> list[SliceRef]:
    """At most so many of them, evenly spaced."""
    count = min(most, len(refs))
    return [refs[index * len(refs) // count] for index in range(count)]


@torch.no_grad()
def dampen(
    model: VarNet, gradient: Importance, everywhere: Importance, *, kappa: float
) -> None:
    """Scale in place the weights of which less is better, to first order.

    Args:
        model: the network.
        gradient: of the objective, signs kept.
        everywhere: E[g^2] of what is to be kept; a weight without any stays.
        kappa: how far, as a step of kappa * g / sqrt(F) towards zero.
    """
    for name, weight in model.named_parameters():
        scale = everywhere[name].double().sqrt() * weight
        share = (kappa * gradient[name] / scale).clamp(0, 1)
        weight.mul_(torch.where(scale == 0, 1, 1 - share).to(weight.dtype))
