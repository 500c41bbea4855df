"""A U-Net's convolutions: with few channels, on the CPU, our own kernels do them.

The kernels (`convolution_kernels.py`) want images plane by plane. A network whose
layers are all small is given them so (`suits`), and its layers use the kernels; all
others, on a GPU, in bfloat16 or on several threads, are PyTorch's own. Both agree to
rounding. What the kernels compute does not depend on the batch.
"""

from typing import Any, TypeAlias, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

# Most channels of a network's layers for it to be small: with more of them oneDNN is as
# quick on one thread.
WIDEST = 32


def suits(x: Tensor) -> bool:
    """Whether a small network should be given `x` plane by plane."""
    # The kernels run on one thread; with several, PyTorch's layers share the work.
    return (
        x.device.type == "cpu"
        and x.dtype in (torch.float32, torch.float64)
        and not torch.is_autocast_enabled("cpu")
        and torch.get_num_threads() == 1
    )


def takes(layer: "SmallLayer", x: Tensor) -> bool:
    """Whether the kernels compute a layer for the input `x`."""
    return (
        layer.small
        and suits(x)
        and x.ndim == 4
        and x.shape[1] == layer.in_channels
        and x.dtype == layer.weight.dtype
        and x.is_contiguous()
    )


class Conv3x3(nn.Conv2d):
    """3 x 3 convolution without bias, padded to the size of its input."""

    def __init__(self, in_chans: int, out_chans: int, *, small: bool) -> None:
        super().__init__(in_chans, out_chans, 3, padding=1, bias=False)
        self.small = small

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, out_chans, H, W)."""
        return _apply(self, x) if takes(self, x) else super().forward(x)

    @staticmethod
    def run(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _convolve(x, weight, bias)

    @staticmethod
    def to_input(grad: Tensor, weight: Tensor) -> Tensor:
        return _convolve(grad, weight.flip(2, 3).transpose(0, 1))

    @staticmethod
    def to_weight(x: Tensor, grad: Tensor, images: int) -> Tensor:
        return kernel_gradients(x, grad, images)


class Conv1x1(nn.Conv2d):
    """1 x 1 convolution with bias."""

    def __init__(self, in_chans: int, out_chans: int, *, small: bool) -> None:
        super().__init__(in_chans, out_chans, 1)
        self.small = small

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_chans, H, W) -> (N, out_chans, H, W)."""
        return _apply(self, x) if takes(self, x) else super().forward(x)

    @staticmethod
    def run(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return _convolve(x, weight, bias)

    @staticmethod
    def to_input(grad: Tensor, weight: Tensor) -> Tensor:
        return _convolve(grad, weight.transpose(0, 1))

    @staticmethod
    def to_weight(x: Tensor, grad: Tensor, images: int) -> Tensor:
        return _mix_gradients(x, grad, images)[..., None, None]


class ConvTranspose2x2(nn.ConvTranspose2d):
    """2 x 2 transposed convolution without bias, stride 2: each pixel becomes four."""

    def __init__(self, in_chans: int, out_chans: int, *, small: bool) -> None:
        super().__init__(in_chans, out_chans, 2, stride=2, bias=False)
        self.small = small

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """(N, in_chans, H, W) -> (N, out_chans, 2 H, 2 W)."""
        if output_size is None and takes(self, x):
            return _apply(self, x)
        return super().forward(x, output_size)

    @staticmethod
    def run(x: Tensor, weight: Tensor, _bias: None) -> Tensor:
        parts = _convolve(x, weight.flatten(1).t()[..., None, None])
        return _spread(parts)

    @staticmethod
    def to_input(grad: Tensor, weight: Tensor) -> Tensor:
        return _convolve(_gather(grad), weight.flatten(1)[..., None, None])

    @staticmethod
    def to_weight(x: Tensor, grad: Tensor, images: int) -> Tensor:
        # The weights of a transposed convolution have the input's channels first.
        gradients = _mix_gradients(_gather(grad), x, images)
        return gradients.unflatten(2, (-1, 2, 2))


SmallLayer: TypeAlias = Conv3x3 | Conv1x1 | ConvTranspose2x2
SMALL_LAYERS = (Conv3x3, Conv1x1, ConvTranspose2x2)


def kernel_gradients(x: Tensor, grad: Tensor, images: int) -> Tensor:
    """Gradients of the kernel of a 3 x 3 convolution, padded by a pixel, stride 1.

    Args:
        x: (N, I, H, W), input.
        grad: (N, O, H, W), gradient for the output.
        images: whose gradients are summed; divides N.

    Returns:
        (N / images, O, I, 3, 3)
    """
    from stages.common.convolution_kernels import weight_gradients

    out = x.new_empty(len(x) // images, grad.shape[1], x.shape[1], 3, 3)
    weight_gradients(
        x.contiguous().numpy(), grad.contiguous().numpy(), images, out.numpy()
    )
    return out


class _Layer(Function):
    """A layer's output, by the methods of its class."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        kind: type[SmallLayer],
    ) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.kind = kind
        return cast(Any, kind).run(x, weight, bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Any) -> Any:
        x, weight = ctx.saved_tensors
        grad = grads[0].contiguous()
        to_x, to_weight, to_bias, _ = ctx.needs_input_grad
        images = max(len(x), 1)
        return (
            ctx.kind.to_input(grad, weight) if to_x else None,
            ctx.kind.to_weight(x, grad, images).sum(0) if to_weight else None,
            grad.sum((0, 2, 3)) if to_bias else None,
            None,
        )


def _apply(layer: SmallLayer, x: Tensor) -> Tensor:
    return cast(Tensor, _Layer.apply(x, layer.weight, layer.bias, type(layer)))


def _spread(parts: Tensor) -> Tensor:
    """(N, 4 O, H, W) -> (N, O, 2 H, 2 W): each pixel's four."""
    from stages.common.convolution_kernels import spread

    n, chans, height, width = parts.shape
    out = parts.new_empty(n, chans // 4, 2 * height, 2 * width)
    spread(parts.view(-1, 4, height, width).numpy(), out.flatten(0, 1).numpy())
    return out


def _gather(grad: Tensor) -> Tensor:
    """Undo `_spread`."""
    from stages.common.convolution_kernels import gather

    n, chans, height, width = grad.shape
    out = grad.new_empty(n, 4 * chans, height // 2, width // 2)
    gather(grad.flatten(0, 1).numpy(), out.view(-1, 4, *out.shape[2:]).numpy())
    return out


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Stride 1: (N, I, H, W), (O, I, 3, 3) or (O, I, 1, 1) -> (N, O, H, W)."""
    from stages.common.convolution_kernels import convolve

    bias = x.new_zeros(len(weight)) if bias is None else bias.detach()
    out = x.new_empty(len(x), len(weight), *x.shape[2:])
    weight = weight.detach().contiguous()
    convolve(x.numpy(), weight.numpy(), bias.numpy(), out.numpy())
    return out


def _mix_gradients(x: Tensor, grad: Tensor, images: int) -> Tensor:
    from stages.common.convolution_kernels import mix_gradients

    out = x.new_empty(len(x) // images, grad.shape[1], x.shape[1])
    mix_gradients(x.flatten(2).numpy(), grad.flatten(2).numpy(), images, out.numpy())
    return out
