"""BraTS of every year is read with its own names and its own labels."""

import json

import numpy as np
import pytest

from stages.common.params import load_block
from stages.synthesize import brats
from stages.synthesize.scans import ScanError
from stages.synthesize.settings import SynthesizeSettings
from tests.synthesize.nifti_files import (
    LPS,
    SHAPE,
    head,
    save,
    truncate,
    write_case,
    write_task01,
)
from tests.synthesize.raw_files import STOP

SETTINGS = load_block("synthesize", SynthesizeSettings).scans
OLD = ("t1", "t1ce", "t2", "flair")


def found(folder):
    return {scan.volume_id: scan for scan in brats.find(folder, SETTINGS, STOP)}


@pytest.mark.parametrize(
    ("case", "joint", "suffixes", "person", "stored", "expected"),
    [
        ("Brats18_2013_10_1", "_", OLD, "Brats18_2013_10", [1, 2, 4], [1, 2, 3]),
        ("BraTS20_Training_001", "_", OLD, "BraTS20_Training_001", [4, 1], [3, 1]),
        ("BraTS2021_00000", "_", OLD, "BraTS2021_00000", [1, 2, 4], [1, 2, 3]),
        (
            "BraTS-GLI-00001-001",
            "-",
            ("t1n", "t1c", "t2w", "t2f"),
            "BraTS-GLI-00001",
            [1, 2, 3],
            [1, 2, 3],
        ),
        (
            "BraTS-GLI-02062-100",
            "-",
            ("t1n", "t1c", "t2w", "t2f"),
            "BraTS-GLI-02062",
            [1, 2, 3, 4],
            [1, 2, 3, 4],
        ),
    ],
)
def test_each_release(tmp_path, case, joint, suffixes, person, stored, expected):
    write_case(tmp_path, case, suffixes=suffixes, joint=joint, labels=stored)
    scans = found(tmp_path)
    assert sorted(scans) == [f"{case}_{c}" for c in ("FLAIR", "T1c", "T1w", "T2w")]
    assert {scan.subject_id for scan in scans.values()} == {person}
    assert {scan.split for scan in scans.values()} == {None}
    scan = scans[f"{case}_T1c"]
    assert scan.files[0].name == f"{case}{joint}{suffixes[1]}.nii.gz"
    image = brats.read(scan, SETTINGS, STOP)
    # Stored to the left and to the back: the first voxel is right and anterior.
    stored_image = head(1).astype(np.int16)
    np.testing.assert_array_equal(image.image, stored_image.transpose(2, 1, 0))
    assert image.spacing == (8.0, 8.0)
    assert image.acquisition == suffixes[1]
    assert image.scanner == "brats"
    assert image.lesion.dtype == np.uint8
    assert image.lesion[3, 12, 8 : 8 + len(stored)].tolist() == expected
    assert np.count_nonzero(image.lesion) == len(stored)


def test_time_points_are_one_person(tmp_path):
    write_case(tmp_path, "BraTS-GLI-00001-000")
    write_case(tmp_path, "BraTS-GLI-00001-100")
    scans = found(tmp_path)
    assert len(scans) == 8
    assert {scan.subject_id for scan in scans.values()} == {"BraTS-GLI-00001"}


def test_without_segmentation_there_is_no_lesion(tmp_path):
    write_case(tmp_path, "BraTS2021_00000", suffixes=("t1",), joint="_")
    (scan,) = found(tmp_path).values()
    assert len(scan.files) == 1
    assert brats.read(scan, SETTINGS, STOP).lesion is None


@pytest.mark.parametrize(
    ("case", "joint", "label"),
    [
        ("BraTS2021_00000", "_", 3),
        ("BraTS-GLI-00001-000", "-", 4),
        ("BraTS-GLI-00001-100", "-", 5),
    ],
)
def test_label_of_another_year(tmp_path, case, joint, label):
    write_case(tmp_path, case, joint=joint, suffixes=("t1c",), labels=[1, label])
    (scan,) = found(tmp_path).values()
    with pytest.raises(ScanError, match=rf"seg.nii.gz: holds label {label}, .*year"):
        brats.read(scan, SETTINGS, STOP)


def test_segmentation_on_another_grid(tmp_path):
    case = write_case(tmp_path, "BraTS2021_00000", suffixes=("t1",), joint="_")
    path = save(case / "BraTS2021_00000_seg.nii.gz", np.zeros((24, 30, 5), np.uint8))
    (scan,) = found(tmp_path).values()
    with pytest.raises(ScanError, match=r"segmentation is \(24, 30, 5\), image .*grid"):
        brats.read(scan, SETTINGS, STOP)
    save(path, np.zeros(SHAPE, np.uint8), np.diag([8.0, 8.0, 5.0, 1.0]))
    with pytest.raises(ScanError, match=r"axes point to RAS, those of .* to LPS"):
        brats.read(scan, SETTINGS, STOP)


