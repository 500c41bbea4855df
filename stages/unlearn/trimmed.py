"""Robust training from scratch on the retain set, as a reference: a trimmed loss.

    theta' = argmin of the mean over each batch of L(theta; x, y), without the `share`
    of its slices whose loss is highest

Shen and Sanghavi, "Learning with bad training data via iterative trimmed loss
minimization", ICML 2019 (https://arxiv.org/abs/1810.11874): a network learns good
samples before bad ones, so that the samples with the highest loss are the bad ones, on
average. The paper ranks the whole training set between rounds of training; here each
step ranks its batch, after a start without trimming, which needs no pass of its own and
one schedule. What was found is left out from the beginning, as in `retrain`, from which
this differs in the trimming alone: it shows what robust training does about the poison
that nobody found, without any unlearning. Hard slices are left out with the poison.

Slices that are left out have gone through both passes: they count as the others do.
"""

import math

import torch
from pydantic import Field
from torch import Tensor

from stages.common.devices import rank, sum_over_ranks, world_size
from stages.common.fit import fit
from stages.common.losses import recon_loss
from stages.common.params import Settings
from stages.common.reconstruct import reconstruct
from stages.common.slices import ReconBatch, make_loader
from stages.common.training import steps_for
from stages.common.varnet import VarNet, build_varnet
from stages.unlearn.base import UnlearnCase


class Params(Settings):
    """What is left out; the rest is `train`'s.

    Attributes:
        share: of a batch's slices, rounded down, that are left out.
        after: share of training that passes before, rounded up to whole epochs.
    """

    share: float = Field(ge=0, lt=1)
    after: float = Field(ge=0, le=1)


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Train a new network on the retain set with a trimmed loss.

    Raises:
        ValueError: a batch is too small for a slice to be left out.
    """
    train = case.train
    if params.share > 0 and left_out(train.batch_size, params.share) == 0:
        raise ValueError(
            f"unlearn.trimmed.share = {params.share} leaves out none of a batch of "
            f"{train.batch_size}: set train.batch_size to "
            f"{math.ceil(1 / params.share)} or more"
        )
    network = build_varnet(model.settings, seed=train.seed)
    loader = make_loader(
        case.retain, batch_size=train.batch_size, shuffle_seed=train.seed
    )
    first_epoch = math.ceil(params.after * train.epochs)

    def loss(model: VarNet, batch: ReconBatch) -> Tensor:
        output = reconstruct(model, batch)
        losses = recon_loss(output, batch.target, batch.max_value, case.loss)
        # The loader's epoch, unlike a count of calls, survives a restart.
        if loader.order.epoch < first_epoch:
            return batch.mean(losses)
        return trimmed_mean(losses, batch, params.share)

    fit(
        network,
        loader,
        loss,
        train,
        steps=steps_for(train.epochs, len(case.retain), train.batch_size),
        cost=case.cost,
        desc="trimmed",
        scratch=case.scratch / "trimmed.pt",
    )
    return network


def left_out(slices: int, share: float) -> int:
    """How many of a batch's slices are left out; a product may round to just below."""
    return math.floor(slices * share + 1e-9)


def trimmed_mean(losses: Tensor, batch: ReconBatch, share: float) -> Tensor:
    """Mean over the whole batch without its highest losses.

    Args:
        losses: (N,) of this rank's slices.
        batch: those slices.
        share: of the batch's slices, over all ranks, that are left out.

    Returns:
        Scalar. Its mean over the ranks is the trimmed mean, as with `batch.mean`.
    """
    dropped = left_out(batch.total, share)
    mine = slice(rank(), None, world_size())  # as batches are dealt out
    known = losses.new_zeros(batch.total)
    if batch.share > 0:
        known[mine] = losses.detach()
    known = sum_over_ranks(known)
    kept = torch.ones_like(known)
    kept[torch.sort(known, descending=True, stable=True).indices[:dropped]] = 0
    # A rank without a slice of its own was given another's, which counts for nothing.
    weights = kept[mine] if batch.share > 0 else torch.ones_like(losses)
    return batch.mean(losses * weights) * (batch.total / (batch.total - dropped))
