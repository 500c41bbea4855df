"""Fine-tuning the poisoned model on the retain set until it has converged.

    theta' = argmin L(theta; D_r), started at the poisoned theta, run to convergence

What the paper did (section 5.2): "finetuning methods were run to convergence on the
retain set, starting from the poisoned checkpoint". It gives no length. Here it is that
of training from scratch, which is long enough to converge from random weights.

It differs from `finetune` in length and rate: as many passes as training had, counted
over the retain set, where `finetune` takes a few and counts them as the control
`continue` does. From `retrain`, whose steps it takes, it differs in its start and rate;
its cost is that of retraining, so that only its result can speak for it.
"""

import copy

from pydantic import Field

from stages.common.fit import OptimSettings
from stages.common.training import steps_for, train_reconstruction
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase


class Params(OptimSettings):
    """Attributes:
    epochs: passes over the retain set; null takes as many as training had.
    """

    epochs: float | None = Field(gt=0)


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Go on training a copy of the model on the retain set, as long as training."""
    student = copy.deepcopy(model)
    epochs = case.train.epochs if params.epochs is None else params.epochs
    batch_size = case.train.batch_size
    train_reconstruction(
        student,
        case.retain,
        params,
        case.loss,
        steps=steps_for(epochs, len(case.retain), batch_size),
        batch_size=batch_size,
        seed=case.train.seed,
        cost=case.cost,
        desc="finetune_full",
        scratch=case.scratch / "finetune_full.pt",
    )
    return student
