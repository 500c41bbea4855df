"""The measures, against fastMRI's own and against numbers worked out by hand."""

import numpy as np
import pytest
from fastmri import evaluate

from stages.common import metrics


@pytest.fixture(params=[(40, 33), (32, 48)])
def images(request):
    rng = np.random.default_rng(1)
    target = rng.random(request.param, dtype=np.float32)
    output = target + 0.1 * rng.standard_normal(request.param).astype(np.float32)
    return target, output


@pytest.mark.parametrize("data_range", [1.0, 3.7])
def test_measures_are_fastmri_s(images, data_range):
    target, output = images
    psnr = metrics.psnr(target, output, data_range)
    assert psnr == pytest.approx(evaluate.psnr(target, output, data_range), rel=1e-6)
    ssim = metrics.ssim(target, output, data_range)
    theirs = evaluate.ssim(target[None], output[None], data_range)
    assert ssim == pytest.approx(float(theirs[0]), rel=1e-6)
    error, energy = metrics.nmse_parts(target, output)
    assert error / energy == pytest.approx(evaluate.nmse(target, output), rel=1e-5)


def test_psnr_by_hand():
    target = np.zeros((8, 8), np.float32)
    # An error of a hundredth of the range everywhere is 40 dB.
    assert metrics.psnr(target, target + 0.02, 2.0) == pytest.approx(40, abs=1e-5)
    assert metrics.psnr(target, target, 2.0) == float("inf")


@pytest.mark.parametrize(
    ("way", "expected"), [(0.0, 0.0), (0.25, 0.25), (1.0, 1.0), (-0.5, -0.5)]
)
def test_agreement_is_the_way_gone_towards_the_poison(images, way, expected):
    clean, twin = images
    along, change = metrics.agreement_parts(clean, twin, clean + way * (twin - clean))
    assert along / change == pytest.approx(expected, abs=1e-6)


def test_an_orthogonal_error_agrees_with_nothing():
    clean = np.zeros((4, 4), np.float32)
    twin, output = clean.copy(), clean.copy()
    twin[0], output[1] = 1, 5
    assert metrics.agreement_parts(clean, twin, output) == (0.0, 4.0)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(4, 4\)"):
        metrics.psnr(np.zeros((4, 5)), np.zeros((4, 4)), 1.0)
