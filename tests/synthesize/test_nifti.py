"""NIfTI files are read in one orientation, or refused with a reason."""

import gzip
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from stages.synthesize.nifti import (
    as_magnitude,
    axes_of,
    axial_slices,
    read_nifti,
    shape_of,
    stem_of,
)
from stages.synthesize.scans import ScanError
from tests.synthesize.nifti_files import LPS, head, save, truncate


def test_every_orientation_is_read_as_the_same_volume(tmp_path):
    ras = head()
    turned = ras[::-1, ::-1].transpose(2, 0, 1)
    affine = np.array([[0, -8, 0, 0], [0, 0, -8, 0], [5, 0, 0, 0], [0, 0, 0, 1.0]])
    path = save(tmp_path / "turned.nii.gz", np.ascontiguousarray(turned), affine)
    volume, spacing = read_nifti(path)
    assert axes_of(path) == "SLP"
    assert spacing == pytest.approx((8, 8, 5))
    np.testing.assert_array_equal(volume, ras)


def test_nose_up_and_patients_right_on_the_left():
    volume = np.zeros((4, 5, 3), np.float32)
    volume[3, 4, 0] = 1  # right, anterior, lowest
    slices = axial_slices(volume)
    assert slices.shape == (3, 5, 4)
    assert np.argwhere(slices).tolist() == [[0, 0, 0]]


def test_scaled_integers_and_a_spare_axis(tmp_path):
    image = nib.Nifti1Image(np.full((4, 4, 3, 1), 7, np.int16), LPS)
    image.header.set_slope_inter(0.5, 1)
    nib.save(image, tmp_path / "a.nii")
    volume, _ = read_nifti(tmp_path / "a.nii")
    assert shape_of(tmp_path / "a.nii") == volume.shape == (4, 4, 3)
    stored = np.asarray(nib.load(tmp_path / "a.nii").dataobj)[..., 0]
    np.testing.assert_array_equal(volume, stored[::-1, ::-1])


@pytest.mark.parametrize("name", ["a.nii.gz", "ü b.nii"])
def test_truncated(tmp_path, name):
    path = save(tmp_path / name, np.random.default_rng(0).random((9, 9, 9)))
    with pytest.raises(ScanError, match=rf"{name}: its pixels .*download it again"):
        read_nifti(truncate(path))


def test_no_nifti_at_all(tmp_path):
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"<html>please log in</html>")
    with pytest.raises(ScanError, match=r"a.nii.gz: its header cannot be read"):
        read_nifti(path)
    with pytest.raises(ScanError, match=r"b.nii is missing: download"):
        read_nifti(tmp_path / "b.nii")


def test_four_axes_where_three_are_due(tmp_path):
    path = save(tmp_path / "a.nii", np.ones((4, 4, 3, 2), np.float32))
    with pytest.raises(ScanError, match=r"a.nii: has 4 axes .*expected 3: keep one"):
        read_nifti(path)
    with pytest.raises(ScanError, match=r"holds 2 volumes, number 2 \(from 0\)"):
        read_nifti(path, 2)
    assert read_nifti(path, 1)[0].shape == (4, 4, 3)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_not_finite(tmp_path, bad):
    data = head()
    data[1, 2, 3] = bad
    path = save(tmp_path / "a.nii.gz", data)
    with pytest.raises(ScanError, match=r"a.nii.gz: 1 values are NaN or infinite"):
        read_nifti(path)


def test_voxel_size_must_be_positive(tmp_path):
    path = save(tmp_path / "a.nii", head())
    raw = bytearray(path.read_bytes())
    raw[84:88] = np.float32(0).tobytes()  # pixdim[2]
    path.write_bytes(raw)
    with pytest.raises(ScanError, match=r"a.nii: voxel size is \[8.0, 0.0, 5.0\] mm"):
        read_nifti(path)


def patched(path, position, *values):
    """Write numbers into a header, compressed or not."""
    packed = path.suffix == ".gz"
    raw = bytearray(gzip.decompress(path.read_bytes()) if packed else path.read_bytes())
    new = b"".join(value.tobytes() for value in values)
    raw[position : position + len(new)] = new
    path.write_bytes(gzip.compress(raw) if packed else raw)
    return path


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (np.complex64, "complex64"),
        (np.complex128, "complex128"),
        (np.dtype([("R", "u1"), ("G", "u1"), ("B", "u1")]), "[('R', 'u1')"),
    ],
)
def test_what_is_not_one_real_number_is_refused(tmp_path, kind, found):
    path = save(tmp_path / "a.nii.gz", np.ones((4, 4, 3), kind))
    message = rf"a.nii.gz: holds {re.escape(found)}.*expected real.*save magnitudes"
    with pytest.raises(ScanError, match=message):
        read_nifti(path)
    path = save(tmp_path / "b.nii", np.ones((4, 4, 3, 2), np.complex64))
    with pytest.raises(ScanError, match=r"b.nii: holds complex64, expected real"):
        read_nifti(path, 1)


