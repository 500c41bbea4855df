"""Fine-tuning the poisoned model on the retain set.

    theta' = argmin L(theta; D_r), started at the poisoned theta, for a few epochs

Catastrophic forgetting put to use (Goel et al., "Corrective machine unlearning", TMLR
2024, https://arxiv.org/abs/2402.14015, where it is CF). It takes as many steps as the
control `continue`, which differs only in keeping the known forget set.
"""

import copy

from stages.common.training import FinetuneSettings, steps_for, train_reconstruction
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase


class Params(FinetuneSettings):
    """Optimizer and length; the control `continue` reads them too."""


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Go on training a copy of the model on the retain set."""
    student = copy.deepcopy(model)
    batch_size = case.train.batch_size
    train_reconstruction(
        student,
        case.retain,
        params,
        case.loss,
        steps=steps_for(params.epochs, case.total, batch_size),
        batch_size=batch_size,
        seed=case.train.seed,
        cost=case.cost,
        desc="finetune",
        scratch=case.scratch / "finetune.pt",
    )
    return student
