"""Differentiable steps between coils, image and k-space, rows in image domain.

On the CPU they run the compiled kernels of `coil_kernels.py`; on other devices
PyTorch's own operations. Both agree to rounding.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function

from stages.common.unet_ops import on_cpu


def to_image(kspace: Tensor) -> Tensor:
    """Inverse orthonormal FFT along columns, without centring."""
    return torch.fft.ifft(kspace, norm="ortho")


def to_kspace(image: Tensor) -> Tensor:
    """Orthonormal FFT along columns, without centring."""
    return torch.fft.fft(image, norm="ortho")


def reduce_coils(kspace: Tensor, sens_maps: Tensor) -> tuple[Tensor, Tensor]:
    """Combine the coil images of a k-space: sum of image * conj(map).

    Args:
        kspace: (N, coils, H, W) complex.
        sens_maps: (N, coils, H, W) complex.

    Returns:
        The image, (N, H, W) complex, and `kspace` to go on with: on the CPU its
        gradient and the image's are then summed on the way.
    """
    if on_cpu(kspace):
        return _ReduceCoils.apply(kspace, sens_maps)
    return (to_image(kspace) * sens_maps.conj()).sum(1), kspace


def data_consistency(
    image: Tensor,
    sens_maps: Tensor,
    kspace: Tensor,
    reference: Tensor,
    sampled: Tensor,
    weight: Tensor,
) -> Tensor:
    """Soft data consistency and refinement: k + w m (reference - k) - F(image * maps).

    Args:
        image: (N, H, W) complex, what a cascade's network makes.
        sens_maps: (N, coils, H, W) complex.
        kspace: the same shape, the current estimate.
        reference: the same shape, what was measured.
        sampled: (N, W) float, 1 where a column was sampled.
        weight: one number, or one for each slice.

    Returns:
        (N, coils, H, W) complex, the next k-space.
    """
    weight = weight.reshape(-1).expand(len(image))
    if on_cpu(kspace):
        return _DataConsistency.apply(
            image, sens_maps, kspace, reference, sampled, weight
        )
    share = (sampled * weight[:, None])[:, None, None]
    correction = to_kspace(image[:, None] * sens_maps)
    return kspace + share * (reference - kspace) - correction


def unit_energy(maps: Tensor) -> Tensor:
    """Scale (N, coils, H, W) complex maps to unit root sum of squares over coils.

    A slice without signal has maps of zero, not NaN, and a finite gradient.
    """
    if on_cpu(maps):
        return _UnitEnergy.apply(maps)
    energy = torch.view_as_real(maps).square().sum(dim=(1, 4))
    return maps * energy.clamp_min(_tiny(energy)).rsqrt()[:, None]


def root_sum_of_squares(images: Tensor) -> Tensor:
    """(N, coils, H, W) complex -> (N, H, W); finite gradient where all coils are 0."""
    if on_cpu(images):
        return _RootSumOfSquares.apply(images)
    energy = torch.view_as_real(images).square().sum(dim=(1, 4))
    return energy.clamp_min(_tiny(energy)).sqrt()


def _tiny(x: Tensor) -> float:
    return torch.finfo(x.dtype).tiny


def _limit(x: np.ndarray) -> np.floating[Any]:
    """The same as a number of the precision of `x`, for compiled code."""
    return np.finfo(x.dtype).tiny


def _array(x: Tensor) -> np.ndarray:
    return x.resolve_conj().contiguous().numpy()


def _pixels(x: Tensor) -> np.ndarray:
    """(..., H, W) -> (..., H * W), the memory itself where it is contiguous."""
    return _array(x).reshape(*x.shape[:-2], -1)


class _ReduceCoils(Function):
    @staticmethod
    def forward(ctx: Any, kspace: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        from stages.common import coil_kernels as kernels

        images = to_image(kspace)
        n, _, height, width = images.shape
        out = images.new_empty(n, height, width)
        kernels.combine(_pixels(images), _pixels(maps), _pixels(out))
        ctx.save_for_backward(images, maps)
        return out, kspace.view_as(kspace)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        from stages.common import coil_kernels as kernels

        images, maps = ctx.saved_tensors
        to_images = torch.empty_like(images)
        to_maps = torch.empty_like(images)
        kernels.combine_backward(
            _pixels(grads[0]),
            _pixels(images),
            _pixels(maps),
            _pixels(to_images),
            _pixels(to_maps),
        )
        if not ctx.needs_input_grad[0]:
            return None, to_maps
        return to_kspace(to_images).add_(grads[1]), to_maps


class _DataConsistency(Function):
    @staticmethod
    def forward(
        ctx: Any,
        image: Tensor,
        maps: Tensor,
        kspace: Tensor,
        reference: Tensor,
        sampled: Tensor,
        weight: Tensor,
    ) -> Tensor:
        from stages.common import coil_kernels as kernels

        coil_images = torch.empty_like(maps, memory_format=torch.contiguous_format)
        kernels.expand(_pixels(image), _pixels(maps), _pixels(coil_images))
        out = to_kspace(coil_images)
        inputs = [_array(x) for x in (kspace, reference, sampled, weight)]
        kernels.pull(*inputs, out.numpy())
        ctx.save_for_backward(image, maps, kspace, reference, sampled, weight)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        from stages.common import coil_kernels as kernels

        image, maps, *rest = ctx.saved_tensors
        grad = grads[0].resolve_conj().contiguous()
        to_kspace_, to_weight = torch.empty_like(grad), torch.empty_like(rest[-1])
        kernels.pull_backward(
            grad.numpy(), *map(_array, rest), to_kspace_.numpy(), to_weight.numpy()
        )
        to_out, to_maps = torch.empty_like(image), torch.empty_like(grad)
        kernels.expand_backward(
            _pixels(to_image(grad)),
            _pixels(image),
            _pixels(maps),
            _pixels(to_out),
            _pixels(to_maps),
        )
        return to_out, to_maps, to_kspace_, None, None, to_weight


class _UnitEnergy(Function):
    @staticmethod
    def forward(ctx: Any, maps: Tensor) -> Tensor:
        from stages.common import coil_kernels as kernels

        maps = maps.contiguous()
        out = torch.empty_like(maps)
        n, _, height, width = maps.shape
        inverse = torch.empty(n, height * width, dtype=maps.real.dtype)
        scale = inverse.numpy()
        kernels.unit_energy(_pixels(maps), _pixels(out), scale, _limit(scale))
        ctx.save_for_backward(out, inverse)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        from stages.common import coil_kernels as kernels

        maps, inverse = ctx.saved_tensors
        out = torch.empty_like(maps)
        scale = inverse.numpy()
        kernels.unit_energy_backward(
            _pixels(grads[0]), _pixels(maps), scale, _limit(scale), _pixels(out)
        )
        return out


class _RootSumOfSquares(Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor) -> Tensor:
        from stages.common import coil_kernels as kernels

        n, _, height, width = images.shape
        out = torch.empty(n, height, width, dtype=images.real.dtype)
        magnitude = _pixels(out)
        kernels.root_sum_of_squares(_pixels(images), magnitude, _limit(magnitude))
        ctx.save_for_backward(images, out)
        return out

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        from stages.common import coil_kernels as kernels

        images, out = ctx.saved_tensors
        result = torch.empty_like(images, memory_format=torch.contiguous_format)
        magnitude = _pixels(out)
        kernels.root_sum_of_squares_backward(
            _pixels(grads[0]),
            _pixels(images),
            magnitude,
            _limit(magnitude),
            _pixels(result),
        )
        return result
