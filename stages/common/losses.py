"""The training loss of fastMRI's VarNet, per sample."""

import torch
from pydantic import Field
from torch import Tensor

from stages.common.params import Settings

_WINDOW = 7  # fastMRI's SSIM: uniform 7 x 7 window, K1 and K2 below
_K1, _K2 = 0.01, 0.03


class LossSettings(Settings):
    """(1 - SSIM) + l1_weight * L1, the L1 in units of the volume's maximum."""

    l1_weight: float = Field(ge=0)


def ssim(output: Tensor, target: Tensor, max_value: Tensor) -> Tensor:
    """Mean structural similarity of each image, as `fastmri.losses.SSIMLoss`.

    Args:
        output: (N, H, W) float32.
        target: (N, H, W) float32.
        max_value: (N,) data range.

    Returns:
        (N,) in [-1, 1].
    """
    data_range = max_value[:, None, None]
    c1, c2 = (_K1 * data_range) ** 2, (_K2 * data_range) ** 2
    moments = torch.stack(
        [output, target, output * output, target * target, output * target], dim=1
    )
    means = _window_sum(_window_sum(moments, -2), -1) / _WINDOW**2
    mean_x, mean_y, square_x, square_y, product = means.unbind(1)
    unbiased = _WINDOW**2 / (_WINDOW**2 - 1)
    variance_x = unbiased * (square_x - mean_x * mean_x)
    variance_y = unbiased * (square_y - mean_y * mean_y)
    covariance = unbiased * (product - mean_x * mean_y)
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * covariance + c2) / (variance_x + variance_y + c2)
    return (luminance * structure).mean(dim=(1, 2))


def _window_sum(x: Tensor, dim: int) -> Tensor:
    """Sums of seven neighbours along a dimension, which loses six entries.

    Four additions instead of the seven reads of an average pooling, which took a
    twentieth of a training step.
    """
    count = x.shape[dim] - _WINDOW + 1
    twos = x.narrow(dim, 0, count + 5) + x.narrow(dim, 1, count + 5)
    fours = twos.narrow(dim, 0, count) + twos.narrow(dim, 2, count)
    return fours + twos.narrow(dim, 4, count) + x.narrow(dim, 6, count)


def recon_loss(
    output: Tensor, target: Tensor, max_value: Tensor, settings: LossSettings
) -> Tensor:
    """(1 - SSIM) + l1_weight * mean|output - target| / max, for each sample.

    Args:
        output: (N, H, W) reconstruction.
        target: (N, H, W) target.
        max_value: (N,) maximum of the volume that the target comes from.
        settings: weight of the L1 term.

    Returns:
        (N,) loss.
    """
    l1 = (output - target).abs().mean(dim=(1, 2)) / max_value
    return 1 - ssim(output, target, max_value) + settings.l1_weight * l1


def psnr(output: Tensor, target: Tensor, max_value: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each image in dB: (N, H, W) -> (N,)."""
    error = (output - target).square().mean(dim=(1, 2))
    return 10 * torch.log10(max_value**2 / error)
