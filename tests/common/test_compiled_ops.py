"""Compiled kernels against PyTorch's own operations, values and gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from stages.common import coil_ops, unet_ops
from tests.common.layouts import in_layout

PRECISIONS = [torch.float64, torch.float32, torch.bfloat16]
# Rounding of each precision, with room for sums over an image.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-6, torch.bfloat16: 8e-3}
IMAGES = [(2, 3, 6, 8), (1, 18, 4, 4), (3, 1, 8, 2)]
LAYOUTS = [torch.contiguous_format, torch.channels_last]

Op = Callable[..., Tensor | tuple[Tensor, ...]]


def real(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    # Not centred: a variance from E[x^2] - E[x]^2 alone would be seen.
    x = torch.randn(shape, dtype=torch.float64, generator=generator) + 3 * seed
    return x.to(dtype)


def complex_(shape: tuple[int, ...], dtype: torch.dtype, seed: int = 0) -> Tensor:
    return torch.complex(real(shape, dtype, seed), real(shape, dtype, seed + 1))


def run(op: Op, inputs: list[Tensor]) -> list[Tensor]:
    """Outputs, then the gradients of a weighted sum of them by each float input."""
    inputs = [x.clone().requires_grad_(x.dtype != torch.bool) for x in inputs]
    outputs = op(*inputs)
    outputs = outputs if isinstance(outputs, tuple) else (outputs,)
    total = torch.zeros((), dtype=torch.float64)
    for seed, output in enumerate(outputs, start=5):
        parts = torch.view_as_real(output) if output.is_complex() else output
        # Exact in every precision.
        weights = real(tuple(parts.shape), torch.bfloat16, seed)
        total = total + (parts.double() * weights.double()).sum()
    return [*outputs, *torch.autograd.grad(total, inputs)]


def both(op: Op, inputs: list[Tensor], monkeypatch) -> list[tuple[Tensor, Tensor]]:
    """Compiled results beside PyTorch's, in double precision where those are coarse.

    PyTorch's own gradient of a bfloat16 instance norm is off by 5 to 20 %.
    """
    compiled = run(op, inputs)
    for module in (unet_ops, coil_ops):
        monkeypatch.setattr(module, "on_cpu", lambda _: False)
    wide = [x.double() if x.dtype == torch.bfloat16 else x for x in inputs]
    plain = run(op, wide)
    return [(a, b.to(a.dtype)) for a, b in zip(compiled, plain, strict=True)]


def assert_close(pairs: list[tuple[Tensor, Tensor]], dtype: torch.dtype) -> None:
    for found, expected in pairs:
        assert found.shape == expected.shape
        wide = torch.complex128 if found.is_complex() else torch.float64
        difference = (found.to(wide) - expected.to(wide)).norm()
        assert difference <= TOLERANCE[dtype] * expected.to(wide).norm()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("shape", IMAGES)
def test_norm_and_activation(shape, dtype, layout, monkeypatch):
    x = real(shape, dtype, seed=1).contiguous(memory_format=layout)
    assert_close(both(unet_ops.norm_act, [x], monkeypatch), dtype)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", PRECISIONS)
@pytest.mark.parametrize("shape", IMAGES)
def test_pooling_also_sums_the_gradient_of_what_goes_past_it(
    shape, dtype, layout, monkeypatch
):
    x = real(shape, dtype).contiguous(memory_format=layout)
    assert_close(both(unet_ops.average_pool, [x], monkeypatch), dtype)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(
    ("shape", "padded"), [((2, 32, 16), (32, 16)), ((3, 13, 21), (16, 32))]
)
def test_standardising_and_restoring(shape, padded, dtype, monkeypatch):
    image = complex_(shape, dtype, seed=1)

    def there_and_back(image: Tensor) -> tuple[Tensor, ...]:
        x, mean, std = unet_ops.standardise(image, 16, dtype)
        back = unet_ops.restore(x * x, mean, std, image.shape[-2:], 16)
        return x, mean, std, back

    pairs = both(there_and_back, [image], monkeypatch)
    assert pairs[0][0].shape[2:] == padded
    assert_close(pairs, dtype)


def test_a_constant_image_is_passed_on():
    image = torch.full((2, 5, 7), 3 + 4j)
    x, mean, std = unet_ops.standardise(image, 16, torch.float32)
    assert torch.equal(x, torch.zeros(2, 2, 16, 16))
    assert torch.equal(std, torch.ones(2, 2))
    assert torch.equal(unet_ops.restore(x, mean, std, image.shape[-2:], 16), image)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("shape", [(2, 3, 6, 8), (1, 1, 5, 7)])
def test_coils_and_data_consistency(shape, dtype, monkeypatch):
    kspace, maps, reference = (complex_(shape, dtype, seed) for seed in (0, 2, 4))
    sampled = (torch.arange(shape[0] * shape[3]) % 3 == 0).reshape(shape[0], -1)
    weights = real((shape[0],), dtype, seed=1)

    def cascade(kspace: Tensor, maps: Tensor, weights: Tensor) -> tuple[Tensor, ...]:
        image, kspace = coil_ops.reduce_coils(kspace, maps)
        after = coil_ops.data_consistency(
            image * image, maps, kspace, reference, sampled.to(dtype), weights
        )
        return image, after

    assert_close(both(cascade, [kspace, maps, weights], monkeypatch), dtype)


@pytest.mark.parametrize("op", [coil_ops.unit_energy, coil_ops.root_sum_of_squares])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_energy_over_coils(op, dtype, monkeypatch):
    maps = complex_((2, 3, 5, 7), dtype)
    assert_close(both(op, [maps], monkeypatch), dtype)


@pytest.mark.parametrize("op", [coil_ops.unit_energy, coil_ops.root_sum_of_squares])
def test_no_energy_gives_finite_gradients(op):
    maps = complex_((2, 3, 5, 7), torch.float32)
    maps[0] = 0
    maps[1, :, 2] = 0
    for result in run(op, [maps]):
        assert result.isfinite().all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_what_is_no_number_stays_none(dtype, layout):
    x = real((2, 3, 4, 4), dtype).contiguous(memory_format=layout)
    x[1, 2, 0, 0] = torch.nan
    out = unet_ops.norm_act(x)
    assert out[1, 2].isnan().all()
    assert out[0].isfinite().all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", PRECISIONS)
def test_an_image_does_not_depend_on_its_batch(dtype, layout):
    x = real((4, 6, 8, 8), dtype).contiguous(memory_format=layout)
    whole, alone = run(unet_ops.norm_act, [x]), run(unet_ops.norm_act, [x[2:3]])
    assert torch.equal(whole[0][2:3], alone[0])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_norm_and_activation_keep_their_layout(layout):
    x = real((2, 3, 4, 4), torch.float32).contiguous(memory_format=layout)
    for result in run(unet_ops.norm_act, [x]):
        assert result.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_small_deviation_from_a_large_mean_is_found(dtype):
    noise = real((1, 2, 16, 16), torch.float64)
    x = (1000 + noise).to(dtype)
    expected = run(unet_ops.norm_act, [x.double()])[0]
    found = unet_ops.norm_act(x)
    torch.testing.assert_close(found.double(), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("of_gradient", LAYOUTS)
def test_joined_channels_have_whole_gradients(layout, of_gradient):
    def joined(a: Tensor, b: Tensor) -> Tensor:
        return in_layout(unet_ops.join(a, b), of_gradient)

    a, b = (
        real((2, chans, 4, 4), torch.float32, chans).contiguous(memory_format=layout)
        for chans in (3, 5)
    )
    both, to_a, to_b = run(joined, [a, b])
    assert torch.equal(both, torch.cat([a, b], dim=1))
    weights = real((2, 8, 4, 4), torch.bfloat16, 5).float()
    assert torch.equal(to_a, weights[:, :3])
    assert torch.equal(to_b, weights[:, 3:])
    assert to_a.is_contiguous(memory_format=layout)


@pytest.mark.parametrize("op", [unet_ops.norm_act, unet_ops.average_pool])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("of_gradient", LAYOUTS)
def test_a_gradient_may_come_in_another_layout(op, layout, of_gradient, monkeypatch):
    def first_output(x: Tensor) -> Tensor:
        out = op(x)
        return in_layout(out[0] if isinstance(out, tuple) else out, of_gradient)

    x = real((2, 3, 7, 5), torch.float64).contiguous(memory_format=layout)
    assert_close(both(first_output, [x], monkeypatch), torch.float64)
