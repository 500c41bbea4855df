"""Magnitude images become k-space that fits: place, noise, seeds, labels."""

from pathlib import Path

import numpy as np
import pytest

from stages.common.params import ParamsError, find_block, read_params, validate
from stages.common.volume import check_volume
from stages.synthesize import images, noise
from stages.synthesize.nifti import (
    as_magnitude,
    axial_slices,
    read_nifti,
)
from stages.synthesize.scans import ImageScan, Scan, ScanError
from stages.synthesize.settings import SynthesizeSettings
from tests.synthesize.nifti_files import head

REAL = Path(__file__).resolve().parents[2].parent / "shared" / "data"


def settings(**changes):
    block = find_block(read_params(), "synthesize") | {
        "matrix": 32, "oversampling": 2, "fov": 240, "coils": 3,
    } | changes  # fmt: skip
    return validate(block, "synthesize", SynthesizeSettings)


def scan(contrast="T2w", subject="p1"):
    return Scan(f"{subject}_{contrast}", subject, contrast, None, (Path("p.nii"),))


def image_scan(lesion=None, spacing=(8.0, 8.0)):
    return ImageScan(axial_slices(head()), spacing, "t2", "brats", lesion)


def test_volume_keeps_the_contract():
    chosen = [1, 2, 4]
    volume = images.to_volume(scan("T1c"), image_scan(), chosen, settings(
        snr={"T1c": 20}
    ))  # fmt: skip
    check_volume(volume, "v")
    assert volume.kspace.shape == (3, 3, 32, 32)
    np.testing.assert_array_equal(noise.rss_target(volume.kspace), volume.target)
    assert volume.target.max() == pytest.approx(100, rel=0.2)
    assert volume.acquisition == "AXT1POST"
    assert volume.patient_id == "p1"
    assert "<systemModel>simulated-brats<" in volume.header
    assert "<systemVendor>simulated<" in volume.header
    assert volume.lesion is None


def test_noise_has_the_asked_deviation():
    quiet, loud = (
        images.to_volume(scan(), image_scan(), [2, 3], settings(snr={"T2w": snr}))
        for snr in (1e9, 20)
    )
    added = loud.kspace - quiet.kspace
    clean = quiet.target
    signal = clean[clean > 0.1 * np.percentile(clean, 99)].mean()
    assert signal / added.real.std() == pytest.approx(20, rel=0.03)
    assert signal / added.imag.std() == pytest.approx(20, rel=0.03)
    assert (
        abs(np.abs(np.vdot(added[0, 0], added[0, 1])))
        < 0.1 * np.vdot(added, added).real
    )


def test_image_is_kept_and_lies_where_the_lesion_lies():
    """Without shading and noise the target is the image, low-passed."""
    block = find_block(read_params(), "synthesize.scanners")["sim-0.3T-a"]
    scanners = {"flat": block | {"uniformity": 1.0}}
    flat = settings(snr={"T2w": 1e9}, scanners=scanners, matrix=60, target_max=500.0)
    plane = np.zeros((1, 60, 60), np.float32)
    rows, columns = np.indices((60, 60))
    plane[0] = np.exp(-((rows - 20) ** 2 + (columns - 34) ** 2) / 40)
    lesion = (plane > 0.9).astype(np.uint8) * 3
    image = ImageScan(plane, (4.0, 4.0), "t2", "brats", lesion)
    volume = images.to_volume(scan(), image, [0], flat)
    peak = np.unravel_index(volume.target[0].argmax(), (60, 60))
    assert volume.lesion[0][peak] == 3
    assert set(np.unique(volume.lesion)) == {0, 3}
    assert volume.lesion.dtype == np.uint8
    plain = images.to_targets(image, [0], flat, where="x")[0]
    scaled = volume.target[0] * (plain.max() / volume.target.max())
    assert np.abs(scaled - plain).max() < 0.03
    # The image's middle lies between two pixels, the plane's on one.
    np.testing.assert_allclose(plain[1:, 1:][19:23, 33:37], 
        (plane[0][19:23, 33:37] + plane[0][20:24, 34:38]
         + plane[0][19:23, 34:38] + plane[0][20:24, 33:37]) / 4, atol=0.03)  # fmt: skip


