"""Anatomy, signal equations, coils and k-space, each alone."""

import numpy as np
import pytest
from fastmri import fft2c as fastmri_fft2c
from fastmri import tensor_to_complex_np
from torch import from_numpy, view_as_real

from stages.common.params import load_block
from stages.synthesize import anatomy, coils, contrast, geometry, noise
from stages.synthesize.fields import smooth_field
from stages.synthesize.scanners import first_scanner
from stages.synthesize.settings import SynthesizeSettings


@pytest.fixture(scope="module")
def settings() -> SynthesizeSettings:
    return load_block("synthesize", SynthesizeSettings)


def _signals(settings: SynthesizeSettings, name: str) -> dict[str, float]:
    return {
        tissue: contrast.signal(
            getattr(settings.tissues, tissue),
            settings.sequences[name],  # type: ignore[index]
        )
        for tissue in anatomy.TISSUES
    }


def test_contrasts_order_the_tissues(settings: SynthesizeSettings) -> None:
    t1w, t2w, flair = (_signals(settings, name) for name in ("T1w", "T2w", "FLAIR"))
    assert t1w["wm"] > 1.1 * t1w["gm"] > 1.5 * t1w["csf"]
    assert t2w["csf"] > 2 * t2w["gm"] > 2.5 * t2w["wm"]
    assert flair["gm"] > flair["wm"] > 10 * flair["csf"]
    assert t1w["fat"] > t1w["gm"]
    assert flair["fat"] > flair["wm"]


def test_inversion_nulls_at_its_time(settings: SynthesizeSettings) -> None:
    csf = settings.tissues.csf
    flair = settings.sequences["FLAIR"]
    null = csf.t1 * (np.log(2) - np.log1p(np.exp(-flair.tr / csf.t1)))
    nulled = flair.model_copy(update={"ti": null})
    assert contrast.signal(csf, nulled) == pytest.approx(0, abs=1e-12)


def test_texture_is_not_shared(settings: SynthesizeSettings) -> None:
    """Within one tissue, two contrasts are no function of each other."""
    shares = np.zeros((5, 64, 64), np.float32)
    shares[1] = 1
    images = [
        contrast.contrast_image(
            np.random.default_rng(seed),
            shares,
            settings.tissues,
            settings.sequences[name],  # type: ignore[index]
            (1.2, 4.0),
        )
        for seed, name in enumerate(("T1w", "T2w"))
    ]
    assert abs(np.corrcoef(images[0].ravel(), images[1].ravel())[0, 1]) < 0.3
    for image in images:
        assert image.std() / image.mean() == pytest.approx(0.03, rel=0.3)


def test_layers_lie_around_the_brain() -> None:
    depth = np.linspace(-5, 30, 701, dtype=np.float32)
    layers = anatomy.scalp_layers(depth, anatomy.ADULT)
    assert layers.min() >= 0
    assert layers.sum(axis=0).max() <= 1 + 1e-6
    assert not layers[:, depth < -0.5].any()
    assert not layers[:, depth > 20].any()
    csf, fat, skin = (layers[number] for number in (2, 3, 4))
    assert depth[csf.argmax()] < depth[fat.argmax()] < depth[skin.argmax()]
    bone = (layers.sum(axis=0) < 0.01) & (depth > 0) & (depth < depth[fat.argmax()])
    assert bone.any()


def test_depth_closes_gaps_and_measures_mm() -> None:
    x, y, z = np.indices((60, 60, 60)) - 30
    radius = np.sqrt(x**2 + y**2 + z**2)
    mask = (radius < 20) & ~((abs(x) < 2) & (y > 0))
    depth = anatomy.signed_depth(mask, 6.0)
    assert depth[30, 40, 30] < 0
    outside = (radius > 21) & (radius < 29)
    error = np.abs(depth - (radius - 20))[outside]
    assert error.mean() < 1
    assert error.max() < 3


def test_fft_is_fastmris() -> None:
    rng = np.random.default_rng(0)
    image = rng.standard_normal((2, 12, 12)) + 1j * rng.standard_normal((2, 12, 12))
    expected = tensor_to_complex_np(fastmri_fft2c(view_as_real(from_numpy(image))))
    np.testing.assert_allclose(noise.fft2c(image), expected, atol=1e-12)
    np.testing.assert_allclose(noise.ifft2c(noise.fft2c(image)), image, atol=1e-12)


def test_crop_keeps_brightness_and_centre() -> None:
    grid = np.arange(64) - 32
    image = np.exp(-(grid[:, None] ** 2 + grid[None, :] ** 2) / (2 * 8.0**2))
    kspace = noise.crop_kspace(noise.fft2c(image), 32)
    small = np.abs(noise.ifft2c(kspace))
    assert np.unravel_index(small.argmax(), small.shape) == (16, 16)
    np.testing.assert_allclose(small, image[::2, ::2], atol=1e-3)


def test_coils_differ_and_are_smooth(settings: SynthesizeSettings) -> None:
    rng = np.random.default_rng(3)
    scanner = first_scanner(settings.scanners)
    positions = coils.draw_coils(rng, 4, scanner)
    points = geometry.plane_points(48, settings.fov, 20.0)
    maps = coils.sensitivity_maps(positions, points, scanner)
    assert maps.shape == (4, 48 * 48)
    peaks = {int(np.abs(coil).argmax()) for coil in maps}
    assert len(peaks) == 4
    head = maps.reshape(4, 48, 48)[:, 8:40, 10:38]
    steps = np.abs(np.diff(head, axis=-1))
    assert steps.max() < 0.2 * np.abs(head).max()
    assert np.isfinite(maps).all()


def test_planes_are_radiological() -> None:
    x, y, z = geometry.plane_points(8, 240, 12.0).reshape(3, 8, 8)
    assert y[0, 4] > y[-1, 4]
    assert x[4, 0] > x[4, -1]
    assert (x[4, 4], y[4, 4]) == (0, geometry.CENTRE[1])
    assert (z == 12).all()


def test_smooth_field_is_standard() -> None:
    field = smooth_field(np.random.default_rng(0), (200, 200), 3)
    assert field.mean() == pytest.approx(0, abs=0.1)
    assert field.std() == pytest.approx(1, abs=0.1)
