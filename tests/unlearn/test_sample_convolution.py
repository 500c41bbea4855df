"""The ways in which a layer is computed by other code than PyTorch's own layer."""

import pytest
import torch
from torch import Tensor, nn

from stages.common import planes
from stages.common.varnet import build_varnet
from stages.unlearn import sample_convolution
from stages.unlearn.importance import slices_at_a_time
from stages.unlearn.sample_convolution import SampleConvolution
from tests.unlearn.noise import (
    LOSS_OF_BATCH,
    SAMPLES,
    SETTINGS,
    Given,
    found_in,
    make_sample,
    require_close,
)


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    values = torch.randn(shape, generator=generator, dtype=dtype)
    return values.contiguous(memory_format=torch.channels_last)


def by_autograd(layer: nn.Conv2d, x: Tensor, grad: Tensor, count: int) -> Tensor:
    """Squares of the weight gradients of single samples, summed."""
    total = torch.zeros_like(layer.weight)
    for x_n, grad_n in zip(x.chunk(count), grad.chunk(count), strict=True):
        (gradient,) = torch.autograd.grad((layer(x_n) * grad_n).sum(), layer.weight)
        total += gradient.square()
    return total


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("inputs", "outputs", "images", "height", "width"),
    [(2, 8, 1, 16, 16), (3, 5, 2, 7, 11), (1, 1, 3, 1, 1), (16, 4, 1, 12, 8)],
)
def test_squares_of_small_layers(inputs, outputs, images, height, width, dtype):
    count = 3
    module = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False, dtype=dtype)
    x = noise(count * images, inputs, height, width, dtype=dtype)
    grad = noise(count * images, outputs, height, width, dtype=dtype)
    squares: dict[str, Tensor] = {}
    layer = SampleConvolution("layer", module, squares, count)
    assert layer.is_small(x)
    layer.add_squares(x, grad)
    expected = by_autograd(module.double(), x.double(), grad.double(), count)
    tolerance = {torch.float32: 1e-5, torch.float64: 1e-12}[dtype]
    torch.testing.assert_close(
        squares["layer.weight"], expected.to(dtype), rtol=tolerance, atol=tolerance
    )


def test_what_is_not_a_number_stays_so():
    module = nn.Conv2d(2, 4, 3, padding=1, bias=False)
    squares: dict[str, Tensor] = {}
    x, grad = noise(2, 2, 8, 8), noise(2, 4, 8, 8)
    x[1, 0, 3, 3], grad[0, 2, 5, 5] = torch.nan, torch.inf
    SampleConvolution("layer", module, squares, 2).add_squares(x, grad)
    found = squares["layer.weight"]
    assert found[:, 0].isnan().all()
    assert not found[2].isfinite().any()
    assert found[[0, 1, 3], 1].isfinite().all()


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.Conv2d(3, 4, 3),
        nn.Conv2d(2, 3, (1, 5), padding=(0, 2)),
    ],
    ids=["padded", "not padded", "by rows"],
)
def test_onednn_by_name_is_the_layer(module):
    layer = SampleConvolution("layer", module, {}, 1)
    x = noise(2, module.in_channels, 9, 12)
    assert layer.by_name(x)
    expected = module(x.requires_grad_())
    grad = noise(*expected.shape)
    torch.testing.assert_close(layer.run(x), expected)
    (to_x,) = torch.autograd.grad((expected * grad).sum(), x)
    torch.testing.assert_close(layer.to_input(x, grad, by_name=True), to_x)


@pytest.mark.parametrize("size", [1, 3])
def test_a_wide_network_is_computed_alike_at_any_batch_size(monkeypatch, size):
    """In another layout or algorithm a ReLU may turn over."""
    monkeypatch.setattr(planes, "WIDEST", 0)
    onednn, layouts = sample_convolution._onednn, []

    def watched(x: Tensor, *rest: object) -> Tensor:
        layouts.append(x.is_contiguous(memory_format=torch.channels_last))
        return onednn(x, *rest)

    monkeypatch.setattr(sample_convolution, "_onednn", watched)
    model = build_varnet(SETTINGS, seed=0)
    found_in(model, SAMPLES[:3], LOSS_OF_BATCH, size)
    layers = [one for one in model.modules() if isinstance(one, nn.Conv2d)]
    first = 1  # the first one's input needs no gradient
    assert len(layouts) == (2 * len(layers) - first) * (3 // size)
    assert all(layouts)


@pytest.mark.usefixtures("one_thread")
@pytest.mark.parametrize("widest", [planes.WIDEST, 0])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_importances_do_not_depend_on_the_batch(precision, widest, monkeypatch):
    monkeypatch.setattr(planes, "WIDEST", widest)
    model = build_varnet(SETTINGS.model_copy(update={"precision": precision}), seed=0)
    few = found_in(model, SAMPLES, LOSS_OF_BATCH, 1)
    many = found_in(model, SAMPLES, LOSS_OF_BATCH, len(SAMPLES))
    require_close(few, many, allowed=1e-6)


def test_large_slices_are_fewer_at_a_time():
    def data(size: int) -> Given:
        return Given([make_sample(n, shape=(1, size, size), crop=size) for n in (0, 1)])

    assert slices_at_a_time(data(80)) == 8
    assert slices_at_a_time(data(256)) == 2
    assert slices_at_a_time(data(512)) == 1
