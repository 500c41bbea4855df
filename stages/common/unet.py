"""The U-Net inside a VarNet, with fastMRI's module names."""

import torch
from torch import Tensor, nn

from stages.common import planes
from stages.common.planes import Conv1x1, Conv3x3, ConvTranspose2x2
from stages.common.unet_ops import average_pool, join, norm_act, restore, standardise

_PAD_MULTIPLE = 16  # fastMRI pads to 16 whatever the depth; the weights expect it


class NormAct(nn.Module):
    """Instance norm without weights, then leaky ReLU."""

    def forward(self, x: Tensor) -> Tensor:
        return norm_act(x)


class ConvBlock(nn.Module):
    """Twice: 3 x 3 convolution, instance norm, leaky ReLU."""

    def __init__(self, in_chans: int, out_chans: int, *, small: bool) -> None:
        super().__init__()
        # Convolutions at indices 0 and 4, as in fastMRI's state dict.
        self.layers = nn.Sequential(
            Conv3x3(in_chans, out_chans, small=small),
            NormAct(),
            nn.Identity(),
            nn.Identity(),
            Conv3x3(out_chans, out_chans, small=small),
            NormAct(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class TransposeConvBlock(nn.Module):
    """2 x 2 transposed convolution, instance norm, leaky ReLU."""

    def __init__(self, in_chans: int, out_chans: int, *, small: bool) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            ConvTranspose2x2(in_chans, out_chans, small=small),
            NormAct(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


class Unet(nn.Module):
    """Real U-Net, 2 channels in and out."""

    def __init__(self, chans: int, num_pools: int) -> None:
        super().__init__()
        widths = [chans * 2**level for level in range(num_pools + 1)]
        self.small = small = widths[-1] <= planes.WIDEST
        self.down_sample_layers = nn.ModuleList(
            ConvBlock(before, after, small=small)
            for before, after in zip([2, *widths], widths[:-1], strict=False)
        )
        self.conv = ConvBlock(widths[-2], widths[-1], small=small)
        self.up_transpose_conv = nn.ModuleList()
        self.up_conv = nn.ModuleList()
        for width in reversed(widths[:-1]):
            self.up_transpose_conv.append(
                TransposeConvBlock(width * 2, width, small=small)
            )
            self.up_conv.append(ConvBlock(width * 2, width, small=small))
        self.up_conv[-1] = nn.Sequential(
            self.up_conv[-1], Conv1x1(chans, 2, small=small)
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, 2, H, W) -> (N, 2, H, W)."""
        stack = []
        for layer in self.down_sample_layers:
            x, skip = average_pool(layer(x))
            stack.append(skip)
        x = self.conv(x)
        for upsample, conv in zip(self.up_transpose_conv, self.up_conv, strict=True):
            x = conv(join(upsample(x), stack.pop()))
        return x


class NormUnet(nn.Module):
    """A U-Net on a complex image, normalised per slice and per real/imaginary part."""

    def __init__(self, chans: int, num_pools: int) -> None:
        super().__init__()
        self.unet = Unet(chans, num_pools)

    def forward(self, image: Tensor, *, bf16: bool) -> Tensor:
        """(N, H, W) complex64 -> the same."""
        inside = torch.bfloat16 if bf16 else image.real.dtype
        x, mean, std = standardise(image, _PAD_MULTIPLE, inside)
        if self.unet.small and planes.suits(x):
            x = x.contiguous()
        with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
            x = self.unet(x)
        return restore(x, mean, std, image.shape[-2:], _PAD_MULTIPLE)
