"""Gradients of single samples, layer by layer, and what cannot have them."""

import pytest
import torch
from torch import Tensor, nn

from stages.common.fit import BatchLoss
from stages.common.slices import ReconBatch, collate
from tests.unlearn.noise import SAMPLES, found_in, require_close
from tests.unlearn.plain_loop import plain_loop


class Columns(nn.Module):
    """One weight per column: a model whose gradients are known in closed form."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(width, 1, 1)

    def forward(self, batch: ReconBatch) -> Tensor:
        return self.layer(energies(batch)[..., None, None]).flatten()


def energies(batch: ReconBatch) -> Tensor:
    """(N, W): the energy of each column, 0 where it was not sampled."""
    return batch.masked_kspace.abs().square().mean((1, 2))


def square_loss(model: Columns, batch: ReconBatch) -> Tensor:
    """(w . a_i + b)^2, whose gradient for one sample is 2 (w . a_i + b) (a_i, 1)."""
    return batch.mean(model(batch).square())


def test_gradients_by_hand():
    model = Columns(32)
    found = found_in(model, SAMPLES[:5], square_loss, 2)
    rows = energies(collate(SAMPLES[:5]))
    outer = 2 * model(collate(SAMPLES[:5])).detach()
    expected = (outer[:, None] * rows).square().mean(0)
    torch.testing.assert_close(found["layer.weight"].flatten(), expected)
    torch.testing.assert_close(found["layer.bias"], outer.square().mean(0)[None])


def layers(*modules: nn.Module) -> tuple[nn.Module, BatchLoss]:
    """A network of any layers on the k-space's parts, and a loss without meaning."""
    model = nn.Sequential(*modules)

    def batch_loss(_: nn.Module, batch: ReconBatch) -> Tensor:
        images = torch.view_as_real(batch.masked_kspace[:, 0]).permute(0, 3, 1, 2)
        return batch.mean(_(images).square().mean((1, 2, 3)))

    return model, batch_loss


def test_any_convolution_will_do():
    model, loss = layers(
        nn.Conv2d(2, 4, 3, stride=2, padding=(1, 0), bias=True),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, dilation=2, groups=2),
        nn.Conv2d(4, 4, (5, 1), padding=(2, 1)),
        nn.ConvTranspose2d(4, 3, 3, stride=2, output_padding=1, bias=True),
    )
    found = found_in(model, SAMPLES, loss, 3)
    require_close(found, plain_loop(model, SAMPLES, loss), allowed=1e-4)


def test_under_autocast_a_layer_takes_float32_too():
    model, loss = layers(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Conv2d(4, 2, 1))

    def lower(model: nn.Module, batch: ReconBatch) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return loss(model, batch)

    found = found_in(model, SAMPLES, lower, 3)
    require_close(found, plain_loop(model, SAMPLES, lower), allowed=1e-2)


def test_what_the_loss_does_not_depend_on_has_none():
    model, loss = layers(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 4, 1))
    ignored = torch.zeros(3, 4, 1, 1)
    model.forward = lambda x: model[0](x) + 0 * model[1](ignored[: len(x)]).detach()[0]
    found = found_in(model, SAMPLES, loss, 3)
    assert found["0.weight"].all()
    assert not found["1.weight"].any()
    assert found["1.weight"].shape == model[1].weight.shape


class Centred(nn.Conv2d):
    """A convolution that does something else with its weights."""


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.BatchNorm2d(2), "1.weight: there is no rule .* a BatchNorm2d sample by"),
        (Centred(2, 2, 3), "1.weight: there is no rule .* a Centred sample by sample"),
        (nn.Linear(32, 2), "1.weight: there is no rule .* a Linear sample by sample"),
        (nn.PReLU(), "1.weight: there is no rule for the gradient of a PReLU"),
        (nn.Conv2d(2, 2, 3, padding="same"), "1.weight: there is no rule"),
        (nn.Conv2d(2, 2, 3, padding_mode="circular"), "1.weight: there is no rule"),
    ],
)
def test_a_parameter_without_a_rule_is_named(module, message):
    model, loss = layers(nn.Conv2d(2, 2, 1), module)
    with pytest.raises(ValueError, match=message):
        found_in(model, SAMPLES, loss, 3)


def test_a_module_that_is_not_called_once_is_named():
    shared = nn.Conv2d(2, 2, 1)
    model, loss = layers(shared, nn.Tanh(), shared)
    with pytest.raises(ValueError, match=r"^0.weight: the loss calls its layer twice"):
        found_in(model, SAMPLES, loss, 3)
    model, loss = layers(nn.Conv2d(2, 2, 1))
    model.register_module("idle", nn.Conv2d(2, 2, 1))
    model.forward = lambda x: model[0](x)
    with pytest.raises(ValueError, match=r"^idle.weight: the loss never calls its l"):
        found_in(model, SAMPLES, loss, 3)
    assert not any("forward" in vars(module) for module in model.children())


def test_images_that_belong_to_no_sample_are_refused():
    model, loss = layers(nn.Conv2d(2, 2, 1))
    model.forward = lambda x: model[0](torch.cat([x, x[:1]]))[: len(x)]
    with pytest.raises(ValueError, match=r"0.weight: .* given 4 images for 3 samples"):
        found_in(model, SAMPLES, loss, 3)
