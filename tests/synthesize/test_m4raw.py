"""Repetitions become scans, each subject in one split."""

import numpy as np
import pytest
from fastmri.data import SliceDataset

from stages.common.volume import write_volume
from stages.synthesize import m4raw, raw
from stages.synthesize.noise import fft2c
from stages.synthesize.scans import ScanError
from tests.synthesize.raw_files import (
    STOP,
    coil_images,
    replace,
    rss,
    settings,
    write_m4raw,
)

SMALL = {"slices": 2, "size": 32}
SUBJECT = "m4raw-2022061203"


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "m4raw"
    for name in (
        "multicoil_train/2022061203_T102", "multicoil_train/2022061203_T101",
        "multicoil_train/2022061203_FLAIR01", "multicoil_val/2022070101_T201",
        "multicoil_test/2022110101_T101", "gre_data/2022061203_GRE01",
        "gre_data/2022070909_GRE02", "motion/inter-scan_motion/2022061401_T101",
        "motion/inter-scan_motion/2022061401_T102",
        "motion/intra-scan_motion/2022061401_T101",
    ):  # fmt: skip
        path = root / f"{name}.h5"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    # Stray files of some copies.
    (root / "multicoil_train" / "dataset_descriptor.json").write_text("{}")
    (root / "multicoil_train" / "._2022061203_T101.h5").touch()
    return root


def listed(scans):
    return {
        scan.volume_id: (scan.split, [f.stem for f in scan.files]) for scan in scans
    }


def test_names_say_what_there_is(folder):
    scans = m4raw.find(folder, settings(repetitions="average"), STOP)
    assert listed(scans) == {
        f"{SUBJECT}_FLAIR": ("train", ["2022061203_FLAIR01"]),
        f"{SUBJECT}_GRE": ("train", ["2022061203_GRE01"]),
        f"{SUBJECT}_T1w": ("train", ["2022061203_T101", "2022061203_T102"]),
        "m4raw-2022070101_T2w": ("val", ["2022070101_T201"]),
        "m4raw-2022070909_GRE": (None, ["2022070909_GRE02"]),
        "m4raw-2022110101_T1w": ("test", ["2022110101_T101"]),
    }
    assert [scan.volume_id for scan in scans] == sorted(s.volume_id for s in scans)
    assert (scans[0].subject_id, scans[0].contrast) == (SUBJECT, "FLAIR")


def test_repetitions_are_kept_or_the_first_is_taken(folder):
    kept = listed(m4raw.find(folder, settings(repetitions="keep"), STOP))
    assert kept[f"{SUBJECT}_T1w-02"] == ("train", ["2022061203_T102"])
    assert kept["m4raw-2022070909_GRE-02"] == (None, ["2022070909_GRE02"])
    assert len(kept) == 7
    first = listed(m4raw.find(folder, settings(repetitions="first"), STOP))
    assert first[f"{SUBJECT}_T1w"] == ("train", ["2022061203_T101"])
    assert len(first) == 6


def test_motion_is_apart(folder):
    assert listed(m4raw.find_motion(folder, settings(repetitions="average"), STOP)) == {
        "m4raw-2022061401_T1w-inter": (None, ["2022061401_T101", "2022061401_T102"]),
        "m4raw-2022061401_T1w-intra": (None, ["2022061401_T101"]),
    }
    kept = listed(m4raw.find_motion(folder, settings(repetitions="keep"), STOP))
    assert kept["m4raw-2022061401_T1w-02-inter"] == (None, ["2022061401_T102"])
    assert m4raw.find_motion(folder / "nothing", settings(), STOP) == []


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("multicoil_val/2022061203_T203", r"val/2022061203_T203.h5 and .*train/"
         r"2022061203_FLAIR01.h5: subject 2022061203 is in two sets, val and train: "
         r"no person may be in both; remove one"),
        ("multicoil_val/2022061203_T101", r"is in two sets"),
        ("multicoil_train/2022061203_T1", r"_T1.h5: not a name of M4Raw.*rename"),
        ("gre_data/2022061203_PD01", r"_PD01.h5: not a name of M4Raw"),
        ("gre_data/2022061203_T101", r"_T101.h5 and .*_T101.h5 are one repetition"),
    ],
)  # fmt: skip
def test_wrong_folders_are_refused(folder, name, message):
    (folder / f"{name}.h5").touch()
    with pytest.raises(ScanError, match=message):
        m4raw.find(folder, settings(), STOP)


