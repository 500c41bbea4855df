"""Training the last cascades of a network alone: what `cf_k` and `eu_k` share."""

from collections.abc import Sequence

from pydantic import Field
from torch import nn

from stages.common.training import FinetuneSettings, steps_for, train_reconstruction
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase


class LastCascadesSettings(FinetuneSettings):
    """Optimizer, length and how much of the network is trained.

    Attributes:
        k: number of cascades, counted from the output, that are trained.
    """

    k: int = Field(ge=1)


def last_cascades(model: VarNet, k: int, *, method: str) -> list[nn.Module]:
    """The k cascades next to the output, in their order.

    Raises:
        ValueError: the network has fewer; names the method's key.
    """
    count = len(model.cascades)
    if k > count:
        raise ValueError(
            f"unlearn.{method}.k = {k}, and the network has {count} cascades: choose k "
            f"from 1 to {count}"
        )
    return list(model.cascades)[-k:]


def train_parts(
    model: VarNet,
    parts: Sequence[nn.Module],
    case: UnlearnCase,
    params: FinetuneSettings,
    *,
    method: str,
) -> None:
    """Train some parts of a model in place on the retain set; the rest keeps its bits.

    A frozen weight has no gradient, so that the optimizer passes it over, weight decay
    included. A step counts as a whole one, although nothing is propagated back through
    frozen cascades that come first.

    Args:
        model: what is trained; all of it requires gradients afterwards.
        parts: modules of the model.
        case: the retain set, and what counts the cost.
        params: optimizer, and passes over the whole training set, as in `finetune`.
        method: names the progress line and the file that a resumed run picks up.
    """
    model.requires_grad_(False)
    for part in parts:
        part.requires_grad_(True)
    batch_size = case.train.batch_size
    train_reconstruction(
        model,
        case.retain,
        params,
        case.loss,
        steps=steps_for(params.epochs, case.total, batch_size),
        batch_size=batch_size,
        seed=case.train.seed,
        cost=case.cost,
        desc=method,
        scratch=case.scratch / f"{method}.pt",
    )
    model.requires_grad_(True)
