"""Retraining from scratch on the retain set.

    theta' = argmin L(theta; D_r)

The exact method of the literature: whatever was found has no influence left. What was
not found stays in D_r and is learnt again, so that this equals drop-all, and not the
oracle, when everything is known. Trained as the poisoned model was, initial weights and
number of epochs included.
"""

from stages.common.params import Settings
from stages.common.training import steps_for, train_reconstruction
from stages.common.varnet import VarNet, build_varnet
from stages.unlearn.base import UnlearnCase


class Params(Settings):
    """None: retraining uses `train`."""


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:  # noqa: ARG001
    """Train a new network on the retain set."""
    train = case.train
    network = build_varnet(model.settings, seed=train.seed)
    train_reconstruction(
        network,
        case.retain,
        train,
        case.loss,
        steps=steps_for(train.epochs, len(case.retain), train.batch_size),
        batch_size=train.batch_size,
        seed=train.seed,
        cost=case.cost,
        desc="retrain",
        scratch=case.scratch / "retrain.pt",
    )
    return network
