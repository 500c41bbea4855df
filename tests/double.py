"""Samples in double precision, where rounding hides no difference."""

import torch
from torch import Tensor

from stages.common.fit import BatchLoss
from stages.common.slices import ReconBatch
from stages.common.varnet import VarNet


def double_batch(batch: ReconBatch) -> ReconBatch:
    return batch._replace(
        masked_kspace=batch.masked_kspace.to(torch.complex128),
        target=batch.target.double(),
        max_value=batch.max_value.double(),
    )


def in_double(batch_loss: BatchLoss) -> BatchLoss:
    """The same loss, of samples in double precision."""

    def converted(model: VarNet, batch: ReconBatch) -> Tensor:
        return batch_loss(model, double_batch(batch))

    return converted
