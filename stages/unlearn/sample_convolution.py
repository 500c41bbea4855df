"""A convolution whose backward pass squares each sample's weight gradients.

Rounding errors matter more than they should: where one decides on which side of zero a
ReLU is, a gradient jumps, and importances in float32 moved by 1 % of their tensor's
maximum with the size of the batch. So nothing here may depend on the batch, on the CPU
at least. In float32, PyTorch has another algorithm for one small image than for many, a
slow one: where oneDNN can do it, it is called by name, and other layers are run by
sample. They are given channels-last images, which a batch of one may have lost. What
our own kernels compute (`stages/common/planes.py`) never depends on the batch.
"""

from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function

from stages.common.planes import SMALL_LAYERS, kernel_gradients, takes

# Inputs times outputs, up to which our kernel is quicker than PyTorch for one sample.
SMALL = 512


class SampleConvolution:
    """Stands in for a convolution's `forward`.

    Attributes:
        name: of the layer.
        module: the layer.
        called: whether it has been; only once is allowed.
    """

    def __init__(
        self, name: str, module: Any, squares: dict[str, Tensor], count: int
    ) -> None:
        """Put sums over `count` samples into `squares`, by the parameter's name."""
        self.name = name
        self.module = module
        self.called = False
        self._squares = squares
        self._count = count
        # Has autograd come here, whatever else needs a gradient.
        self._start = torch.zeros(0, requires_grad=True)

    def __call__(self, x: Tensor) -> Tensor:
        """(N, C, H, W), as many images of each sample -> the layer's output.

        Raises:
            ValueError: the layer is called twice, or images belong to no sample.
        """
        if self.called:
            raise ValueError(f"{self.name}.weight: the loss calls its layer twice")
        if len(x) % self._count:
            raise ValueError(
                f"{self.name}.weight: its layer was given {len(x)} images for "
                f"{self._count} samples"
            )
        self.called = True
        if not self.own(x):
            x = x.contiguous(memory_format=torch.channels_last)
        return cast(Tensor, _Convolution.apply(x, self._start, self))

    def own(self, x: Tensor) -> bool:
        """Whether our kernels compute the layer, as they do in training."""
        return isinstance(self.module, SMALL_LAYERS) and takes(self.module, x)

    def by_name(self, x: Tensor) -> bool:
        """Whether oneDNN is asked for: whatever the size, the same algorithm."""
        return (
            not self.own(x)
            and x.device.type == "cpu"
            and x.dtype == torch.float32
            and not torch.is_autocast_enabled("cpu")
            and torch.backends.mkldnn.is_available()
            and bool(torch.backends.mkldnn.enabled)
            and self._plain()
        )

    def pieces(self, x: Tensor) -> int:
        """1, or the number of samples if one alone is computed otherwise than all."""
        if self.own(x) or self.by_name(x) or torch.is_autocast_enabled(x.device.type):
            return 1
        one, all_of_them = (
            torch._C._select_conv_backend(
                images, self.module.weight, self.module.bias, *self._geometry()
            )
            for images in (x[: len(x) // self._count], x)
        )
        return 1 if one == all_of_them else self._count

    def run(self, x: Tensor) -> Tensor:
        """Compute the layer itself."""
        module = self.module
        if not self.by_name(x):
            return cast(Tensor, type(module).forward(module, x))
        return _onednn(x, module.weight, module.bias, self._padding)

    def to_input(self, x: Tensor, grad: Tensor, *, by_name: bool) -> Tensor:
        """Gradient for the input `x` from that for the output."""
        if self.own(x):
            return cast(
                Tensor, self.module.to_input(grad.contiguous(), self.module.weight)
            )
        weight = self.module.weight.to(grad.dtype)
        if not by_name:
            wanted = [True, False, False]
            return cast(Tensor, self._backward(x, grad, weight, wanted)[0])
        turned = weight.flip(2, 3).transpose(0, 1)
        sizes = zip(self.module.kernel_size, self._padding, strict=True)
        return _onednn(grad, turned, None, [size - 1 - pad for size, pad in sizes])

    def add_squares(self, x: Tensor, grad: Tensor) -> None:
        """Sum the squares of the samples' gradients."""
        parameters = dict(self.module.named_parameters(recurse=False))
        if self.own(x) or self.is_small(x):
            for kind, gradients in self._by_kernels(x, grad).items():
                total = gradients.square().sum(0).to(parameters[kind].dtype)
                self._squares[f"{self.name}.{kind}"] = total
            return
        # Only its shape is used, and in this layout it is not converted first.
        weight = torch.empty_like(
            self.module.weight, dtype=grad.dtype, memory_format=torch.channels_last
        )
        sums = {
            f"{self.name}.{kind}": torch.zeros_like(parameter)
            for kind, parameter in parameters.items()
        }
        wanted = [False, True, "bias" in parameters]
        pairs = zip(x.chunk(self._count), grad.chunk(self._count), strict=True)
        for x_n, grad_n in pairs:
            gradients = self._backward(x_n, grad_n, weight, wanted)[1 : 1 + len(sums)]
            for total, gradient in zip(sums.values(), gradients, strict=True):
                gradient = gradient.to(total.dtype)
                total.addcmul_(gradient, gradient)
        self._squares.update(sums)

    def is_small(self, x: Tensor) -> bool:
        """Whether a kernel of ours is quicker, if the rest is oneDNN's."""
        module = self.module
        return (
            x.device.type == "cpu"
            and x.dtype in (torch.float32, torch.float64)
            and self._plain()
            and module.bias is None
            and module.kernel_size == (3, 3)
            and module.padding == (1, 1)
            and module.in_channels * module.out_channels <= SMALL
        )

    def _by_kernels(self, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
        """The gradients of each sample: (samples, *shape of the parameter)."""
        images, grad = len(x) // self._count, grad.contiguous()
        if not self.own(x):
            return {"weight": kernel_gradients(x, grad, images)}
        found = {"weight": self.module.to_weight(x, grad, images)}
        if self.module.bias is not None:
            found["bias"] = grad.sum((2, 3)).unflatten(0, (-1, images)).sum(1)
        return found

    def _backward(
        self, x: Tensor, grad: Tensor, weight: Tensor, wanted: list[bool]
    ) -> Any:
        """Gradients for x, weight and bias, those that are wanted."""
        bias = self.module.bias
        sizes = None if bias is None else list(bias.shape)
        return torch.ops.aten.convolution_backward(
            grad, x, weight, sizes, *self._geometry(), wanted
        )

    @property
    def _padding(self) -> list[int]:
        return list(self.module.padding)

    def _plain(self) -> bool:
        """Whether the gradient for the input is another such convolution."""
        module = self.module
        return (
            isinstance(module, nn.Conv2d)
            and module.stride == (1, 1)
            and module.dilation == (1, 1)
            and module.groups == 1
            and all(
                pad < size
                for pad, size in zip(self._padding, module.kernel_size, strict=True)
            )
        )

    def _geometry(self) -> tuple[Any, ...]:
        module = self.module
        return (
            module.stride, module.padding, module.dilation, module.transposed,
            module.output_padding, module.groups,
        )  # fmt: skip


class _Convolution(Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, _start: Tensor, layer: SampleConvolution
    ) -> Tensor:
        ctx.save_for_backward(x)
        ctx.layer, ctx.pieces, ctx.by_name = layer, layer.pieces(x), layer.by_name(x)
        return _joined([layer.run(piece) for piece in x.chunk(ctx.pieces)])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,), (grad,), layer = ctx.saved_tensors, grads, ctx.layer
        x = x.to(grad.dtype)
        layer.add_squares(x, grad)
        if not ctx.needs_input_grad[0]:
            return None, None, None
        pairs = zip(x.chunk(ctx.pieces), grad.chunk(ctx.pieces), strict=True)
        to_x = [layer.to_input(*pair, by_name=ctx.by_name) for pair in pairs]
        return _joined(to_x), None, None


def _onednn(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: list[int]
) -> Tensor:
    weight = weight.contiguous(memory_format=torch.channels_last)
    return torch.mkldnn_convolution(x, weight, bias, padding, [1, 1], [1, 1], 1)


def _joined(pieces: list[Tensor]) -> Tensor:
    if len(pieces) == 1:
        return pieces[0]
    return torch.cat(pieces).contiguous(memory_format=torch.channels_last)
