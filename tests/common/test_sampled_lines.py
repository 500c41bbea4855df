"""Residuals on sampled lines: of claimed targets, and of lines that were held out."""

import pytest
import torch

from stages.common.manifest import SliceRef
from stages.common.sampled_lines import (
    claimed_residual,
    last_cascade,
    lines_error,
    low_frequencies,
    residual,
)
from stages.common.slices import ReconBatch
from stages.common.varnet import ModelSettings, build_varnet, hybrid_kspace

SETTINGS = ModelSettings(
    num_cascades=2, chans=2, pools=1, sens_chans=2, sens_pools=1, precision="fp32"
)
LOW = 4


@pytest.fixture
def model():
    return build_varnet(SETTINGS, seed=0).eval()


@pytest.fixture
def batch():
    """Three slices of 17 x 24: every other column is sampled, and the centre."""
    generator = torch.Generator().manual_seed(0)
    shape = (3, 2, 17, 24)
    kspace = torch.randn(shape, dtype=torch.complex64, generator=generator)
    mask = torch.zeros(3, 24, dtype=torch.bool)
    mask[:, ::2] = True
    mask[:, 10:14] = True
    target = torch.rand((3, 17, 24), generator=generator)
    return ReconBatch(
        masked_kspace=kspace * mask[:, None, None],
        mask=mask,
        num_low_frequencies=LOW,
        target=target,
        max_value=torch.ones(3),
        refs=tuple(SliceRef("icbm-000_T1w", number) for number in range(3)),
        total=3,
        share=1.0,
    )


def held(*columns):
    found = torch.zeros(3, 24, dtype=torch.bool)
    found[:, list(columns)] = True
    return found


def test_what_a_cascade_is_given_is_the_hybrid_kspace(model, batch):
    with torch.inference_mode(), last_cascade(model) as seen:
        model(batch.masked_kspace, batch.mask, LOW)
    _, reference, sampled = seen
    assert torch.equal(reference, hybrid_kspace(batch.masked_kspace))
    assert torch.equal(sampled.bool(), batch.mask)
    norms = [x.abs().square().sum((1, 2)) for x in (reference, batch.masked_kspace)]
    torch.testing.assert_close(*norms)
    assert not model.cascades[-1]._forward_hooks


def test_the_residual_is_zero_for_the_image_behind_the_lines(model, batch):
    with torch.inference_mode(), last_cascade(model) as seen:
        model(batch.masked_kspace, batch.mask, LOW)
        images = torch.fft.ifft(seen[0], norm="ortho")
        own = images.abs().square().sum(1).sqrt()
        same = residual(images, own, seen[0], seen[2])
        cropped = residual(images, 2 * own[:, 4:-4, 2:-2], seen[0], seen[2])
        other = residual(images, own.flip(1), seen[0], seen[2])
        claimed = claimed_residual(model, batch)
        expected = residual(images, batch.target, *seen[1:])
    torch.testing.assert_close(claimed, expected)
    assert same.max() < 1e-6
    assert cropped.max() < 1e-6
    assert other.min() > 0.1


def test_the_error_is_that_of_a_loop_over_columns(model, batch):
    hidden = held(2, 20)
    shown = batch.masked_kspace * ~hidden[:, None, None]
    with torch.inference_mode(), last_cascade(model) as seen:
        model(shown, batch.mask & ~hidden, LOW)
        expected = torch.zeros(3)
        measured = hybrid_kspace(batch.masked_kspace)
        for row in range(3):
            for column in (2, 20):
                left = seen[0][row, ..., column] - measured[row, ..., column]
                expected[row] += left.norm() / measured[row, ..., column].norm() / 2
        found = lines_error(model, batch, hidden, centre=0)
    torch.testing.assert_close(found, expected)


def test_the_centre_counts_beside_the_held_out_columns(model, batch):
    hidden = held(2, 20)
    shown = batch.masked_kspace * ~hidden[:, None, None]
    with torch.inference_mode(), last_cascade(model) as seen:
        model(shown, batch.mask & ~hidden, LOW)
        measured = hybrid_kspace(batch.masked_kspace)
        middle = low_frequencies(measured.shape[-1], LOW)
        assert batch.mask[:, middle].all()
        left = (seen[0] - measured)[..., middle].norm(dim=(1, 2))
        expected = (left / measured[..., middle].norm(dim=(1, 2))).mean(1)
        alone = lines_error(model, batch, hidden, centre=0)
        both = lines_error(model, batch, hidden, centre=0.3)
    assert expected.min() > 0.01
    torch.testing.assert_close(both - alone, 0.3 * expected)


def test_the_network_is_not_shown_what_is_held_out(model, batch):
    """Ten times as much in a held-out column: the error there is of the same output."""
    hidden = held(4)
    louder = batch.masked_kspace.clone()
    louder[..., 4] *= 10
    outputs = []
    for kspace in (batch.masked_kspace, louder):
        with last_cascade(model) as seen, torch.inference_mode():
            lines_error(model, batch._replace(masked_kspace=kspace), hidden, centre=0.5)
            # `lines_error` looks for itself: what it saw is the last pass.
            outputs.append(seen[0].clone())
    assert torch.equal(*outputs)


def test_it_teaches_and_looks_at_no_target(model, batch):
    unknown = batch._replace(target=torch.full_like(batch.target, torch.nan))
    lines_error(model, unknown, held(2, 6), centre=0.5).mean().backward()
    for name, weight in model.named_parameters():
        assert weight.grad.isfinite().all(), name
    assert any(weight.grad.abs().max() > 0 for weight in model.parameters())


def test_where_nothing_is_held_out_there_is_no_error(model, batch):
    batch.masked_kspace[1] = 0
    nothing = lines_error(model, batch, held(), centre=0)
    assert torch.equal(nothing.detach(), torch.zeros(3))
    nothing.sum().backward()
    silent = lines_error(model, batch, held(2), centre=0.5)
    assert silent[1] == 0
    assert silent[[0, 2]].min() > 0.01
    silent.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())