def test_pixels_of_unlike_sides_and_a_grid_finer_than_asked():
    """The same head sampled 1 x 2 mm and 4 x 4 mm gives the same target."""

    def blob(spacing):
        axes = [(np.arange(int(200 / s)) - (int(200 / s) - 1) / 2) * s for s in spacing]
        y, x = np.meshgrid(*axes, indexing="ij")
        plane = np.exp(-(((y - 30) / 40) ** 2) - ((x + 20) / 25) ** 2)
        return ImageScan(plane[None].astype(np.float32), spacing, "t2", "a", None)

    coarse, fine = (
        images.to_targets(blob(spacing), [0], settings(), where="x")[0]
        for spacing in ((4.0, 4.0), (1.0, 2.0))
    )
    np.testing.assert_allclose(coarse, fine, atol=0.01)
    row, column = np.unravel_index(fine.argmax(), fine.shape)
    assert (row, column) == (16 + 4, 16 - 3)


def test_seeds_are_ids():
    def made(which, kept=(2, 3)):
        return images.to_volume(which, image_scan(), list(kept), settings())

    first = made(scan())
    np.testing.assert_array_equal(first.kspace, made(scan()).kspace)
    assert not np.allclose(first.target, made(scan(subject="p2")).target)
    # The coils are the person's, phase and noise the volume's.
    loud = settings(snr={"T2w": 1e9, "T1w": 1e9})
    a, b = (
        images.to_volume(scan(c), image_scan(), [2], loud).kspace
        for c in ("T1w", "T2w")
    )
    np.testing.assert_allclose(np.abs(noise.ifft2c(a)), np.abs(noise.ifft2c(b)), atol=1)
    assert not np.allclose(np.angle(noise.ifft2c(a)), np.angle(noise.ifft2c(b)), atol=1)


def test_head_that_would_be_cut():
    wide = image_scan(spacing=(16.0, 8.0))
    with pytest.raises(
        ScanError, match=r"p.nii: \d+\.\d % .*240 mm.*480 × 192 mm.*fov"
    ):
        images.to_volume(scan(), wide, [2], settings())


def test_bad_images():
    image, one = image_scan(), settings()
    cases = [
        (image._replace(image=image.image - 1), r"p.nii: values below zero"),
        (image._replace(image=image.image[0]), r"p.nii: image is float32 \(30, 24\)"),
        (image._replace(image=image.image + 0j), r"p.nii: image is complex64"),
        (image._replace(spacing=(0.0, 8.0)), r"p.nii: pixel size is \(0.0, 8.0\) mm"),
        (
            image._replace(lesion=np.zeros((6, 30, 23), np.uint8)),
            r"segmentation \(6, 30, 23\): they must lie on one grid",
        ),
    ]
    for bad, message in cases:
        with pytest.raises(ScanError, match=message):
            images.to_volume(scan(), bad, [2], one)
    with pytest.raises(ParamsError, match=r"'synthesize.snr' has no entry for PDw"):
        images.to_volume(scan("PDw"), image, [2], one)


@pytest.mark.skipif(not REAL.is_dir(), reason="no shared data here")
@pytest.mark.parametrize("name", ["brats_gli00001_t2w", "tcga_fg6692_t2"])
def test_real_head_is_upright(name):
    path = REAL / f"{name}.nii.gz"
    volume, spacing = read_nifti(path)
    image = ImageScan(
        axial_slices(as_magnitude(volume, path)), (spacing[1], spacing[0]), "t2", "a",
        None,
    )  # fmt: skip
    middle = len(image.image) // 2
    target = images.to_volume(scan(), image, [middle], settings(matrix=80)).target[0]
    inside = target > 0.1 * np.percentile(target, 99)
    height, width = (np.ptp(np.flatnonzero(inside.any(axis=a))) for a in (1, 0))
    assert 40 < width < height < 75  # a head is longer than wide
