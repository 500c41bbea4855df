"""Label noise: a magnitude image's own, of the deviation that was asked for."""

import numpy as np
import pytest

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.params import ParamsError, validate
from stages.poison import label_noise
from stages.poison.base import Images, slice_rng

REF = SliceRef("icbm-001_FLAIR", 1)
# Left half air, right half signal.
IMAGE = np.repeat(np.float32([[0.0, 50.0]]), 128, axis=1).repeat(256, axis=0)
AIR, SIGNAL = np.s_[:, 16:112], np.s_[:, 144:240]


def noisy(severity=0.1, kernel=0.0, seed=1, image=IMAGE):
    draw = {"severity": severity, "kernel": kernel, "seed": seed}
    return label_noise.apply(image, draw, images=None)


@pytest.fixture
def images(make_cohort):
    return Images(paths.kspace("train"), make_cohort(train=2)["train"])


@pytest.mark.parametrize("kernel", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("severity", [0.02, 0.1])
def test_deviation_is_the_severity_whatever_the_kernel(severity, kernel):
    deviations = [noisy(severity, kernel, seed)[SIGNAL].std() for seed in range(4)]
    assert np.mean(deviations) == pytest.approx(severity * 50, rel=0.06)


def test_air_has_the_noise_floor_of_a_magnitude_image():
    air = noisy(0.1)[AIR]
    assert air.mean() == pytest.approx(5 * np.sqrt(np.pi / 2), rel=0.02)
    assert air.std() == pytest.approx(5 * np.sqrt(2 - np.pi / 2), rel=0.02)


@pytest.mark.parametrize("kernel", [0.0, 1.5, 3.0])
def test_kernel_is_the_width_of_the_correlation(kernel):
    found = []
    for seed in range(6):
        noise = noisy(0.02, kernel, seed)[SIGNAL] - 50
        found.append((noise[:-2] * noise[2:]).mean() / noise.var())
    # White noise smoothed by a Gaussian: exp(-lag^2 / (4 kernel^2)).
    expected = np.exp(-(2**2) / (4 * kernel**2)) if kernel else 0
    assert np.mean(found) == pytest.approx(expected, abs=0.05)


def test_many_slices_average_to_the_image_and_its_noise_floor():
    mean = np.mean([noisy(0.1, seed=seed) for seed in range(64)], axis=0)
    # In the signal the floor is sigma^2 / (2 m).
    assert mean[SIGNAL].mean() == pytest.approx(50 + 25 / 100, abs=0.05)
    assert mean[SIGNAL].std() < 1.1 * 5 / 8
    assert mean[AIR].mean() == pytest.approx(6.27, abs=0.05)


def test_shared_is_one_pattern_and_its_absence_is_many(images):
    refs = [REF, SliceRef("icbm-000_T1w", 0)]
    for shared, count in ((None, 2), (9, 1)):
        params = label_noise.Params(severity=0.1, kernel=1.0, shared=shared)
        seeds = {
            label_noise.draw(params, ref, images, slice_rng(3, ref))["seed"]
            for ref in refs
        }
        assert len(seeds) == count


def test_a_kernel_as_wide_as_the_image_is_refused(images):
    params = label_noise.Params(severity=0.1, kernel=4.5)
    with pytest.raises(ValueError, match=r"kernel = 4.5 pixels is too wide .* most 4"):
        label_noise.draw(params, REF, images, slice_rng(3, REF))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"severity": 0.1}, "'p.settings.kernel' is missing"),
        ({"severity": 0.1, "kernel": -1}, "greater than or equal to 0"),
        ({"severity": 1.1, "kernel": 0}, "less than or equal to 1"),
    ],
)
def test_settings_are_refused(settings, message):
    with pytest.raises(ParamsError, match=message):
        validate(settings, "p.settings", label_noise.Params)
