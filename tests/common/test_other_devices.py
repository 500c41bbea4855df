"""Where there is no compiled kernel: PyTorch's own operations, as a GPU runs them."""

import pytest
import torch
from torch import Tensor

from stages.common import coil_ops, unet_ops
from stages.common.runtime import device
from stages.common.varnet import VarNet, build_varnet
from tests.common.test_varnet import SETTINGS, SHAPES, example, relative
from tests.unlearn.noise import LOSS_OF_BATCH, SAMPLES, found_in, require_close

HAS_GPU = torch.cuda.is_available()


@pytest.fixture
def plain(monkeypatch):
    """The branch of other devices, on the CPU."""

    def switch() -> None:
        for module in (unet_ops, coil_ops):
            monkeypatch.setattr(module, "on_cpu", lambda _: False)

    return switch


def network(precision: str = "fp32") -> VarNet:
    settings = SETTINGS.model_copy(update={"precision": precision})
    return build_varnet(settings, seed=2)


def run(model: VarNet, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Output, and gradient of a weighted sum of it, on the model's device and back."""
    one = next(model.parameters())
    where, kind = one.device, torch.promote_types(one.dtype, torch.complex64)
    kspace, mask, low = example(*shape)
    output = model(kspace.to(where, kind), mask.to(where), low)
    weights = torch.rand(output.shape, generator=torch.Generator().manual_seed(0))
    parameters = list(model.parameters())
    gradients = torch.autograd.grad((output * weights.to(where)).sum(), parameters)
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    return output.detach().cpu(), flat.cpu()


@pytest.mark.parametrize("shape", SHAPES)
def test_the_network_computes_the_same(shape, plain):
    expected, expected_gradient = run(network().double(), shape)
    compiled = run(network(), shape)
    plain()
    output, gradient = run(network(), shape)
    assert relative(output, expected) < 1e-5
    # In single precision rounding decides on which side of 0 a ReLU is.
    assert relative(gradient, expected_gradient) < 1e-2
    assert not torch.equal(output, compiled[0])  # it is another branch


@pytest.mark.parametrize("shape", SHAPES)
def test_bfloat16_stays_close(shape, plain):
    exact, _ = run(network(), shape)
    plain()
    output, gradient = run(network("bf16"), shape)
    assert 0 < relative(output, exact) < 0.05
    assert gradient.isfinite().all()


def test_importance_is_the_same(plain):
    model = network().double()
    samples = [
        sample._replace(
            masked_kspace=sample.masked_kspace.to(torch.complex128),
            target=sample.target.double(),
        )
        for sample in SAMPLES
    ]
    expected = found_in(model, samples, LOSS_OF_BATCH, 2)
    plain()
    require_close(found_in(model, samples, LOSS_OF_BATCH, 3), expected, allowed=1e-9)


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")
@pytest.mark.parametrize("shape", SHAPES)
def test_a_gpu_computes_what_the_cpu_does(shape, monkeypatch):
    expected, expected_gradient = run(network(), shape)
    monkeypatch.setenv("MENDMRI_DEVICE", "cuda")
    output, gradient = run(network().to(device()), shape)
    assert relative(output, expected) < 1e-5
    assert relative(gradient, expected_gradient) < 1e-2
    rounded, _ = run(network("bf16").to(device()), shape)
    assert 0 < relative(rounded, expected) < 0.05


@pytest.mark.gpu
@pytest.mark.skipif(not HAS_GPU, reason="needs a CUDA device")
def test_importance_on_a_gpu(monkeypatch):
    monkeypatch.setenv("MENDMRI_DEVICE", "cpu")
    expected = found_in(network(), SAMPLES, LOSS_OF_BATCH, 2)
    monkeypatch.setenv("MENDMRI_DEVICE", "cuda")
    found = found_in(network(), SAMPLES, LOSS_OF_BATCH, 3)
    require_close(
        {name: value.cpu() for name, value in found.items()}, expected, allowed=2e-2
    )
