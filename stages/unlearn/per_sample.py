"""Squared gradients of single samples from one backward pass over a batch.

Samples do not meet in the network: its norms work on each image alone. The gradient of
the sum of their losses at a layer's output is therefore, image by image, that of the
sample's own loss. Only the weights see all samples. From a convolution's input x and
the gradient d at its output,

    g_n[o, i, k] = sum of d[b, o, p] x[b, i, p + k] over positions p, images b of n,

is the weight gradient of a convolution over the images of sample n alone: PyTorch's own
kernel, called once per sample. A layer that takes coils for images sums over the coils
of a slice before the square. `dc_weight` is given to the network once per sample.

Rounding errors matter more than they should: where one decides on which side of zero a
ReLU is, a gradient jumps, and importances in float32 moved by 1 % of their tensor's
maximum with the size of the batch. So nothing here may depend on the batch: a layer for
which PyTorch has another algorithm for one sample than for many is run by sample. One
thing still does: `unet_ops.join` leaves the channels-last layout where it is given one
image, which the next convolution then takes otherwise. Slice by slice, importances of a
trained network were off by up to 1 % of their tensor's maximum, in batches of 2 to 16
by 2e-7.

Memory is that of a training step with the same batch, time 10 to 40 % more. Patches and
matrix products, grouped convolutions and `torch.func.vmap` took longer.
"""

from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.func import functional_call

from stages.common.fit import BatchLoss
from stages.common.slices import ReconBatch
from stages.common.varnet import VarNet, VarNetBlock


def squared_gradients(
    model: nn.Module, batch_loss: BatchLoss, batch: ReconBatch
) -> dict[str, Tensor]:
    """Sum over the samples of a batch of g^2, g being the gradient of a sample's loss.

    Args:
        model: made of convolutions, each called once in a forward pass and on images in
            the order of their samples, and of a VarNet's `dc_weight`.
        batch_loss: (model, batch) -> mean of the samples' losses, none of which depends
            on another sample.
        batch: samples of one shape, on the model's device.

    Returns:
        For each parameter name a tensor of its shape and type, >= 0.

    Raises:
        ValueError: a parameter's gradient is not to be had like this; names it.
    """
    count = len(batch.refs)
    squares: dict[str, Tensor] = {}
    layers, scalars = _split(model, squares, count)
    weights = {
        name: scalar.detach().expand(count).clone().requires_grad_()
        for name, scalar in scalars.items()
    }
    with ExitStack() as stack:
        for layer in layers:
            vars(layer.module)["forward"] = layer
            stack.callback(vars(layer.module).pop, "forward")
        loss = batch_loss(cast(VarNet, _Replaced(model, weights)), batch)
        for layer in layers:
            if not layer.called:
                raise ValueError(f"{layer.name}.weight: the loss never calls its layer")
        torch.autograd.backward(loss * count)
    for name, weight in weights.items():
        if weight.grad is not None:
            squares[name] = weight.grad.square().sum().view(1)
    return {
        name: squares[name] if name in squares else torch.zeros_like(parameter)
        for name, parameter in model.named_parameters()
    }


