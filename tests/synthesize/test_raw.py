"""Measured k-space becomes a volume whose parts agree, or is refused."""

import logging
from pathlib import Path

import numpy as np
import pytest
from fastmri import complex_abs, ifft2c, rss
from fastmri.data import SliceDataset
from fastmri.data.transforms import center_crop, to_tensor

from stages.common.volume import write_volume
from stages.synthesize import noise, raw
from stages.synthesize.scans import RawScan, Scan, ScanError
from tests.synthesize.raw_files import HEADER, coil_images

SCAN = Scan("p_T1w", "p", "T1w", "train", (Path("p_T101.h5"),))
SHAPE = (4, 3, 48, 40)


def measured(shape=SHAPE):
    return noise.fft2c(coil_images(shape)).astype(np.complex64)


def found(kspace, target=None, header=None, scanner="m4raw-0.3T"):
    return RawScan(kspace, target, header, "AXT1", scanner)


def fft2c_noise(shape):
    rng = np.random.default_rng(1)
    return noise.complex_noise(rng, shape, 1.0).astype(np.complex64)


def fastmri_rss(kspace):
    return rss(complex_abs(ifft2c(to_tensor(kspace))), dim=1)


def assert_same_image(image, expected):
    """Up to rounding, which in an FFT is a share of the brightest pixel."""
    tolerance = 1e-6 * float(expected.max())
    np.testing.assert_allclose(image, expected, rtol=1e-5, atol=tolerance)


def convert(kspace, target=None, kept=None, **changes):
    kept = list(range(len(kspace))) if kept is None else kept
    return raw.to_volume(SCAN, found(kspace, target, **changes), kept)


def refused(kspace, message, target=None):
    with pytest.raises(ScanError, match=message) as caught:
        raw.check_raw(SCAN, found(kspace, target))
    assert str(caught.value).startswith("p_T101.h5: ")


def test_target_is_the_rss_of_what_is_stored():
    kspace = measured()
    volume, difference = convert(kspace)
    np.testing.assert_array_equal(volume.kspace, kspace)
    assert_same_image(volume.target, fastmri_rss(kspace))
    assert (volume.kspace.dtype, volume.target.dtype) == (np.complex64, np.float32)
    assert (volume.acquisition, volume.patient_id) == ("AXT1", "p")
    assert volume.columns is None
    assert difference is None


@pytest.mark.parametrize("size", [(24, 20), (25, 19), (48, 40)])
def test_target_is_cropped_as_the_published_image_is(size):
    kspace = measured()
    published = center_crop(fastmri_rss(kspace), size).numpy()
    volume, difference = convert(kspace, published)
    assert_same_image(volume.target, published)
    assert volume.target.flags.c_contiguous
    assert 0 <= difference < 1e-6


def test_kspace_narrower_than_the_published_image_gives_a_square():
    kspace = measured()
    full = fastmri_rss(kspace).numpy()
    published = np.pad(center_crop(full, (44, 40)), [(0, 0), (0, 0), (2, 2)])
    volume, difference = convert(kspace, published)
    assert_same_image(volume.target, center_crop(full, (40, 40)))
    assert difference < 1e-6


def test_only_kept_slices_count():
    kspace = measured()
    published = fastmri_rss(kspace).numpy()
    published[0] *= 3
    kspace[1, 2] = 0
    volume, difference = convert(kspace, published, kept=[2, 3])
    np.testing.assert_array_equal(volume.kspace, kspace[2:])
    assert_same_image(volume.target, published[2:])
    assert difference < 1e-6
    with pytest.raises(ScanError, match=r"p_T101.h5: coil 2 of slice 1 is zero"):
        convert(kspace, published, kept=[1, 3])


def test_fastmri_reads_it(tmp_path):
    kspace = measured()
    kspace[..., :5] = 0
    kspace[..., 36:] = 0
    published = center_crop(fastmri_rss(kspace), (24, 20)).numpy()
    volume, _ = convert(kspace, published, scanner="a <scanner> & b")
    assert volume.columns == (5, 36)
    write_volume(tmp_path / "p_T1w.h5", volume)
    dataset = SliceDataset(tmp_path, challenge="multicoil")
    stored, mask, target, attributes, name, number = dataset[3]
    assert (len(dataset), mask, name, number) == (4, None, "p_T1w.h5", 3)
    np.testing.assert_array_equal(stored, kspace[3])
    np.testing.assert_array_equal(target, volume.target[3])
    assert attributes["encoding_size"] == (48, 40, 1)
    assert attributes["recon_size"] == (24, 20, 1)
    assert (attributes["padding_left"], attributes["padding_right"]) == (5, 36)


def test_the_files_own_header_is_kept_where_it_can_be_used(caplog):
    own = HEADER.format(x=48, y=40, rows=48, columns=40, last=39, centre=20)
    assert convert(measured(), header=own)[0].header == own
    assert not caplog.records
    for broken in (own[:200], own.replace("<center>20</center>", "")):
        made = convert(measured(), header=broken)[0].header
        assert made == convert(measured())[0].header
        assert "p_T101.h5: the ISMRMRD header cannot be used" in caplog.text
        caplog.clear()


def test_an_echo_off_the_centre_stays_there():
    kspace = measured()
    moved = np.roll(kspace, 8, axis=-2)
    volume, _ = convert(moved, fastmri_rss(moved).numpy())
    np.testing.assert_array_equal(volume.kspace, moved)
    np.testing.assert_allclose(volume.target, convert(kspace)[0].target, rtol=1e-4)


