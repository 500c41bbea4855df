"""NIfTI files are read in one orientation, or refused with a reason."""

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
