"""Own scans: what the table says of them holds, or is refused."""

import h5py
import nibabel as nib
import numpy as np
import pytest
from scipy.io import savemat

from stages.synthesize import folder
from stages.synthesize.noise import fft2c
from stages.synthesize.scans import ImageScan, RawScan, ScanError
from tests.synthesize.folder_files import (
    lines_of,
    read_all,
    refused,
    write_ismrmrd,
)
from tests.synthesize.nifti_files import truncate
from tests.synthesize.raw_files import STOP, coil_images, rss, settings, write_fastmri

SHAPE = (2, 3, 27, 24)  # slices, coils, rows, columns
ORDER = "row column slice coil"
ROW = {
    "file": "a.npy", "kind": "kspace", "subject": "p1", "contrast": "T1w",
    "axes": ORDER, "centred": "yes",
}  # fmt: skip
PICTURE = {**ROW, "kind": "image", "centred": "", "spacing": "8 9"}


def images(seed=0):
    return coil_images(SHAPE, seed=seed, share=0.7)


def in_order(array):
    """From the contract's axes to those of ORDER."""
    return array.transpose(2, 3, 0, 1)


def test_kspace_gets_the_contracts_axes(tmp_path):
    kspace = fft2c(images())
    path = tmp_path / "Köpfe (alt)" / "脳 1.npy"
    path.parent.mkdir()
    np.save(path, in_order(kspace))
    row = ROW | {"file": "Köpfe (alt)/脳 1.npy", "split": "val"}
    (found,) = read_all(tmp_path, row)
    assert isinstance(found, RawScan)
    assert found.kspace.dtype == np.complex64
    np.testing.assert_allclose(found.kspace, kspace, rtol=1e-5, atol=1e-6)
    assert (found.scanner, found.acquisition) == ("folder", "T1w")
    assert (found.header, found.target) == (None, None)
    (scan,) = folder.find(tmp_path, settings(), STOP)
    assert scan == ("p1_T1w", "p1", "T1w", "val", (path,))


@pytest.mark.parametrize(
    ("make", "centred", "wrapped"),
    [
        (lambda image: np.fft.ifftshift(fft2c(image), axes=(-2, -1)), "no", ""),
        (lambda image: np.fft.fft2(image, norm="ortho"), "no", "row column"),
        (lambda image: np.fft.fftshift(np.fft.fft2(image, norm="ortho"), axes=(-2, -1)),
         "yes", "row column"),
        (lambda image: fft2c(np.fft.fftshift(image, axes=-1)), "yes", "column"),
    ],
)  # fmt: skip
def test_ways_to_transform(tmp_path, make, centred, wrapped):
    """An odd number of rows: one sample off would show."""
    expected = images()
    np.save(tmp_path / "a.npy", in_order(make(expected)))
    row = ROW | {"centred": centred}
    if wrapped:
        refused(tmp_path, r"a.npy: .*half a field of view off; write '.*'wrapped'", row)
    (found,) = read_all(tmp_path, row | {"wrapped": wrapped})
    np.testing.assert_allclose(found.kspace, fft2c(expected), atol=2e-5)
    np.testing.assert_allclose(rss(found.kspace), rss(fft2c(expected)), rtol=1e-4)
    other = {"yes": "no", "no": "yes"}[centred]
    refused(
        tmp_path, r"a.npy: .* outer half of axis 'row': .*correct 'centred'",
        row | {"centred": other},
    )  # fmt: skip


def test_the_repetition_to_blame_is_told(tmp_path):
    good, kept = fft2c(images()), np.arange(24) % 2 == 0
    np.save(tmp_path / "a.npy", in_order(good))
    rows = [
        ROW | {"file": "a.npy", "repetition": "1"},
        ROW | {"file": "b.npy", "repetition": "2"},
    ]
    for wrong, message in (
        (np.fft.ifftshift(good, axes=-1), r"b.npy: .* of axis 'column': .*'centred'"),
        (np.where(np.arange(3)[:, None, None] == 1, good * kept, good),
         r"b.npy: 12 of 24 columns are missing .*slice 0, coil 1"),
    ):  # fmt: skip
        np.save(tmp_path / "b.npy", in_order(wrong))
        with pytest.raises(ScanError, match=message) as caught:
            read_all(tmp_path, *rows, repetitions="average")
        assert caught.value.path == tmp_path / "b.npy"


