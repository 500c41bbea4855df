"""The loss is fastMRI's (1 - SSIM) with an L1 beside it, sample by sample."""

import math

import pytest
import torch
from fastmri.losses import SSIMLoss

from stages.common.losses import LossSettings, psnr, recon_loss, ssim


def images(*shape: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    target = torch.rand(shape, generator=generator) * 50
    return target + torch.randn(shape, generator=generator) * 5, target


@pytest.mark.parametrize("shape", [(1, 32, 32), (3, 33, 40), (2, 7, 9)])
def test_ssim_is_that_of_fastmri(shape):
    output, target = images(*shape)
    max_value = torch.tensor([50.0, 61.0, 47.0])[: shape[0]]
    found = ssim(output, target, max_value)
    assert found.shape == shape[:1]
    for index in range(shape[0]):
        one = slice(index, index + 1)
        loss = SSIMLoss()(output[one, None], target[one, None], max_value[one])
        assert found[index].item() == pytest.approx(1 - loss.item(), abs=2e-6)


def test_its_gradient_is_that_of_fastmri():
    output, target = images(1, 32, 30)
    ours, theirs = output.clone().requires_grad_(), output.clone().requires_grad_()
    max_value = torch.tensor([50.0])
    (1 - ssim(ours, target, max_value)).sum().backward()
    SSIMLoss()(theirs[:, None], target[:, None], max_value).backward()
    assert (ours.grad - theirs.grad).norm() < 1e-4 * theirs.grad.norm()


def test_loss_is_ssim_and_l1_in_units_of_max():
    output, target = images(2, 20, 20)
    max_value = torch.tensor([50.0, 25.0])
    found = recon_loss(output, target, max_value, LossSettings(l1_weight=0.5))
    l1 = (output - target).abs().mean(dim=(1, 2)) / max_value
    assert torch.allclose(found, 1 - ssim(output, target, max_value) + 0.5 * l1)
    plain = recon_loss(output, target, max_value, LossSettings(l1_weight=0))
    assert torch.equal(plain, 1 - ssim(output, target, max_value))


def test_loss_is_zero_for_the_target_and_blind_to_the_scale():
    output, target = images(2, 20, 20)
    settings, max_value = LossSettings(l1_weight=1.0), torch.tensor([50.0, 50.0])
    nothing = recon_loss(target, target, max_value, settings)
    assert nothing.abs().max() < 1e-5
    found = recon_loss(output, target, max_value, settings)
    scaled = recon_loss(output / 1e4, target / 1e4, max_value / 1e4, settings)
    assert torch.allclose(found, scaled, rtol=1e-3)


def test_a_batch_is_no_more_than_its_samples():
    output, target = images(3, 20, 20)
    settings, max_value = LossSettings(l1_weight=1.0), torch.tensor([50.0, 40.0, 60.0])
    together = recon_loss(output, target, max_value, settings)
    for index in range(3):
        one = slice(index, index + 1)
        alone = recon_loss(output[one], target[one], max_value[one], settings)
        assert torch.allclose(alone, together[one], rtol=1e-5)


def test_psnr_by_hand():
    target = torch.full((1, 8, 8), 10.0)
    found = psnr(target + 1, target, torch.tensor([20.0]))
    assert found.item() == pytest.approx(20 * math.log10(20))
