"""Hybrid k-space without shifts becomes centred k-space."""

import h5py
import numpy as np
import pytest
from fastmri.data import SliceDataset

from stages.common.volume import write_volume
from stages.synthesize import calgary_campinas, raw
from stages.synthesize.noise import ifft2c
from stages.synthesize.scans import ScanError
from tests.synthesize.raw_files import STOP, replace, rss, settings, write_calgary

NAME = "e14089s3_P53248.7.h5"


def only(folder):
    (scan,) = calgary_campinas.find(folder, settings(), STOP)
    return scan


def stored(path):
    with h5py.File(path) as file:
        return file["kspace"][()]


def test_an_exam_is_a_person(tmp_path):
    for name in (
        "Train/e14089s3_P53248.7", "Train/e14089s4_P60000.7", "Val/other",
        "Val/e14396s3_P52224.7", "Test-R=5/e15768s3_P07168.7",
    ):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / f"{name}.h5").touch()
    (tmp_path / "Train" / "readme.json").touch()
    prefix = "calgary_campinas-"
    found = calgary_campinas.find(tmp_path, settings(), STOP)
    assert [(s.volume_id, s.subject_id, s.split, s.contrast) for s in found] == [
        (f"{prefix}e14089s3_P53248.7", f"{prefix}e14089", "train", "T1w"),
        (f"{prefix}e14089s4_P60000.7", f"{prefix}e14089", "train", "T1w"),
        (f"{prefix}e14396s3_P52224.7", f"{prefix}e14396", "val", "T1w"),
        (f"{prefix}e15768s3_P07168.7", f"{prefix}e15768", "test", "T1w"),
        (f"{prefix}other", f"{prefix}other", "val", "T1w"),
    ]
    (tmp_path / "Data").mkdir()
    (tmp_path / "Data" / "e1s1_P1.7.h5").touch()
    with pytest.raises(ScanError, match=r"'Data' is no split of Calgary.*rename"):
        calgary_campinas.find(tmp_path, settings(), STOP)


@pytest.mark.parametrize("shape", [(3, 4, 36, 40), (2, 3, 32, 34)])
def test_its_authors_reconstruction_is_the_target(tmp_path, shape):
    path = tmp_path / "Train" / NAME
    images = write_calgary(path, shape=shape)
    scan = only(tmp_path)
    found = calgary_campinas.read(scan, settings(), STOP)
    assert (found.target, found.header) == (None, None)
    assert found.scanner == f"calgary_campinas-{shape[1]}ch"
    # Plain transform of the 85 % of kz, root sum of squares over the coils.
    parts = stored(path)
    kspace = parts[..., ::2] + 1j * parts[..., 1::2]
    measured = int(np.ceil(0.85 * shape[3]))
    kspace[:, :, measured:] = 0
    authors = np.fft.ifft2(kspace, axes=(1, 2), norm="ortho")
    authors = np.sqrt((np.abs(authors) ** 2).sum(axis=-1))
    volume, difference = raw.to_volume(scan, found, range(shape[0]))
    np.testing.assert_allclose(volume.target, authors, atol=1e-5)
    assert difference is None
    assert volume.columns == (0, measured)
    # Its zero frequency is in the middle, its head where it was put.
    energy = (np.abs(volume.kspace) ** 2).sum(axis=(0, 1))
    peak = np.unravel_index(energy.argmax(), energy.shape)
    assert np.abs(np.array(peak) - np.array(shape[2:]) // 2).max() <= 1
    head = np.sqrt((np.abs(images) ** 2).sum(axis=1))
    assert np.corrcoef(head.ravel(), volume.target.ravel())[0, 1] > 0.97


def test_phase_is_that_of_the_coil_images(tmp_path):
    """The shift is whole: what is left of the phase has no alternating sign."""
    path = tmp_path / "Train" / NAME
    images = write_calgary(path)
    found = calgary_campinas.read(only(tmp_path), settings(), STOP)
    overlap = (ifft2c(found.kspace) * images.conj()).sum()
    energy = np.sqrt((np.abs(found.kspace) ** 2).sum() * (np.abs(images) ** 2).sum())
    assert np.abs(overlap) / energy > 0.98


def test_odd_sizes_are_shifted_by_whole_pixels(tmp_path):
    path = tmp_path / "Val" / NAME
    write_calgary(path, shape=(2, 3, 36, 40))
    replace(path, "kspace", stored(path)[:, 1:, 1:])
    parts = stored(path)
    kspace = np.moveaxis(parts[..., ::2] + 1j * parts[..., 1::2], -1, 1)
    kspace[..., 34:] = 0
    plain = np.abs(np.fft.ifft2(kspace, norm="ortho"))
    found = calgary_campinas.read(only(tmp_path), settings(), STOP)
    np.testing.assert_allclose(np.abs(ifft2c(found.kspace)), plain, atol=1e-5)


def test_fastmri_reads_it(tmp_path):
    write_calgary(tmp_path / "Train" / NAME)
    scan = only(tmp_path)
    found = calgary_campinas.read(scan, settings(), STOP)
    volume, _ = raw.to_volume(scan, found, [0, 2])
    write_volume(tmp_path / "out" / "a.h5", volume)
    kspace, _, target, attributes, _, _ = SliceDataset(tmp_path / "out", "multicoil")[1]
    np.testing.assert_allclose(rss(kspace[None])[0], target, rtol=1e-5)
    assert (attributes["padding_left"], attributes["padding_right"]) == (0, 34)
    assert attributes["encoding_size"] == (36, 40, 1)


def test_other_layouts_are_refused(tmp_path):
    path = tmp_path / "Train" / NAME
    write_calgary(path)
    scan, parts = only(tmp_path), stored(path)
    corner = np.fft.ifftshift(parts, axes=(1, 2))
    for array, message in (
        (parts[..., :-1], r"P53248.7.h5: kspace is \(3, 36, 40, 7\), expected x, ky"),
        (np.moveaxis(parts, -1, 1), r"its axes are in another order; transpose"),
        (parts[..., ::2] + 1j * parts[..., 1::2], r"kspace is complex64 .*real num"),
        (corner, r"strongest value of kspace lies at ky \d+, kz \d+ .*not in the mid"),
    ):  # fmt: skip
        replace(path, "kspace", array)
        with pytest.raises(ScanError, match=message):
            calgary_campinas.read(scan, settings(), STOP)
    path.write_bytes(path.read_bytes()[:4000])
    with pytest.raises(ScanError, match=r"P53248.7.h5 cannot be read \(.*truncated"):
        calgary_campinas.read(scan, settings(), STOP)
