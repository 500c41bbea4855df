"""Differentiable pieces of a U-Net in few passes over memory.

On the CPU they run the compiled kernels of `unet_kernels.py` and `scale_kernels.py`,
and of `plane_kernels.py` where an image lies plane by plane; on other devices PyTorch's
own operations. Both agree to rounding, and with what fastMRI composes of many of them.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

EPSILON = 1e-5  # of PyTorch's instance norm
SLOPE = 0.2  # fastMRI's leaky ReLU
_LAST = torch.channels_last


def on_cpu(x: Tensor) -> bool:
    """Whether compiled kernels can work on `x`."""
    return x.device.type == "cpu"


def norm_act(x: Tensor) -> Tensor:
    """Instance norm without weights, then leaky ReLU: (N, C, H, W) -> the same."""
    if on_cpu(x):
        return _NormAct.apply(x)
    return functional.leaky_relu(functional.instance_norm(x, eps=EPSILON), SLOPE)


def average_pool(x: Tensor) -> tuple[Tensor, Tensor]:
    """2 x 2 average pooling of (N, C, H, W), H and W even.

    Returns:
        (N, C, H / 2, W / 2), and `x` to go on with: on the CPU the gradients of both
        are then summed on the way.
    """
    if on_cpu(x):
        return _AveragePool.apply(x)
    return functional.avg_pool2d(x, 2), x


def join(a: Tensor, b: Tensor) -> Tensor:
    """Concatenate channels: (N, C, H, W) twice -> (N, 2 C, H, W)."""
    return _Join.apply(a, b)


def standardise(image: Tensor, multiple: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Normalise a complex image and pad it, as fastMRI's `NormUnet` does.

    Args:
        image: (N, H, W) complex.
        multiple: height and width are padded with zeros to multiples of it.
        dtype: of the result.

    Returns:
        (N, 2, H', W') with zero mean and unit deviation before padding, channels-last;
        mean and deviation, (N, 2). A constant image has nothing to normalise: its
        deviation is given as 1, instead of NaN.
    """
    parts = torch.view_as_real(image)
    if on_cpu(parts):
        return _Standardise.apply(parts, multiple, dtype)
    std, mean = torch.std_mean(parts, dim=(1, 2))
    std = torch.where(std > 0, std, torch.ones_like(std))
    height, width = parts.shape[1:3]
    top, bottom, left, right = _padding(height, width, multiple)
    x = (parts - mean[:, None, None]) / std[:, None, None]
    x = functional.pad(x, (0, 0, left, right, top, bottom))
    return x.permute(0, 3, 1, 2).to(dtype), mean, std


def restore(
    y: Tensor, mean: Tensor, std: Tensor, shape: torch.Size, multiple: int
) -> Tensor:
    """Undo `standardise`: (N, 2, H', W') -> (N, H, W) complex, by the shape (H, W)."""
    height, width = shape
    if on_cpu(y):
        parts = _Restore.apply(y, mean, std, height, width, multiple)
    else:
        top, _, left, _ = _padding(height, width, multiple)
        inner = y[..., top : top + height, left : left + width].permute(0, 2, 3, 1)
        parts = inner * std[:, None, None] + mean[:, None, None]
    return torch.view_as_complex(parts.contiguous())


def _padding(height: int, width: int, multiple: int) -> tuple[int, int, int, int]:
    """Rows above and below, columns left and right, as fastMRI distributes them."""
    more_h, more_w = -height % multiple, -width % multiple
    top, left = more_h // 2, more_w // 2
    return top, more_h - top, left, more_w - left


def _layout(x: Tensor) -> torch.memory_format:
    """Plane by plane where it is so, as small layers want it; channels-last if not."""
    return torch.contiguous_format if _is_planes(x) else _LAST


def _is_planes(x: Tensor) -> bool:
    return x.is_contiguous() and x.dtype in (torch.float32, torch.float64)


def _planes(x: Tensor) -> np.ndarray:
    """The memory of an (N, C, H, W) tensor, plane by plane, as (N * C, H, W)."""
    return x.flatten(0, 1).numpy()


def _rows(x: Tensor) -> np.ndarray:
    """The memory of an (N, C, H, W) channels-last tensor as (N, H, W * C)."""
    n, c, h, w = x.shape
    rows = x.permute(0, 2, 3, 1).reshape(n, h, w * c)
    return _array(rows)


def _array(x: Tensor) -> np.ndarray:
    return (x.view(torch.uint16) if x.dtype == torch.bfloat16 else x).numpy()


def _accumulator(x: Tensor) -> torch.dtype:
    """What sums over `x` are kept in."""
    return torch.float64 if x.dtype == torch.float64 else torch.float32