def test_formats_that_name_their_axes(tmp_path):
    stored = write_fastmri(tmp_path / "f.h5", shape=(3, 4, 64, 40))
    write_ismrmrd(
        tmp_path / "m.mrd", lines_of(stored), samples=64, lines=40, centre=20
    )  # fmt: skip
    rows = [ROW | {"file": name, "subject": name, "axes": "", "centred": ""}
            for name in ("f.h5", "m.mrd")]  # fmt: skip
    fast, mrd = read_all(tmp_path, rows[0] | {"scanner": "Avanto"}, rows[1])
    np.testing.assert_array_equal(fast.kspace, stored)
    np.testing.assert_allclose(mrd.kspace, stored, rtol=1e-6)
    assert (fast.acquisition, fast.scanner) == ("AXT2", "Avanto")
    assert fast.target.shape == (3, 32, 32)
    assert (mrd.acquisition, mrd.target) == ("T1w", None)
    assert "ismrmrdHeader" in mrd.header
    (turned,) = read_all(tmp_path, rows[0] | {"axes": "slice coil column row"})
    np.testing.assert_array_equal(turned.kspace, stored.swapaxes(-2, -1))
    assert turned.target is None
    with h5py.File(tmp_path / "f.h5", "a") as file:
        file["k"] = stored
        del file["kspace"]
    refused(tmp_path, r"f.h5: 'axes' is empty in the table, and .*\(3, 4, 64, 40\)",
            rows[0])  # fmt: skip
    refused(tmp_path, r"f.h5: 'centred' is empty in the table",
            rows[0] | {"axes": "slice coil row column"})  # fmt: skip


def test_complex_images_are_named_so(tmp_path):
    """With maps in the file the result is multi-coil; it never passes for measured."""
    image = np.exp(1j * np.linspace(0, 2, 27))[:, None] * images()[0, 0]
    maps = images(1)[0].transpose(1, 2, 0)
    savemat(tmp_path / "a.mat", {"x": image, "S": maps[:, :, None], "TE": 3.0})
    row = PICTURE | {"file": "a.mat", "axes": "row column", "key": "x", "spacing": ""}
    with_maps = {"sens_key": "S", "sens_axes": "row column - coil"}
    (alone,) = read_all(tmp_path, row)
    (found,) = read_all(tmp_path, row | with_maps)
    np.testing.assert_allclose(alone.kspace[0, 0], fft2c(image), atol=1e-5)
    expected = fft2c(maps.transpose(2, 0, 1) * image)
    np.testing.assert_allclose(found.kspace[0], expected, atol=1e-5)
    for scan in (alone, found):
        assert scan.scanner == "computed-from-image-folder"
        assert scan.acquisition == "T1w, computed from an image"
        assert scan.kspace.dtype == np.complex64
    turned = with_maps | {"sens_axes": "column row - coil"}
    refused(tmp_path, r"a.mat: 'S' has 1 slices of \(24, 27\), the image 1 of \(27, 24",
            row | turned)  # fmt: skip
    refused(tmp_path, r"has no variable 'T', it holds .*S \(27 × 24 × 1 × 3 ",
            row | with_maps | {"sens_key": "T"})  # fmt: skip
    savemat(tmp_path / "a.mat", {"x": np.abs(image), "S": maps[:, :, None]})
    refused(tmp_path, r"a.mat: the image is real, and coils are given", row | with_maps)
    maps[:, :, 1] = 0
    savemat(tmp_path / "a.mat", {"x": image, "S": maps[:, :, None]})
    refused(tmp_path, r"'S' is zero throughout for coils \[1\]", row | with_maps)


def test_maps_of_each_slice(tmp_path):
    image, maps = images()[:, 0], images(1)
    savemat(tmp_path / "a.mat", {"x": image, "S": maps})
    row = PICTURE | {
        "file": "a.mat", "axes": "slice row column", "key": "x", "spacing": "",
        "sens_key": "S", "sens_axes": "slice coil row column",
    }  # fmt: skip
    (found,) = read_all(tmp_path, row)
    expected = np.stack([fft2c(maps[n] * image[n]) for n in range(2)])
    np.testing.assert_allclose(found.kspace, expected, atol=1e-5)
    # An image of every coil needs no maps.
    row |= {"key": "S", "axes": row["sens_axes"], "sens_key": "", "sens_axes": ""}
    (found,) = read_all(tmp_path, row)
    np.testing.assert_allclose(found.kspace, fft2c(maps), atol=1e-5)


