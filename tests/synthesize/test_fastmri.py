"""fastMRI's files become scans of persons; its test files are refused."""

import logging
import shutil

import h5py
import numpy as np
import pytest
from fastmri.data import SliceDataset

from stages.common.volume import write_volume
from stages.synthesize import fastmri, raw
from stages.synthesize.scans import Problems, ScanError
from tests.synthesize.raw_files import (
    PATIENT,
    STOP,
    SYSTEM,
    replace,
    rss,
    settings,
    write_fastmri,
)

BRAIN = "file_brain_AXT1POST_206_2000057.h5"
KNEE = "file1000033.h5"
SUBJECT = "fastmri-0123456789ab"


def only(folder, **changes):
    (scan,) = fastmri.find(folder, settings(**changes), STOP)
    return scan


@pytest.mark.parametrize(
    ("acquisition", "contrast"),
    [
        ("AXT1", "T1w"), ("AXT1PRE", "T1w"), ("AXT1POST", "T1c"), ("AXT2", "T2w"),
        ("AXFLAIR", "FLAIR"), ("CORPD_FBK", "PDw"), ("CORPDFS_FBK", "PDw-FS"),
        ("AX DWI", "AX-DWI"),
    ],
)  # fmt: skip
def test_contrasts(tmp_path, acquisition, contrast):
    write_fastmri(tmp_path / "multicoil_train" / KNEE, acquisition=acquisition)
    scan = only(tmp_path)
    assert (scan.contrast, scan.split) == (contrast, "train")
    assert scan.subject_id == SUBJECT
    assert scan.volume_id == f"{SUBJECT}_file1000033"


def test_a_person_has_several_files(tmp_path):
    write_fastmri(tmp_path / "multicoil_val" / BRAIN)
    write_fastmri(tmp_path / "multicoil_val" / BRAIN.replace("POST", "PRE"))
    write_fastmri(tmp_path / "multicoil_train" / KNEE, patient_id=None)
    (tmp_path / "multicoil_val" / "notes.json").write_text("{}")
    scans = fastmri.find(tmp_path, settings(), STOP)
    assert [(scan.subject_id, scan.split) for scan in scans] == [
        (SUBJECT, "val"), (SUBJECT, "val"), ("fastmri-file1000033", "train"),
    ]  # fmt: skip
    assert scans[2].volume_id == "fastmri-file1000033"
    assert scans == sorted(scans)


def test_volume_is_cropped_as_published(tmp_path):
    path = tmp_path / "multicoil_train" / BRAIN
    kspace = write_fastmri(path, shape=(3, 4, 64, 40), crop=(32, 32))
    scan = only(tmp_path)
    found = fastmri.read(scan, settings(), STOP)
    assert (found.scanner, found.acquisition) == ("fastmri-206", "AXT2")
    volume, difference = raw.to_volume(scan, found, [0, 1, 2])
    np.testing.assert_array_equal(volume.kspace, kspace)
    np.testing.assert_allclose(volume.target, rss(kspace)[:, 16:48, 4:36], rtol=1e-5)
    assert volume.columns == (2, 38)
    assert difference < 1e-6
    write_volume(tmp_path / "out" / "a.h5", volume)
    _, _, target, attributes, _, _ = SliceDataset(tmp_path / "out", "multicoil")[1]
    np.testing.assert_array_equal(target, volume.target[1])
    assert attributes["recon_size"] == (32, 32, 1)
    assert (attributes["padding_left"], attributes["padding_right"]) == (2, 38)
    assert attributes["patient_id"] == SUBJECT != PATIENT


def test_narrow_brain_is_cropped_to_a_square(tmp_path):
    path = tmp_path / "multicoil_train" / "file_brain_AXFLAIR_203_6000001.h5"
    kspace = write_fastmri(path, shape=(2, 4, 64, 24), crop=(32, 24), padding=0)
    image = np.pad(rss(kspace)[:, 16:48], [(0, 0), (0, 0), (4, 4)])
    replace(path, "reconstruction_rss", image)
    scan = only(tmp_path)
    found = fastmri.read(scan, settings(), STOP)
    volume, difference = raw.to_volume(scan, found, [0, 1])
    assert volume.target.shape == (2, 24, 24)
    np.testing.assert_allclose(volume.target, rss(kspace)[:, 20:44], rtol=1e-5)
    assert difference < 1e-6


