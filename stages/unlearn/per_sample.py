"""Squared gradients of single samples from one backward pass over a batch.

Samples do not meet in the network: its norms work on each image alone. The gradient of
the sum of their losses at a layer's output is therefore, image by image, that of the
sample's own loss. Only the weights see all samples, so autograd is not asked for their
gradients. From a convolution's input x and the gradient d at its output,

    g_n[o, i, k] = sum of d[b, o, p] x[b, i, p + k] over positions p, images b of n,

is the weight gradient of a convolution over the images of sample n alone: PyTorch's own
kernel, called once per sample. A layer that takes coils for images sums over the coils
of a slice before the square. `dc_weight` is given to the network once per sample.

Work and memory are those of a training step of the same batch. On a CPU, patches with
matrix products, grouped convolutions and `torch.func.vmap` were all slower.
"""

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
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
    convolutions, scalars = _split(model)
    squares = _Squares(model, count)
    weights = {
        name: scalar.detach().expand(count).clone().requires_grad_()
        for name, scalar in scalars.items()
    }
    with ExitStack() as stack:
        for parameter in model.parameters():
            stack.callback(parameter.requires_grad_, parameter.requires_grad)
            parameter.requires_grad_(False)
        for name, module in convolutions.items():
            watch = partial(squares.watch, name)
            stack.enter_context(module.register_forward_hook(watch))
        loss = batch_loss(cast(VarNet, _Replaced(model, weights)), batch)
        for name in sorted(convolutions.keys() - squares.called):
            raise ValueError(f"{name}.weight: the loss never calls its module")
        torch.autograd.backward(loss * count)
    for name, weight in weights.items():
        if weight.grad is not None:
            squares.add(name, weight.grad[:, None])
    return squares.sums


class _Squares:
    """Adds up squared gradients while a backward pass goes through the convolutions."""

    def __init__(self, model: nn.Module, count: int) -> None:
        self.count = count
        self.sums = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
        self.called: set[str] = set()

    def add(self, name: str, gradients: Iterable[Tensor]) -> None:
        total = self.sums[name]
        for gradient in gradients:
            gradient = gradient.to(total.dtype)
            total.addcmul_(gradient, gradient)

    def watch(self, name: str, module: Any, inputs: tuple[Tensor], out: Tensor) -> Any:
        """Forward hook: asks for the gradient at a convolution's output."""
        if name in self.called:
            raise ValueError(f"{name}.weight: the loss calls its module twice")
        if len(out) % self.count:
            raise ValueError(
                f"{name}.weight: its module was given {len(out)} images for "
                f"{self.count} samples"
            )
        self.called.add(name)
        if not out.requires_grad:  # the first one: its weights are frozen, like all
            out = out.detach().requires_grad_()
        out.register_hook(partial(self._collect, name, module, inputs[0].detach()))
        return out

    def _collect(self, name: str, module: Any, x: Tensor, grad: Tensor) -> None:
        self.add(f"{name}.weight", _weight_gradients(module, x, grad, self.count))
        if module.bias is not None:
            values = grad.sum((2, 3), dtype=module.bias.dtype)
            self.add(f"{name}.bias", values.unflatten(0, (self.count, -1)).sum(1))


def _weight_gradients(
    module: Any, x: Tensor, grad: Tensor, count: int
) -> Iterator[Tensor]:
    """A convolution's weight gradient for each sample, in the precision of `grad`."""
    images = len(x) // count
    x = x.to(grad.dtype)
    weight = module.weight.to(grad.dtype)  # only its shape is used
    for x_n, grad_n in zip(x.split(images), grad.split(images), strict=True):
        yield torch.ops.aten.convolution_backward(
            grad_n,
            x_n,
            weight,
            None,
            module.stride,
            module.padding,
            module.dilation,
            module.transposed,
            module.output_padding,
            module.groups,
            [False, True, False],
        )[1]


def _split(model: nn.Module) -> tuple[dict[str, nn.Module], dict[str, Tensor]]:
    """The convolutions of a model, and its scalar parameters, by name."""
    convolutions: dict[str, nn.Module] = {}
    scalars: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(path, recurse=False):
            if isinstance(module, VarNetBlock) and name.endswith("dc_weight"):
                scalars[name] = parameter
            elif _is_plain_convolution(module):
                convolutions[path] = module
            else:
                raise ValueError(
                    f"{name}: there is no rule for the gradient of a "
                    f"{type(module).__name__} sample by sample; write one in "
                    "stages/unlearn/per_sample.py"
                )
    return convolutions, scalars


def _is_plain_convolution(module: nn.Module) -> bool:
    return (
        isinstance(module, nn.Conv2d | nn.ConvTranspose2d)
        and module.padding_mode == "zeros"
        and not isinstance(module.padding, str)
    )


class _Replaced(nn.Module):
    """A model that is called with some of its parameters replaced."""

    def __init__(self, model: nn.Module, weights: dict[str, Tensor]) -> None:
        super().__init__()
        self.model = model
        self.weights = weights

    def forward(self, *args: Any) -> Any:
        return functional_call(self.model, self.weights, args)
