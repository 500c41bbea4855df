"""Squared gradients of single samples from one backward pass over a batch.

Samples do not meet in the network: its norms work on each image alone. The gradient of
the sum of their losses at a layer's output is therefore, image by image, that of the
sample's own loss. Only the weights see all samples. From a convolution's input x and
the gradient d at its output,

    g_n[o, i, k] = sum of d[b, o, p] x[b, i, p + k] over positions p, images b of n,

is the weight gradient of a convolution over the images of sample n alone
(`sample_convolution.py`). A layer that takes coils for images sums over the coils of a
slice before the square. `dc_weight` is given to the network once per sample.

Memory is that of a training step with the same batch, time 20 to 30 % more. Patches and
matrix products, grouped convolutions and `torch.func.vmap` took longer.
"""

from contextlib import ExitStack
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call

from stages.common.fit import BatchLoss
from stages.common.planes import SMALL_LAYERS
from stages.common.slices import ReconBatch
from stages.common.varnet import VarNet, VarNetBlock
from stages.unlearn.sample_convolution import SampleConvolution

# A subclass may compute something else.
_CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d, *SMALL_LAYERS)


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


def _split(
    model: nn.Module, squares: dict[str, Tensor], count: int
) -> tuple[list[SampleConvolution], dict[str, Tensor]]:
    """The convolutions of a model, and its scalar parameters by name."""
    layers: dict[str, SampleConvolution] = {}
    scalars: dict[str, Tensor] = {}
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(path, recurse=False):
            if isinstance(module, VarNetBlock) and name.endswith("dc_weight"):
                scalars[name] = parameter
            elif (
                type(module) in _CONVOLUTIONS
                and module.padding_mode == "zeros"
                and not isinstance(module.padding, str)
            ):
                layers[path] = SampleConvolution(path, module, squares, count)
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