class _Layer:
    """Stands in for a convolution's `forward` and squares each sample's gradients."""

    def __init__(
        self, name: str, module: Any, squares: dict[str, Tensor], count: int
    ) -> None:
        self.name = name
        self.module = module
        self.squares = squares
        self.count = count
        self.called = False
        # Has autograd come here, whatever else needs a gradient.
        self.start = torch.zeros(0, requires_grad=True)

    def __call__(self, x: Tensor) -> Tensor:
        if self.called:
            raise ValueError(f"{self.name}.weight: the loss calls its layer twice")
        if len(x) % self.count:
            raise ValueError(
                f"{self.name}.weight: its layer was given {len(x)} images for "
                f"{self.count} samples"
            )
        self.called = True
        return cast(Tensor, _Convolution.apply(x, self.start, self))

    def pieces(self, x: Tensor) -> int:
        """1, or the number of samples if one alone is computed otherwise than all."""
        if torch.is_autocast_enabled(x.device.type):
            return 1
        one, all_of_them = (
            torch._C._select_conv_backend(
                images, self.module.weight, self.module.bias, *self._geometry()
            )
            for images in (x[: len(x) // self.count], x)
        )
        return 1 if one == all_of_them else self.count

    def add_squares(self, x: Tensor, grad: Tensor) -> None:
        """Add the squares of one sample's gradients."""
        parameters = dict(self.module.named_parameters(recurse=False))
        # Only its shape is used, and in this layout it is not converted first.
        weight = torch.empty_like(
            self.module.weight, dtype=grad.dtype, memory_format=torch.channels_last
        )
        wanted = [False, True, "bias" in parameters]
        gradients = self.backward(x, grad, weight, wanted)[1 : 1 + len(parameters)]
        for (kind, parameter), gradient in zip(
            parameters.items(), gradients, strict=True
        ):
            name, gradient = f"{self.name}.{kind}", gradient.to(parameter.dtype)
            if name in self.squares:
                self.squares[name].addcmul_(gradient, gradient)
            else:
                self.squares[name] = gradient.square()

    def backward(
        self, x: Tensor, grad: Tensor, weight: Tensor, wanted: list[bool]
    ) -> Any:
        """Gradients for x, weight and bias, those that are wanted."""
        bias = self.module.bias
        sizes = None if bias is None else list(bias.shape)
        return torch.ops.aten.convolution_backward(
            grad, x, weight, sizes, *self._geometry(), wanted
        )

    def _geometry(self) -> tuple[Any, ...]:
        module = self.module
        return (
            module.stride, module.padding, module.dilation, module.transposed,
            module.output_padding, module.groups,
        )  # fmt: skip


class _Convolution(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, _start: Tensor, layer: _Layer) -> Tensor:
        ctx.save_for_backward(x)
        ctx.layer, ctx.pieces = layer, layer.pieces(x)
        run, module = type(layer.module).forward, layer.module
        return _joined([run(module, piece) for piece in x.chunk(ctx.pieces)])

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        (x,), (grad,), layer = ctx.saved_tensors, grads, ctx.layer
        x = x.to(grad.dtype)
        pairs = zip(x.chunk(layer.count), grad.chunk(layer.count), strict=True)
        for x_n, grad_n in pairs:
            layer.add_squares(x_n, grad_n)
        if not ctx.needs_input_grad[0]:
            return None, None, None
        weight, wanted = layer.module.weight.to(grad.dtype), [True, False, False]
        pairs = zip(x.chunk(ctx.pieces), grad.chunk(ctx.pieces), strict=True)
        to_x = [layer.backward(*pair, weight, wanted)[0] for pair in pairs]
        return _joined(to_x), None, None


def _joined(pieces: list[Tensor]) -> Tensor:
    if len(pieces) == 1:
        return pieces[0]
    return torch.cat(pieces).contiguous(memory_format=torch.channels_last)


def _split(
    model: nn.Module, squares: dict[str, Tensor], count: int
) -> tuple[list[_Layer], dict[str, Tensor]]:
    """The convolutions of a model, and its scalar parameters by name."""
    layers: dict[str, _Layer] = {}
    scalars: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(path, recurse=False):
            if isinstance(module, VarNetBlock) and name.endswith("dc_weight"):
                scalars[name] = parameter
            elif (
                isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
                and module.padding_mode == "zeros"
                and not isinstance(module.padding, str)
            ):
                layers[path] = _Layer(path, module, squares, count)
            else:
                raise ValueError(
                    f"{name}: there is no rule for the gradient of a "
                    f"{type(module).__name__} sample by sample; write one in "
                    "stages/unlearn/per_sample.py"
                )
    return list(layers.values()), scalars


class _Replaced(nn.Module):
    """A model that is called with some of its parameters replaced."""

    def __init__(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.model = model
        self.weights = weights

    def forward(self, *args: Any) -> Any:
        return functional_call(self.model, self.weights, args)