def test_one_repetition_is_compared_with_its_image(tmp_path):
    """In the layout and at the size that is published."""
    path = tmp_path / "multicoil_train" / "2022061203_T201.h5"
    kspace = write_m4raw(path, slices=18, coils=4, size=256)
    (scan,) = m4raw.find(tmp_path, settings(), STOP)
    found = m4raw.read(scan, settings(), STOP)
    np.testing.assert_array_equal(found.kspace, kspace)
    assert (found.scanner, found.acquisition) == ("m4raw-0.3T", "AXT2")
    volume, difference = raw.to_volume(scan, found, [0, 9])
    assert difference < 1e-6
    assert volume.columns == (30, 225)
    assert volume.target.shape == (2, 256, 256)
    write_volume(tmp_path / "out" / "a.h5", volume)
    *_, attributes, _, _ = SliceDataset(tmp_path / "out", challenge="multicoil")[1]
    assert (attributes["encoding_size"], attributes["padding_left"]) == (
        (256, 256, 1), 31,
    )  # fmt: skip


def test_mean_is_of_the_kspace(tmp_path):
    stored = [
        write_m4raw(tmp_path / "multicoil_train" / f"2022061203_T10{n}.h5", seed=n,
                    **SMALL)
        for n in (3, 1, 2)
    ]  # fmt: skip
    (scan,) = m4raw.find(tmp_path, settings(repetitions="average"), STOP)
    found = m4raw.read(scan, settings(), STOP)
    mean = np.mean(np.asarray(stored, np.complex128), axis=0)
    np.testing.assert_allclose(found.kspace, mean, atol=1e-6)
    assert found.target is None
    volume, difference = raw.to_volume(scan, found, [0, 1])
    assert difference is None
    np.testing.assert_allclose(volume.target, rss(mean), rtol=1e-5)
    (scan,) = m4raw.find(tmp_path, settings(repetitions="first"), STOP)
    np.testing.assert_array_equal(m4raw.read(scan, settings(), STOP).kspace, stored[1])


def test_repetitions_that_do_not_fit(tmp_path):
    paths = [tmp_path / "multicoil_train" / f"2022061203_T10{n}.h5" for n in (1, 2)]
    write_m4raw(paths[0], **SMALL)
    kspace = write_m4raw(paths[1], **SMALL)
    (scan,) = m4raw.find(tmp_path, settings(repetitions="average"), STOP)
    replace(paths[1], "kspace", kspace[:1])
    replace(paths[1], "reconstruction_rss", rss(kspace)[:1])
    with pytest.raises(
        ScanError,
        match=r"_T102.h5: kspace is \(1, 4, 32, 32\), of 2022061203_T101.h5 "
        r"\(2, 4, 32, 32\): repetitions must have one shape; remove one",
    ):
        m4raw.read(scan, settings(), STOP)
    replace(paths[1], "reconstruction_rss", rss(kspace))
    fewer = kspace.copy()
    fewer[..., :6] = 0
    poisoned = kspace.copy()
    poisoned[0, 0, 3, 9] = np.nan
    for array, message in (
        (kspace[:1], r"_T102.h5: .* image is \(2, 32, 32\), k-space \(1, 4, 32, 32\)"),
        (fewer, r"_T102.h5: columns \(6, 28\) are acquired, of .*_T101.h5 \(3, 28\)"),
        (poisoned, r"_T102.h5: kspace holds values that are not finite"),
        (kspace.swapaxes(-2, -1), r"_T102.h5: \d rows at one edge .*swapped"),
        (np.fft.ifftshift(kspace, axes=(-2, -1)), r"_T102.h5: kspace is not centred"),
        (kspace.swapaxes(0, 1), r"_T102.h5: kspace is \(4, 2, 32, 32\), of which the "
         r"second axis should be coils: 2, but the header states 4 receiver channels: "
         r".*transpose them to \(slices, coils, H, W\), or download the file again"),
        (kspace[::-1], r"_T102.h5: the published image and the RSS of kspace differ "
         r"by \d+ %: .*correct the file, or remove it"),
        (1.4 * kspace, r"_T102.h5: the published image .* differ by 29 %"),
    ):  # fmt: skip
        replace(paths[1], "kspace", array.astype(np.complex64))
        with pytest.raises(ScanError, match=message) as caught:
            m4raw.read(scan, settings(), STOP)
        assert caught.value.path == paths[1]


