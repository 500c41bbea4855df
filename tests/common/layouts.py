"""Gradients in another layout than the tensor that they are of."""

from typing import Any, cast

import torch
from torch import Tensor


class _InLayout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, layout: torch.memory_format) -> Tensor:
        ctx.layout = layout
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return grads[0].contiguous(memory_format=ctx.layout), None


def in_layout(x: Tensor, layout: torch.memory_format) -> Tensor:
    """Pass `x` on; its gradient comes back in a layout, as from a convolution."""
    return cast(Tensor, _InLayout.apply(x, layout))
