"""The importance as its definition has it."""

from collections.abc import Sequence

import torch
from torch import nn

from stages.common.fit import BatchLoss
from stages.common.samples import ReconSample
from stages.common.slices import collate
from stages.unlearn.importance import Importance


def plain_loop(
    model: nn.Module, samples: Sequence[ReconSample], batch_loss: BatchLoss
) -> Importance:
    """F = E[g^2] by its definition: autograd, one sample at a time."""
    parameters = dict(model.named_parameters())
    squares = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for sample in samples:
        loss = batch_loss(model, collate([sample]))
        gradients = torch.autograd.grad(loss, list(parameters.values()))
        for square, gradient in zip(squares.values(), gradients, strict=True):
            square += gradient.square() / len(samples)
    return squares