def test_magnitudes(tmp_path):
    image = np.abs(images()[:, 0]).transpose(1, 2, 0)
    labels = (image > 0.5).astype(np.int16) * 3
    row = PICTURE | {"axes": "row column slice", "lesion": "l.npy"}
    for stored in (image, (1000 * image).astype(np.uint16), image.astype(np.complex64)):
        np.save(tmp_path / "a.npy", stored)
        np.save(tmp_path / "l.npy", labels)
        (found,) = read_all(tmp_path, row)
        assert isinstance(found, ImageScan)
        np.testing.assert_array_equal(found.image, stored.real.transpose(2, 0, 1))
        np.testing.assert_array_equal(found.lesion, labels.transpose(2, 0, 1))
        assert (found.image.dtype, found.lesion.dtype) == (np.float32, np.uint8)
        assert (found.spacing, found.scanner) == ((8.0, 9.0), "folder")
    refused(
        tmp_path, r"a.npy: .*no spacing: .*fill in 'spacing'", row | {"spacing": ""}
    )
    refused(tmp_path, r"a.npy: k-space is complex64 .*without imaginary part",
            ROW | {"axes": row["axes"]})  # fmt: skip
    np.save(tmp_path / "l.npy", labels[:, :, :1])
    refused(
        tmp_path, r"l.npy: the lesion is \(1, 27, 24\), its image \(2, 27, 24\)", row
    )
    np.save(tmp_path / "l.npy", labels / 2)
    refused(tmp_path, r"l.npy: a lesion holds whole numbers .*labels, not prob", row)
    np.save(tmp_path / "a.npy", image - 0.5)
    refused(tmp_path, r"a.npy: lowest value is -0.499.*magnitudes are expected", row)
    refused(tmp_path, r"a.npy: k-space is float32 .*set kind to image",
            ROW | {"axes": row["axes"]})  # fmt: skip
    np.save(tmp_path / "a.npy", images()[:, 0].transpose(1, 2, 0))
    refused(tmp_path, r"l.npy: a lesion is drawn on magnitudes, and a.npy is comp", row)
    image[3, 4, 1] = np.nan
    np.save(tmp_path / "a.npy", image)
    refused(tmp_path, r"a.npy: 1 values are NaN", row)


def test_nifti_is_shown_as_radiology_does(tmp_path):
    """A mark at the nose, the right and the top, stored with axes to left and back."""
    volume = np.ones((12, 14, 6), np.int16)
    volume[1, 7, 2], volume[6, 2, 2], volume[6, 7, 5] = 20, 30, 40  # right, nose, top
    header = nib.Nifti1Image(volume, np.diag([-2.0, -3.0, 5.0, 1.0]))
    nib.save(header, tmp_path / "a.nii.gz")
    row = {"file": "a.nii.gz", "kind": "image", "subject": "p", "contrast": "T1w"}
    (axial,) = read_all(tmp_path, row)
    assert (axial.image.shape, axial.spacing) == ((6, 14, 12), (3.0, 2.0))
    assert (axial.image[2, 7, 1], axial.image[2, 2, 6]) == (20, 30)
    (sagittal,) = read_all(tmp_path, row | {"axes": "slice column row"})
    assert (sagittal.image.shape, sagittal.spacing) == ((12, 6, 14), (5.0, 3.0))
    assert (sagittal.image[5, 3, 2], sagittal.image[5, 0, 7]) == (30, 40)
    nib.save(nib.Nifti1Image(volume, np.diag([2.0, 3, 5, 1])), tmp_path / "l.nii.gz")
    refused(tmp_path, r"l.nii.gz: its axes point to RAS, those of a.nii.gz to LPS",
            row | {"lesion": "l.nii.gz"})  # fmt: skip
    (found,) = read_all(tmp_path, row | {"lesion": "a.nii.gz"})
    assert found.lesion[2, 7, 1] == 20
    nib.save(
        nib.Nifti1Image(volume[..., None].repeat(2, 3), np.eye(4)),
        tmp_path / "a.nii.gz",
    )
    refused(tmp_path, r"a.nii.gz: has 4 axes .*expected 3: keep one", row)
    nib.save(nib.Nifti1Image(volume * 1j, np.eye(4)), tmp_path / "a.nii.gz")
    refused(tmp_path, r"a.nii.gz: holds complex128, expected real numbers", row)
    nib.save(header, tmp_path / "a.nii.gz")
    truncate(tmp_path / "a.nii.gz")
    refused(tmp_path, r"a.nii.gz: its .* cannot be read", row)