def test_repetitions_at_the_usual_size_pass(tmp_path, caplog):
    """Echo 8 rows off, 61 zero columns, five of the slices noise alone."""
    folder = tmp_path / "multicoil_train"
    for number in (1, 2):
        path = folder / f"2022061203_T10{number}.h5"
        kspace = write_m4raw(path, seed=number)
        kspace[:5] = fft2c(coil_images((5, 4, 256, 256), seed=number, share=0))
        kspace[..., :30] = kspace[..., 225:] = 0
        replace(path, "kspace", kspace)
        replace(path, "reconstruction_rss", rss(kspace))
    (scan,) = m4raw.find(tmp_path, settings(repetitions="average"), STOP)
    found = m4raw.read(scan, settings(), STOP)
    assert raw.check_raw(scan, found) == (30, 225)
    assert (found.kspace.shape, found.target) == ((18, 4, 256, 256), None)
    # What another site's copy may lack is not missed.
    replace(path, "reconstruction_rss", None)
    replace(path, "ismrmrd_header", None)
    again = m4raw.read(scan, settings(), STOP)
    np.testing.assert_array_equal(again.kspace, found.kspace)
    assert not caplog.records


@pytest.mark.parametrize("repetitions", ["average", "first", "keep"])
def test_swapped_slices_and_coils(tmp_path, repetitions):
    """The header tells, whether or not there is an image that would."""
    folder = tmp_path / "multicoil_train"
    for number in (1, 2):
        path = folder / f"2022061203_T10{number}.h5"
        kspace = write_m4raw(path, slices=6, coils=4, size=64).swapaxes(0, 1)
        replace(path, "kspace", kspace)
        replace(path, "reconstruction_rss", rss(kspace))
    scan, *_ = m4raw.find(tmp_path, settings(repetitions=repetitions), STOP)
    message = r"_T101.h5: kspace is \(4, 6, 64, 64\), .* header states 4 receiver chan"
    with pytest.raises(ScanError, match=message):
        m4raw.read(scan, settings(), STOP)
    # As many slices as coils: only the image can tell.
    for number in (1, 2):
        path = folder / f"2022061203_T10{number}.h5"
        replace(path, "kspace", write_m4raw(path, slices=4, size=64).swapaxes(0, 1))
    with pytest.raises(ScanError, match=r"_T101.h5: the published image .* differ by"):
        raw.to_volume(scan, m4raw.read(scan, settings(), STOP), range(4))


def test_what_a_header_says_of_coils(tmp_path):
    path = tmp_path / "multicoil_train" / "2022061203_T101.h5"
    write_m4raw(path, channels=8, **SMALL)
    (scan,) = m4raw.find(tmp_path, settings(), STOP)
    with pytest.raises(ScanError, match=r"be coils: 4, but the header states 8 rece"):
        m4raw.read(scan, settings(), STOP)
    for silent in ("<a", "<ismrmrdHeader/>", "<a><receiverChannels>9"):
        replace(path, "ismrmrd_header", np.bytes_(silent))
        assert m4raw.read(scan, settings(), STOP).kspace.shape == (2, 4, 32, 32)


def test_damaged_files_are_named(tmp_path):
    path = tmp_path / "multicoil_train" / "2022061203_T101.h5"
    kspace = write_m4raw(path, **SMALL)
    (scan,) = m4raw.find(tmp_path, settings(), STOP)

    def refused(message):
        with pytest.raises(ScanError, match=message):
            m4raw.read(scan, settings(), STOP)

    replace(path, "ismrmrd_header", None)
    assert m4raw.read(scan, settings(), STOP).header is None
    replace(path, "reconstruction_rss", None)
    refused(r"_T101.h5: 'reconstruction_rss' is missing, the file holds kspace: down")
    replace(path, "kspace", kspace.real)
    refused(r"_T101.h5: kspace is float32 \(2, 4, 32, 32\), expected complex .*convert")
    replace(path, "kspace", np.array([b"no", b"numbers"], dtype="O"))
    refused(r"_T101.h5: kspace is object \(2,\), expected complex")
    replace(path, "kspace", None)
    refused(r"_T101.h5: 'kspace' is missing, the file holds nothing")
    write_m4raw(path, **SMALL)
    path.write_bytes(path.read_bytes()[:-2000])
    refused(r"_T101.h5 cannot be read \(.*truncated.*\): download it again, or remove")
    path.unlink()
    refused(r"_T101.h5 is missing: download it again")
