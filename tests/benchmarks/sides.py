"""The reference: fastMRI's VarNet and loss, fed with our batches in plain loops."""

import fastmri.models
import torch
from fastmri.losses import SSIMLoss
from torch import Tensor, nn

from stages.common.fit import BatchLoss
from stages.common.reconstruct import reconstruct
from stages.common.runtime import device
from stages.common.slices import ReconBatch
from stages.common.varnet import ModelSettings


class Reference(fastmri.models.VarNet):
    """fastMRI's VarNet, called like ours. The conversions are views: they cost nothing.

    Its convolutions, FFTs and loss run in float32, as fastMRI trains it, unless it is
    made double.
    """

    def forward(
        self, masked_kspace: Tensor, mask: Tensor, num_low_frequencies: int
    ) -> Tensor:
        return super().forward(
            torch.view_as_real(masked_kspace),
            mask[:, None, None, :, None],
            num_low_frequencies,
        )


def make_reference(settings: ModelSettings, weights: dict[str, Tensor]) -> Reference:
    """Build fastMRI's VarNet with the weights of ours."""
    model = Reference(**settings.model_dump(exclude={"precision"}))
    model.load_state_dict(weights)
    return model.to(device())


def reference_loss(
    *, l1_weight: float = 0, dtype: torch.dtype = torch.float32
) -> BatchLoss:
    """fastMRI's SSIMLoss over a batch; with `l1_weight`, our L1 term beside it."""
    ssim_loss = SSIMLoss().to(device(), dtype)
    # Its window was rounded to float32 before it became double.
    ssim_loss.w = torch.full_like(ssim_loss.w, 1 / ssim_loss.win_size**2)

    def batch_loss(model: nn.Module, batch: ReconBatch) -> Tensor:
        output = reconstruct(model, batch)  # type: ignore[arg-type]
        loss = ssim_loss(output[:, None], batch.target[:, None], batch.max_value)
        if l1_weight:
            error = (output - batch.target).abs().mean(dim=(1, 2))
            loss = loss + l1_weight * (error / batch.max_value).mean()
        return loss

    return batch_loss


def plain_importance(
    model: nn.Module, samples: list[ReconBatch], batch_loss: BatchLoss
) -> dict[str, Tensor]:
    """The plain loop: one backward pass per sample, squares summed.

    Args:
        model: fastMRI's VarNet.
        samples: batches of one slice, already in memory.
        batch_loss: (model, batch) -> scalar loss.
    """
    names, parameters = zip(*model.train().named_parameters(), strict=True)
    squares = [torch.zeros_like(parameter) for parameter in parameters]
    for sample in samples:
        loss = batch_loss(model, sample)  # type: ignore[arg-type]
        gradients = torch.autograd.grad(loss, parameters)
        for square, gradient in zip(squares, gradients, strict=True):
            square += gradient.square()
    mean = [square / len(samples) for square in squares]
    return dict(zip(names, mean, strict=True))