def test_channels_of_the_header_are_not_the_coils(tmp_path):
    """Siemens' are the most that there may be; another image tells of a mistake."""
    path = tmp_path / "multicoil_train" / BRAIN
    kspace = write_fastmri(path, shape=(4, 4, 64, 40))
    header = fastmri.read(only(tmp_path), settings(), STOP).header
    system = SYSTEM.format(channels=24)
    header = header.replace("<encoding>", system)
    replace(path, "ismrmrd_header", np.bytes_(header.encode()))
    found = fastmri.read(only(tmp_path), settings(), STOP)
    assert "<receiverChannels>24<" in found.header
    assert raw.to_volume(only(tmp_path), found, range(4))[1] < 1e-6
    for wrong, message in (
        (kspace.swapaxes(0, 1), r"2000057.h5: the published image .* differ by \d+ %"),
        (np.fft.fftshift(kspace, axes=(-2, -1)), r"2000057.h5: kspace is not centred"),
    ):
        replace(path, "kspace", wrong)
        found = fastmri.read(only(tmp_path), settings(), STOP)
        with pytest.raises(ScanError, match=message):
            raw.to_volume(only(tmp_path), found, range(4))


def test_singlecoil_is_one_coil(tmp_path):
    path = tmp_path / "singlecoil_val" / KNEE
    kspace = write_fastmri(path, shape=(2, 64, 40), acquisition="CORPD_FBK")
    replace(path, "reconstruction_rss", np.ones((2, 32, 32), np.float32))
    scan = only(tmp_path)
    found = fastmri.read(scan, settings(), STOP)
    assert found.scanner == "fastmri-knee"
    volume, difference = raw.to_volume(scan, found, [0, 1])
    assert volume.kspace.shape == (2, 1, 64, 40)
    np.testing.assert_array_equal(volume.kspace, kspace)
    assert difference < 1e-6


def test_test_files_are_refused(tmp_path, caplog):
    path = tmp_path / "multicoil_test" / KNEE
    write_fastmri(path, test=True)
    scan = only(tmp_path, split="published")
    assert scan.split == "test"
    with pytest.raises(
        ScanError,
        match=r"file1000033.h5: a test file without target.*scans.split to drawn.*"
        r"multicoil_test out of download.fastmri.subsets",
    ):
        fastmri.read(scan, settings(), STOP)
    write_fastmri(tmp_path / "multicoil_train" / BRAIN)
    with caplog.at_level(logging.INFO, "mendmri"):
        assert only(tmp_path, split="drawn").split == "train"
    assert "left out 1 file(s) without a target" in caplog.text


def test_what_is_fully_sampled_may_be_tested_with(tmp_path):
    path = tmp_path / "multicoil_test_full" / KNEE
    kspace = write_fastmri(path)
    with h5py.File(path, "a") as file:
        file["mask"] = np.ones(40, bool)
    scan = only(tmp_path)
    assert scan.split == "test"
    np.testing.assert_array_equal(fastmri.read(scan, settings(), STOP).kspace, kspace)
    replace(path, "mask", np.arange(40) % 4 == 0)
    with pytest.raises(ScanError, match="a test file without target"):
        fastmri.read(scan, settings(), STOP)


def test_wrong_folders_are_refused(tmp_path):
    write_fastmri(tmp_path / "multicoil_train" / KNEE)
    (tmp_path / "singlecoil_train").mkdir()
    twin = tmp_path / "singlecoil_train" / KNEE
    shutil.copy(tmp_path / "multicoil_train" / KNEE, twin)
    with pytest.raises(ScanError, match=r"are one scan: name either multicoil or"):
        fastmri.find(tmp_path, settings(), STOP)
    (tmp_path / "knees").mkdir()
    twin.rename(tmp_path / "knees" / KNEE)
    with pytest.raises(ScanError, match=r"'knees' is no subset of fastMRI.*rename"):
        fastmri.find(tmp_path, settings(), STOP)


def test_a_truncated_file_stops_or_is_left_out(tmp_path):
    """Whose it is, only the file says: it is no person of its own."""
    path = tmp_path / "multicoil_train" / BRAIN
    write_fastmri(path)
    scan = only(tmp_path)
    path.write_bytes(path.read_bytes()[:3000])
    message = r"2000057.h5 cannot be read \(.*truncated.*\): download it again"
    with pytest.raises(ScanError, match=message):
        fastmri.find(tmp_path, settings(on_error="stop"), STOP)
    problems = Problems("skip")
    assert fastmri.find(tmp_path, settings(on_error="skip"), problems) == []
    (found,) = problems.found
    assert (found.path, found.subject_id, found.split) == (path, None, "train")
    assert "2000057.h5 cannot be read" in found.reason
    with pytest.raises(ScanError, match=message):
        fastmri.read(scan, settings(), STOP)