class _NormAct(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        from stages.common import plane_kernels, unet_kernels

        x = x.contiguous(memory_format=_layout(x))
        out = torch.empty_like(x)
        inverse_std = torch.empty(x.shape[:2], dtype=_accumulator(x)).numpy()
        ctx.inverse_std, number = inverse_std, inverse_std.dtype.type
        epsilon, slope = number(EPSILON), number(SLOPE)
        if _is_planes(x):
            ctx.inverse_std = inverse_std.ravel()
            plane_kernels.norm_act(
                _planes(x), _planes(out), ctx.inverse_std, epsilon, slope
            )
        else:
            unet_kernels.norm_act(_rows(x), _rows(out), inverse_std, epsilon, slope)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        from stages.common import plane_kernels, unet_kernels

        (y,) = ctx.saved_tensors
        grad, out = grads[0].contiguous(memory_format=_layout(y)), torch.empty_like(y)
        slope = ctx.inverse_std.dtype.type(SLOPE)
        if _is_planes(y):
            plane_kernels.norm_act_backward(
                _planes(grad), _planes(y), ctx.inverse_std, _planes(out), slope
            )
        else:
            unet_kernels.norm_act_backward(
                _rows(grad), _rows(y), ctx.inverse_std, _rows(out), slope
            )
        return out


class _AveragePool(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        from stages.common import plane_kernels, unet_kernels

        ctx.layout = _layout(x)
        x = x.contiguous(memory_format=ctx.layout)
        n, c, h, w = x.shape
        shape = n, c, h // 2, w // 2
        out = torch.empty(shape, dtype=x.dtype, memory_format=ctx.layout)
        if _is_planes(x):
            plane_kernels.average_pool(_planes(x), _planes(out))
            return out, x.view_as(x)
        pair = torch.empty(w * c, dtype=_accumulator(x)).numpy()
        lanes = np.arange(w // 2 * c, dtype=np.int32)
        left = lanes + lanes // c * c
        unet_kernels.average_pool(_rows(x), _rows(out), pair, np.append(left, c))
        return out, x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        from stages.common import plane_kernels, unet_kernels

        pooled, skip = (grad.contiguous(memory_format=ctx.layout) for grad in grads)
        _, c, _, w = skip.shape
        out = torch.empty_like(skip)
        if _is_planes(skip):
            plane_kernels.average_pool_backward(
                _planes(pooled), _planes(skip), _planes(out)
            )
            return out
        lanes = np.arange(w * c, dtype=np.int32)
        source = np.minimum(lanes // (2 * c) * c + lanes % c, w // 2 * c)
        shared = torch.empty(w // 2 * c + 1, dtype=_accumulator(skip)).numpy()
        unet_kernels.average_pool_backward(
            _rows(pooled), _rows(skip), _rows(out), shared, source
        )
        return out


class _Join(Function):
    """Concatenation whose gradients are whole tensors: adding slices is slow."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.sizes, ctx.layout = (a.shape[1], b.shape[1]), _layout(a)
        return torch.cat([a, b], dim=1)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        parts = grads[0].split(ctx.sizes, dim=1)
        return tuple(part.contiguous(memory_format=ctx.layout) for part in parts)


class _Standardise(Function):
    @staticmethod
    def forward(
        ctx: Any, parts: Tensor, multiple: int, dtype: torch.dtype
    ) -> tuple[Tensor, ...]:
        from stages.common import scale_kernels as kernels

        n, height, width, _ = parts.shape
        parts = parts.contiguous()
        top, bottom, left, right = _padding(height, width, multiple)
        ctx.offset = top, 2 * left
        shape = n, top + height + bottom, left + width + right, 2
        out = torch.zeros(shape, dtype=dtype).permute(0, 3, 1, 2)
        mean, std = parts.new_empty(n, 2), parts.new_empty(n, 2)
        kernels.standardise(
            _array(parts.flatten(2)), _rows(out), mean.numpy(), std.numpy(), *ctx.offset
        )
        ctx.save_for_backward(parts, mean, std)
        return out, mean, std

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        from stages.common import scale_kernels as kernels

        grad, grad_mean, grad_std = grads
        parts, mean, std = ctx.saved_tensors
        out = torch.empty_like(parts)
        kernels.standardise_backward(
            _rows(grad.contiguous(memory_format=_LAST)),
            _array(parts.flatten(2)),
            mean.numpy(),
            std.numpy(),
            grad_mean.contiguous().numpy(),
            grad_std.contiguous().numpy(),
            _array(out.flatten(2)),
            *ctx.offset,
        )
        return out, None, None


class _Restore(Function):
    @staticmethod
    def forward(
        ctx: Any,
        y: Tensor,
        mean: Tensor,
        std: Tensor,
        height: int,
        width: int,
        multiple: int,
    ) -> Tensor:
        from stages.common import scale_kernels as kernels

        y = y.contiguous(memory_format=_LAST)
        top, _, left, _ = _padding(height, width, multiple)
        ctx.offset = top, 2 * left
        out = mean.new_empty(y.shape[0], height, width, 2)
        kernels.restore(
            _rows(y), mean.numpy(), std.numpy(), _array(out.flatten(2)), *ctx.offset
        )
        ctx.save_for_backward(y, std)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        from stages.common import scale_kernels as kernels

        y, std = ctx.saved_tensors
        grad = grads[0].contiguous()
        out = torch.zeros_like(y)
        grad_mean, grad_std = torch.empty_like(std), torch.empty_like(std)
        kernels.restore_backward(
            _array(grad.flatten(2)),
            _rows(y),
            std.numpy(),
            _rows(out),
            grad_mean.numpy(),
            grad_std.numpy(),
            *ctx.offset,
        )
        return out, grad_mean, grad_std, None, None, None
