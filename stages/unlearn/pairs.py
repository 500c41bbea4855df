"""Batches of both sets for one step."""

from collections.abc import Callable

from torch import Tensor

from stages.common.fit import OptimSettings, fit
from stages.common.slices import ReconBatch, make_loader
from stages.common.training import steps_for
from stages.common.varnet import VarNet
from stages.unlearn.bad_teacher import PairedLoader
from stages.unlearn.base import UnlearnCase


def forget_pairs(case: UnlearnCase) -> PairedLoader:
    """(forget, retain): one pass over the known forget set, retain drawn anew."""
    size = case.train.batch_size
    return PairedLoader(
        make_loader(case.forget, batch_size=size, shuffle_seed=case.seed),
        make_loader(case.retain, batch_size=size, shuffle_seed=case.seed),
    )


def retain_pairs(case: UnlearnCase) -> PairedLoader:
    """(retain, forget): one pass over the retain set, forget over and over."""
    size = case.train.batch_size
    # The first set is the one that is passed once.
    return PairedLoader(
        make_loader(case.retain, batch_size=size, shuffle_seed=case.seed),
        make_loader(case.forget, batch_size=size, shuffle_seed=case.seed),
    )


def train_on_retain_pairs(
    model: VarNet,
    case: UnlearnCase,
    loss: Callable[[VarNet, tuple[ReconBatch, ReconBatch]], Tensor],
    optim: OptimSettings,
    *,
    epochs: float,
    method: str,
) -> None:
    """Train a model in place on (retain, forget) batches.

    Args:
        model: what is trained.
        case: both sets, and what counts the cost.
        loss: (model, (retain, forget)) -> scalar.
        optim: rate, weight decay and clipping.
        epochs: passes over the retain set.
        method: names the progress line and the file that a resumed run picks up.
    """
    fit(
        model,
        retain_pairs(case),
        loss,
        optim,
        steps=steps_for(epochs, len(case.retain), case.train.batch_size),
        cost=case.cost,
        desc=method,
        scratch=case.scratch / f"{method}.pt",
    )