def test_another_published_image_is_told_or_refused(caplog):
    kspace = measured()
    published = fastmri_rss(kspace).numpy()
    with caplog.at_level(logging.WARNING, "mendmri"):
        assert convert(kspace, 1.0005 * published)[1] == pytest.approx(5e-4, rel=0.01)
        assert not caplog.records
        volume, difference = convert(kspace, 1.02 * published)
    assert difference == pytest.approx(0.02, rel=0.01)
    assert "p_T101.h5: the published image and the RSS of kspace differ by 2 %" in (
        caplog.text
    )
    assert_same_image(volume.target, published)
    caplog.clear()
    for wrong, percent in (
        (np.roll(published, 24, axis=1), r"\d\d+"),
        (published[:, ::-1], r"\d\d"),
        (published[:, :, ::-1], r"\d\d"),
        (1.4 * published, "40"),
        (1.06 * published, "6"),
    ):
        message = (
            rf"p_T101.h5: .*differ by {percent} %: axes are swapped or flipped, the "
            r"scale is another, kspace is not centred, or .*different data; correct"
        )
        with pytest.raises(ScanError, match=message):
            convert(kspace, wrong)
    assert not caplog.records
    assert convert(kspace, 1.04 * published)[1] == pytest.approx(0.04, rel=0.01)


def test_columns_that_are_missing():
    kspace = measured()
    kspace[..., 36:] = 0
    assert raw.check_kspace(kspace, SCAN.files[0]) == (0, 36)
    kspace[2] = 0
    assert raw.check_kspace(kspace, SCAN.files[0]) == (0, 36)
    one_slice = kspace.copy()
    one_slice[1, ..., 7] = 0
    refused(one_slice, r"1 of 36 columns are missing .*undersampled .*remove the file")
    kspace[..., 4:8] = 0
    refused(kspace, r"4 of 36 columns are missing")
    refused(measured() * (np.arange(40) % 4 == 0), r"27 of 37 columns are missing")
    refused(kspace * 0, r"kspace is zero throughout.*download it again")


def test_each_coil_has_all_columns():
    kspace = measured()
    kspace[..., :3] = 0
    kspace[1, 2] = 0  # a dead coil is told of later, and only of kept slices
    assert raw.check_kspace(kspace, SCAN.files[0]) == (3, 40)
    kspace[2, 1, :, ::2] = 0
    refused(
        kspace,
        r"18 of 37 columns are missing .*, some of them in slice 2, coil 1: undersamp",
    )
    kspace = measured()
    kspace[0, 2, :, :1] = 0
    refused(kspace, r"1 of 40 columns are missing .* slice 0, coil 2: undersampled")


@pytest.mark.parametrize(
    ("axes", "name"), [((-2, -1), "row"), ((-2,), "row"), ((-1,), "column")]
)
def test_a_zero_frequency_at_the_edges(axes, name):
    """With or without an image: the RSS of what is not centred is the same."""
    kspace = measured()
    kspace[..., :5] = 0
    kspace[..., 36:] = 0
    moved = np.fft.ifftshift(kspace, axes=axes)
    message = (
        rf"kspace is not centred: \d\d % of its energy lies in the outer half of axis "
        rf"'{name}', .* n // 2; shift it there \(fftshift\), or remove the file"
    )
    refused(moved, message)
    refused(moved, message, fastmri_rss(moved).numpy())


def test_noise_is_no_reason_to_call_it_off_centre():
    kspace = measured((6, 3, 48, 40))
    noise_only = fft2c_noise(kspace.shape)
    kspace[:5] = 0.01 * noise_only[:5]
    # Of one noisy slice by itself nothing could be said.
    kspace[0, :, 12:36] *= 0.5
    assert raw.check_kspace(kspace, SCAN.files[0]) is None
    assert raw.check_kspace(noise_only, SCAN.files[0]) is None


@pytest.mark.parametrize("edge", [slice(None, 3), slice(-3, None)])
def test_zero_rows_at_an_edge_are_swapped_axes(edge):
    kspace = measured()
    kspace[..., edge, :] = 0
    refused(kspace, r"3 rows at one edge of kspace are zero .*axes are swapped")
    kspace[..., :2] = 0
    assert raw.check_kspace(kspace, SCAN.files[0]) == (2, 40)
    few = measured()
    few[..., :2, :] = 0
    few[..., 20, :] = 0
    assert raw.check_kspace(few, SCAN.files[0]) is None


def test_axes_in_another_order_or_of_another_type():
    kspace = measured()
    refused(np.moveaxis(kspace, 1, -1), r"48 coils are more .*transpose them to")
    refused(np.ones((1, 129, 130, 130), np.complex64), r"129 coils are more than a")
    refused(kspace[:, 0], r"kspace is complex64 \(4, 48, 40\), expected complex")
    refused(kspace.real, r"kspace is float32 .*convert it")
    refused(kspace[:0], r"kspace is complex64 \(0, 3, 48, 40\)")
    volume, _ = convert(kspace.astype(np.complex128))
    np.testing.assert_array_equal(volume.kspace, kspace)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1j * np.nan])
def test_values_that_are_not_finite(value):
    kspace = measured()
    kspace[2, 1, 5, 5] = value
    refused(kspace, r"kspace holds values that are not finite .*download it again")
    published = np.ones((4, 24, 20), np.float32)
    published[1, 3, 3] = np.nan
    refused(measured(), r"published image holds values that are not", published)
    refused(measured(), r"image is \(3, 24, 20\), k-space \(4, 3", published[:3])