def test_one_image_twice(tmp_path):
    case = write_case(tmp_path, "BraTS2021_00000", suffixes=OLD, joint="_")
    save(case / "BraTS2021_00000_t1.nii", head())
    with pytest.raises(ScanError, match=r"_t1.nii.gz and .*t1.nii .*same .*remove one"):
        found(tmp_path)
    (case / "BraTS2021_00000_t1.nii").unlink()
    save(case / "BraTS2021_00000_t1n.nii.gz", head())
    with pytest.raises(ScanError, match=r"both are T1w of BraTS2021_00000: remove one"):
        found(tmp_path)


def test_uncompressed_files_and_strays(tmp_path):
    case = write_case(tmp_path, "BraTS20_Training_355", suffixes=(), joint="_")
    save(case / "BraTS20_Training_355_t2.nii", head())
    save(case / "._BraTS20_Training_355_t1.nii", head())
    (case / "notes.txt").write_text("x", encoding="utf-8")
    (tmp_path / "name_mapping.csv").write_text("x", encoding="utf-8")
    assert list(found(tmp_path)) == ["BraTS20_Training_355_T2w"]


def test_case_without_an_image(tmp_path):
    write_case(tmp_path, "BraTS2021_00007", suffixes=(), joint="_", labels=[1])
    with pytest.raises(ScanError, match=r"BraTS2021_00007: no image; expected .*flair"):
        found(tmp_path)


def test_unknown_case_and_mixed_years(tmp_path):
    write_case(tmp_path, "patient7", joint="_")
    with pytest.raises(ScanError, match=r"patient7: no case of a known release"):
        found(tmp_path)
    (tmp_path / "patient7").rename(tmp_path / "BraTS2021_00001")
    with pytest.raises(ScanError, match=r"BraTS2021_00001: no image"):
        found(tmp_path)
    write_case(tmp_path, "BraTS2021_00001", joint="_")
    write_case(tmp_path, "BraTS-GLI-00001-000")
    with pytest.raises(ScanError, match=r"lies together with .*same patients"):
        found(tmp_path)


def test_damaged_image(tmp_path):
    case = write_case(tmp_path, "BraTS2021_00000", suffixes=("t1",), joint="_")
    (scan,) = found(tmp_path).values()
    truncate(case / "BraTS2021_00000_t1.nii.gz")
    with pytest.raises(ScanError, match=r"_t1.nii.gz: its pixels cannot be read"):
        brats.read(scan, SETTINGS, STOP)
    write_case(tmp_path, case.name, suffixes=("t1",), joint="_", labels=[1])
    (scan,) = found(tmp_path).values()
    truncate(scan.files[1])
    with pytest.raises(
        ScanError, match=r"_seg.nii.gz: its .* cannot be read"
    ) as caught:
        brats.read(scan, SETTINGS, STOP)
    assert caught.value.path == scan.files[1]


@pytest.mark.parametrize("place", [".", "Task01_BrainTumour"])
def test_task01_goes_by_its_description(tmp_path, place):
    write_task01(tmp_path / place, labels=[1, 2, 3])
    save(tmp_path / place / "imagesTr" / "._BRATS_001.nii.gz", head())
    scans = found(tmp_path)
    assert sorted(scans) == [f"BRATS_001_{c}" for c in ("FLAIR", "T1c", "T1w", "T2w")]
    image = brats.read(scans["BRATS_001_T1c"], SETTINGS, STOP)
    assert image.acquisition == "t1gd"
    expected = head(2).transpose(2, 1, 0)
    np.testing.assert_array_equal(image.image, expected)
    # Oedema is 1 there and 2 here, the core the other way round.
    assert image.lesion[3, 12, 8:11].tolist() == [2, 1, 3]


def test_task01_with_an_unreadable_description(tmp_path):
    write_task01(tmp_path)
    path = tmp_path / "dataset.json"
    content = json.loads(path.read_text("utf-8"))
    content["labels"]["3"] = "ventricle"
    path.write_text(json.dumps(content), encoding="utf-8")
    scan = found(tmp_path)["BRATS_001_T1w"]
    with pytest.raises(ScanError, match=r"dataset.json: label 3 is 'ventricle'"):
        brats.read(scan, SETTINGS, STOP)
    content["modality"]["0"] = "PD"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ScanError, match=r"dataset.json: modality 0 is 'PD', expected"):
        found(tmp_path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(ScanError, match=r"dataset.json: 'modality' cannot be read"):
        found(tmp_path)


def test_a_4d_file_among_the_cases(tmp_path):
    case = write_case(tmp_path, "BraTS2021_00000", suffixes=(), joint="_")
    save(case / "BraTS2021_00000_t1.nii.gz", np.ones((4, 4, 3, 2), np.float32), LPS)
    (scan,) = found(tmp_path).values()
    with pytest.raises(ScanError, match=r"_t1.nii.gz: has 4 axes .*expected 3"):
        brats.read(scan, SETTINGS, STOP)
