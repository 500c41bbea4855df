"""The U-Net inside a VarNet, with fastMRI's module names."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

_NEGATIVE_SLOPE = 0.2
_EPSILON = 1e-5
_PAD_MULTIPLE = 16  # fastMRI pads to 16 whatever the depth; the weights expect it


class _InstanceNormLeakyReLU(torch.autograd.Function):
    """Both at once, between channels-last convolutions.

    PyTorch's instance norm is slow on channels-last tensors and returns contiguous
    ones, after which convolutions of few channels are slow too. Switching the layout
    here, and back, costs less than either; the result is the same to the last bit.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.contiguous().view(1, n * c, h, w)
        out, mean, inverse_std = torch.native_batch_norm(
            x, None, None, None, None, True, 0.0, _EPSILON
        )
        out = functional.leaky_relu_(out, _NEGATIVE_SLOPE)
        ctx.save_for_backward(x, out, mean, inverse_std)
        return out.view(n, c, h, w).contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        x, out, mean, inverse_std = ctx.saved_tensors
        shape = grad.shape
        grad = torch.ops.aten.leaky_relu_backward(
            grad.contiguous().view(x.shape), out, _NEGATIVE_SLOPE, True
        )
        grad = torch.ops.aten.native_batch_norm_backward(
            grad,
            x,
            None,
            None,
            None,
            mean,
            inverse_std,
            True,
            _EPSILON,
            [True, False, False],
        )[0]
        return grad.view(shape).contiguous(memory_format=torch.channels_last)


class NormAct(nn.Module):
    """Instance norm without weights, then leaky ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return _InstanceNormLeakyReLU.apply(x)


class ConvBlock(nn.Module):
    """Twice: 3 x 3 convolution, instance norm, leaky ReLU."""

    def __init__(self, in_chans: int, out_chans: int) -> None:
        super().__init__()
        # Convolutions at indices 0 and 4, as in fastMRI's state dict.
        self.layers = nn.Sequential(
            nn.Conv2d(in_chans, out_chans, 3, padding=1, bias=False),
            NormAct(),
            nn.Identity(),
            nn.Identity(),
            nn.Conv2d(out_chans, out_chans, 3, padding=1, bias=False),
            NormAct(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class TransposeConvBlock(nn.Module):
    """2 x 2 transposed convolution, instance norm, leaky ReLU."""

    def __init__(self, in_chans: int, out_chans: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ConvTranspose2d(in_chans, out_chans, 2, stride=2, bias=False),
            NormAct(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Unet(nn.Module):
    """Real U-Net, 2 channels in and out."""

    def __init__(self, chans: int, num_pools: int) -> None:
        super().__init__()
        widths = [chans * 2**level for level in range(num_pools + 1)]
        self.down_sample_layers = nn.ModuleList(
            ConvBlock(before, after)
            for before, after in zip([2, *widths], widths[:-1], strict=False)
        )
        self.conv = ConvBlock(widths[-2], widths[-1])
        self.up_transpose_conv = nn.ModuleList()
        self.up_conv = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.up_transpose_conv.append(TransposeConvBlock(width * 2, width))
            self.up_conv.append(ConvBlock(width * 2, width))
        self.up_conv[-1] = nn.Sequential(self.up_conv[-1], nn.Conv2d(chans, 2, 1))

    def forward(self, x: Tensor) -> Tensor:
        """(N, 2, H, W) -> (N, 2, H, W)."""
        stack = []
        for layer in self.down_sample_layers:
            x = layer(x)
            stack.append(x)
            x = functional.avg_pool2d(x, 2)
        x = self.conv(x)
        for upsample, conv in zip(self.up_transpose_conv, self.up_conv, strict=True):
            x = conv(torch.cat([upsample(x), stack.pop()], dim=1))
        return x


class NormUnet(nn.Module):
    """A U-Net on a complex image, normalised per slice and per real/imaginary part."""

    def __init__(self, chans: int, num_pools: int) -> None:
        super().__init__()
        self.unet = Unet(chans, num_pools)

    def forward(self, image: Tensor, *, bf16: bool) -> Tensor:
        """(N, 1, H, W) complex64 -> the same."""
        # Real/imaginary last is channels-last with two channels: no copy.
        x = torch.view_as_real(image[:, 0]).permute(0, 3, 1, 2)
        height, width = x.shape[-2:]
        std, mean = torch.std_mean(x, dim=(2, 3), keepdim=True)
        # A constant image has nothing to normalise: pass it on instead of NaN.
        std = torch.where(std > 0, std, torch.ones_like(std))
        pad_h, pad_w = -height % _PAD_MULTIPLE, -width % _PAD_MULTIPLE
        top, left = pad_h // 2, pad_w // 2
        x = (x - mean) / std
        if pad_h or pad_w:
            x = functional.pad(x, (left, pad_w - left, top, pad_h - top))
        x = x.contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            x = self.unet(x)
        x = x[..., top : top + height, left : left + width].to(std.dtype)
        x = x * std + mean
        return torch.view_as_complex(x.permute(0, 2, 3, 1).contiguous())[:, None]