def test_a_compressed_file_is_checked_to_its_end(tmp_path):
    noise = np.random.default_rng(0).integers(0, 30000, (40, 40, 40), np.int16)
    path = save(tmp_path / "a.nii.gz", noise)
    whole = path.read_bytes()
    np.testing.assert_array_equal(read_nifti(path)[0], noise[::-1, ::-1])
    # In the middle, in the checksum, and in the length.
    for position in (len(whole) // 2, len(whole) - 6, len(whole) - 2):
        broken = bytearray(whole)
        broken[position] ^= 4
        path.write_bytes(broken)
        assert shape_of(path) == noise.shape
        with pytest.raises(
            ScanError, match=r"a.nii.gz: its pixels cannot be read .*download it again"
        ):
            read_nifti(path)
    # All pixels are there, and what proves it is not.
    path.write_bytes(whole[:-8])
    with pytest.raises(ScanError, match=r"a.nii.gz: its pixels .*end-of-stream"):
        read_nifti(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("lengths", [(0, 30, 6), (-5, 30, 6), (24, 30, -32768)])
def test_axes_without_length(tmp_path, name, lengths):
    path = patched(save(tmp_path / name, head()), 42, *np.array(lengths, np.int16))
    message = rf"{name}: its header .*{re.escape(str(list(lengths)))}.*download it"
    for read in (read_nifti, shape_of, axes_of):
        with pytest.raises(ScanError, match=message):
            read(path)


def test_numbers_of_axes_that_there_cannot_be(tmp_path):
    path = patched(save(tmp_path / "a.nii", head()), 40, np.int16(0))
    with pytest.raises(ScanError, match=r"a.nii: its header .*states 0 axes"):
        shape_of(path)


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("lengths", [(32767, 32767, 32767), (24, 30, 7)])
def test_more_pixels_than_there_are(tmp_path, name, lengths, monkeypatch):
    path = patched(save(tmp_path / name, head()), 42, *np.array(lengths, np.int16))
    needed = 352 + 4 * np.prod(lengths, dtype=np.int64)
    if lengths[0] == 32767:
        # Nothing of it needs to be read.
        monkeypatch.setattr("stages.synthesize.nifti._BLOCK", "no number")
    message = rf"{name}: its pixels .*states {re.escape(str(lengths))} float32, which"
    with pytest.raises(ScanError, match=rf"{message} takes {needed} bytes.*delete it"):
        read_nifti(path)


@pytest.mark.parametrize("offset", [0, np.inf, np.nan])
def test_pixels_do_not_begin_in_the_header(tmp_path, offset):
    path = patched(save(tmp_path / "a.nii", head()), 108, np.float32(offset))
    with pytest.raises(ScanError, match=r"a.nii: its header cannot be read"):
        read_nifti(path)


def test_big_endian_and_one_volume_of_several(tmp_path):
    data = np.arange(4 * 4 * 3 * 2, dtype=np.int16).reshape(4, 4, 3, 2)
    header = nib.Nifti1Header(endianness=">")
    header.set_data_dtype(">i2")
    nib.save(nib.Nifti1Image(data, np.eye(4), header), tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_nifti(tmp_path / "a.nii.gz", 1)[0], data[..., 1])


def test_magnitudes():
    path = Path("a.nii")
    values = np.array([-0.5, 0, 100], np.float32)
    assert as_magnitude(values, path).tolist() == [0, 0, 100]
    with pytest.raises(ScanError, match=r"a.nii: lowest value is -2.*normalisation"):
        as_magnitude(values * [4, 1, 1], path)
    with pytest.raises(ScanError, match=r"a.nii: holds no value above zero"):
        as_magnitude(values * 0, path)
    assert stem_of(Path("x.y.NII.gz")) == "x.y"
    assert stem_of(Path("._x.nii")) is stem_of(Path("x.json")) is None
