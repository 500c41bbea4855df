"""The kernels of small layers against PyTorch's own layers, values and gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from stages.common import planes
from stages.common.planes import (
    SMALL_LAYERS,
    Conv1x1,
    Conv3x3,
    ConvTranspose2x2,
    SmallLayer,
)
from stages.common.unet import NormUnet
from tests.common.layouts import in_layout

LAYERS = {"3x3": Conv3x3, "1x1": Conv1x1, "transposed": ConvTranspose2x2}
PLAIN = {"3x3": nn.Conv2d, "1x1": nn.Conv2d, "transposed": nn.ConvTranspose2d}
# Images, channels in and out, height and width: fewer pixels than a tile and more,
# channels that fill no group.
SHAPES = [
    (2, 2, 8, 16, 16),
    (3, 3, 5, 7, 11),
    (1, 1, 1, 2, 2),
    (2, 16, 4, 9, 50),
    (1, 9, 1, 1, 12),
    (2, 4, 2, 12, 1),
    (0, 2, 4, 6, 6),
]
pytestmark = pytest.mark.usefixtures("one_thread")

TOLERANCE = {torch.float64: 1e-14, torch.float32: 2e-6}


def noise(*shape: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def make(kind: str, inputs: int, outputs: int, dtype: torch.dtype) -> SmallLayer:
    layer = LAYERS[kind](inputs, outputs, small=True).to(dtype)
    for seed, parameter in enumerate(layer.parameters(), start=1):
        parameter.data = noise(*parameter.shape, dtype=dtype, seed=seed)
    return layer


def run(function: Callable[[Tensor], Tensor], layer, x: Tensor) -> list[Tensor]:
    """The output, then gradients of a weighted sum of it: of `x` and the weights."""
    x = x.clone().requires_grad_()
    out = function(x)
    # In another layout than the output's, as what comes after may give it.
    out = in_layout(out, torch.channels_last)
    total = (out * noise(*out.shape, dtype=out.dtype, seed=9)).sum()
    return [out, *torch.autograd.grad(total, [x, *layer.parameters()])]


@pytest.fixture
def used(monkeypatch) -> list[object]:
    """The layers that our kernels computed."""
    layers: list[object] = []
    apply = planes._apply

    def watched(layer: SmallLayer, x: Tensor) -> Tensor:
        layers.append(layer)
        return apply(layer, x)

    monkeypatch.setattr(planes, "_apply", watched)
    return layers


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", LAYERS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_layer_is_what_pytorch_has(kind, shape, dtype, used):
    images, inputs, outputs, height, width = shape
    layer = make(kind, inputs, outputs, dtype)
    x = noise(images, inputs, height, width, dtype=dtype)
    found = run(layer, layer, x)
    expected = run(lambda x: PLAIN[kind].forward(layer, x), layer, x)
    assert used == [layer]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.is_contiguous()
        assert (ours - theirs).norm() <= TOLERANCE[dtype] * theirs.norm()


@pytest.mark.parametrize("kind", LAYERS)
def test_gradients_of_single_samples(kind):
    layer = make(kind, 3, 2, torch.float64)
    x = noise(6, 3, 5, 4, dtype=torch.float64)
    grad = noise(*layer(x).shape, dtype=torch.float64, seed=9)
    found = layer.to_weight(x, grad, 2)
    assert len(found) == 3
    for n in range(3):
        own = slice(2 * n, 2 * n + 2)
        out = PLAIN[kind].forward(layer, x[own])
        (expected,) = torch.autograd.grad((out * grad[own]).sum(), layer.weight)
        torch.testing.assert_close(found[n], expected)


@pytest.mark.parametrize("kind", LAYERS)
def test_an_image_does_not_depend_on_its_batch(kind):
    layer = make(kind, 6, 5, torch.float32)
    x = noise(4, 6, 9, 13, dtype=torch.float32)
    out = layer(x).detach()
    grad = noise(*out.shape, dtype=torch.float32, seed=9)
    assert torch.equal(out[2:3], layer(x[2:3]))
    to_input = layer.to_input(grad, layer.weight)
    assert torch.equal(to_input[2:3], layer.to_input(grad[2:3], layer.weight))
    to_weight = layer.to_weight(x, grad, 1)
    assert torch.equal(to_weight[2:3], layer.to_weight(x[2:3], grad[2:3], 1))


@pytest.mark.parametrize("kind", LAYERS)
def test_what_is_no_number_stays_in_its_image(kind):
    layer = make(kind, 3, 4, torch.float32)
    x = noise(3, 3, 4, 4, dtype=torch.float32)
    x[1, 0, 1, 1] = torch.nan
    x[1, 2, 3, 3] = torch.inf
    out = layer(x).detach()
    assert out[[0, 2]].isfinite().all()
    expected = PLAIN[kind].forward(layer, x)[1].detach()
    assert torch.equal(out[1].isfinite(), expected.isfinite())


@pytest.mark.parametrize("kind", LAYERS)
def test_what_the_kernels_do_not_know_is_left_to_pytorch(kind, used):
    layer = make(kind, 4, 4, torch.float32)
    x = noise(2, 4, 6, 6, dtype=torch.float32)
    layer(x.contiguous(memory_format=torch.channels_last))
    with torch.autocast("cpu", torch.bfloat16):
        layer(x)
    torch.set_num_threads(2)
    layer(x)
    torch.set_num_threads(1)
    layer.small = False
    layer(x)
    assert not used
    layer.small = True
    layer(x)
    assert used


@pytest.mark.parametrize("kind", LAYERS)
def test_bad_input_is_refused_as_by_pytorch(kind):
    layer = make(kind, 4, 4, torch.float32)
    with pytest.raises(RuntimeError, match="expected input"):
        layer(noise(2, 3, 6, 6, dtype=torch.float32))
    with pytest.raises(RuntimeError, match="type"):
        layer(noise(2, 4, 6, 6, dtype=torch.float64))
    assert layer(noise(4, 6, 6, dtype=torch.float32)).ndim == 3


def test_gradients_are_of_the_weights_that_were_used():
    layer = make("3x3", 2, 3, torch.float64)
    other = {"weight": noise(3, 2, 3, 3, dtype=torch.float64, seed=5)}
    x = noise(2, 2, 5, 5, dtype=torch.float64).requires_grad_()
    (found,) = torch.autograd.grad(functional_call(layer, other, x).sum(), x)
    layer.weight.data = other["weight"]
    (expected,) = torch.autograd.grad(layer(x).sum(), x)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("chans", "pools", "small"), [(8, 2, True), (8, 3, False), (33, 1, False)]
)
@pytest.mark.parametrize("bf16", [False, True])
def test_the_kernels_compute_small_networks_alone(chans, pools, small, bf16, used):
    network = NormUnet(chans, pools)
    image = torch.complex(
        noise(1, 16, 32, dtype=torch.float32), noise(1, 16, 32, dtype=torch.float32)
    )
    with torch.no_grad():
        network(image, bf16=bf16)
    layers = [one for one in network.modules() if isinstance(one, SMALL_LAYERS)]
    assert len(used) == (len(layers) if small and not bf16 else 0)
