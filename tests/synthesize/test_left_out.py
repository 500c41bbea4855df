"""What ails one file or person of a source: it stops, or the others go on."""

import re
import shutil

import pytest

from stages.synthesize import (
    brats,
    calgary_campinas,
    exbox1,
    fastmri,
    folder,
    m4raw,
    mr_art,
)
from stages.synthesize.scans import Problems, ScanError, StopError
from tests.synthesize.folder_files import write_table
from tests.synthesize.nifti_files import (
    head,
    save,
    write_case,
    write_mr_art,
    write_task01,
)
from tests.synthesize.raw_files import STOP, left_out, settings, write_fastmri

OLD = ("t1", "t1ce", "t2", "flair")
TRAIN = "multicoil_train"


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def m4raw_name(root):
    touch(root, f"{TRAIN}/notes.h5", f"{TRAIN}/1_T101.h5")
    return {f"{TRAIN}/notes.h5": r"notes.h5: not a name of M4Raw"}, {"m4raw-1_T1w"}


def m4raw_twice(root):
    """Which of the two it is, nobody knows: neither is taken."""
    names = [f"{TRAIN}/1_T102.h5", "gre_data/1_T102.h5"]
    touch(root, *names, f"{TRAIN}/1_T101.h5", f"{TRAIN}/1_T201.h5")
    reason = r"gre_data/1_T102.h5 and .*train/1_T102.h5 are one repetition"
    return dict.fromkeys(names, reason), {"m4raw-1_T1w", "m4raw-1_T2w"}


def fastmri_damaged(root):
    write_fastmri(root / TRAIN / "a.h5")
    touch(root, f"{TRAIN}/b.h5")
    return {f"{TRAIN}/b.h5": r"b.h5 cannot be read"}, {"fastmri-0123456789ab_a"}


def fastmri_subset(root):
    for place in (TRAIN, "knees"):
        write_fastmri(root / place / f"{place}.h5", patient_id=None)
    return {"knees/knees.h5": "'knees' is no subset"}, {f"fastmri-{TRAIN}"}


def calgary_folder(root):
    touch(root, "Train/e1s1_P1.7.h5", "Data/e2s1_P1.7.h5")
    found = {"Data/e2s1_P1.7.h5": "'Data' is no split"}
    return found, {"calgary_campinas-e1s1_P1.7"}


def brats_case(root):
    """A stray folder, an empty case, and an image twice."""
    write_case(root, "BraTS2021_00000", suffixes=("t1",), joint="_")
    write_case(root, "BraTS2021_00001", suffixes=(), joint="_")
    twice = write_case(root, "BraTS2021_00002", suffixes=OLD, joint="_")
    save(twice / "BraTS2021_00002_t1n.nii.gz", head())
    (root / "notes").mkdir()
    return {
        "BraTS2021_00001": "BraTS2021_00001: no image",
        "BraTS2021_00002": "both are T1w",
        "notes": "no case of a known release",
    }, {"BraTS2021_00000_T1w"}


def task01_twice(root):
    write_task01(root, cases=("BRATS_001", "BRATS_002", "BRATS_003"))
    for name in ("imagesTr/BRATS_001", "labelsTr/BRATS_002"):
        shutil.copy(root / f"{name}.nii.gz", root / f"{name}.nii")
    return {
        "imagesTr/BRATS_001.nii": "same image twice",
        "imagesTr/BRATS_001.nii.gz": "same image twice",
        "imagesTr/BRATS_002.nii.gz": "same segmentation twice",
    }, {f"BRATS_003_{contrast}" for contrast in ("FLAIR", "T1c", "T1w", "T2w")}


def mr_art_score(root):
    write_mr_art(root, "000103", scores={"standard": 4})
    write_mr_art(root, "000104", scores={"standard": 1})
    name = "sub-000103/anat/sub-000103_acq-standard_T1w.nii.gz"
    return {name: "score of .* is '4'"}, {"mr_art-000104_T1w"}


@pytest.mark.parametrize(
    ("reader", "write"),
    [
        (m4raw, m4raw_name), (m4raw, m4raw_twice), (fastmri, fastmri_damaged),
        (fastmri, fastmri_subset), (calgary_campinas, calgary_folder),
        (brats, brats_case), (brats, task01_twice), (mr_art, mr_art_score),
    ],
)  # fmt: skip
def test_of_one_file_or_person(tmp_path, reader, write):
    expected, good = write(tmp_path)
    with pytest.raises(StopError, match=r"\(or set .*scans.on_error to skip") as caught:
        reader.find(tmp_path, settings(), STOP)
    assert caught.value.path.relative_to(tmp_path).as_posix() in expected
    scans, found = left_out(reader, tmp_path)
    assert {scan.volume_id for scan in scans} == good
    assert found.keys() == expected.keys()
    for name, reason in expected.items():
        assert re.search(reason, found[name])


def two_sets(root):
    touch(root, f"{TRAIN}/1_T101.h5", "multicoil_val/1_T201.h5")


def two_releases(root):
    write_case(root, "BraTS2021_00001", suffixes=("t1",), joint="_")
    write_case(root, "BraTS-GLI-00001-000")


def no_description(root):
    write_task01(root)
    (root / "dataset.json").write_text("{", encoding="utf-8")


def two_subsets(root):
    for subset in ("multicoil_train", "singlecoil_train"):
        write_fastmri(root / subset / "a.h5")


def damaged_table(root):
    (root / "scans.csv").write_text("file,kind\na.npy,kspace\n")


def two_people(root):
    row = {"kind": "kspace", "contrast": "T1w"}
    write_table(root, *({**row, "file": name, "subject": name} for name in "aA"))


@pytest.mark.parametrize(
    ("reader", "write", "message"),
    [
        (m4raw, two_sets, "no person may be in both"),
        (brats, two_releases, "same patients under other names"),
        (brats, no_description, "'modality' cannot be read"),
        (fastmri, two_subsets, "are one scan"),
        (folder, damaged_table, "not as `download` writes it"),
        (folder, two_people, "'A' and 'a' both would be 'a'"),
        (exbox1, lambda _root: None, "no clean scans"),
    ],
)
def test_what_ails_the_whole_stops_anyway(tmp_path, reader, write, message):
    write(tmp_path)
    with pytest.raises(ScanError, match=message) as caught:
        left_out(reader, tmp_path)
    assert not isinstance(caught.value, StopError)


def test_a_case_that_lacks_a_contrast(tmp_path):
    """Every case is published with all; what no case has was not wanted."""
    lacking = "BraTS-GLI-00001-000"
    write_case(tmp_path, lacking, suffixes=("t1c", "t2w"))
    write_case(tmp_path, "BraTS-GLI-00001-001", suffixes=("t1n", "t1c", "t2w"))
    scans, found = left_out(brats, tmp_path)
    # Of another day the person has all.
    assert {scan.files[0].parent.name for scan in scans} == {"BraTS-GLI-00001-001"}
    assert len(scans) == 3
    assert found[lacking].endswith(
        f"{lacking}: no T1w, which other cases have: download the case again, or "
        "remove it"
    )
    with pytest.raises(StopError, match=rf"{lacking}: no T1w"):
        brats.find(tmp_path, settings(), Problems("stop", ["T2w", "T1w"]))
    # Who does not ask for it, does not miss it.
    assert len(brats.find(tmp_path, settings(), Problems("stop", ["T2w"]))) == 5


def test_pairs_without_a_twin_or_a_score(tmp_path):
    write_mr_art(tmp_path, "000103", scores={"headmotion1": 2})
    write_mr_art(tmp_path, "000104", scores={"standard": 1, "headmotion2": 5})
    write_mr_art(tmp_path, "000105", scores={"standard": 1, "headmotion1": 3})
    problems = Problems("skip")
    (pair,) = mr_art.pairs(tmp_path, problems)
    assert pair.moved.name == "sub-000105_acq-headmotion1_T1w.nii.gz"
    assert [p.path.name for p in problems.found] == [
        "sub-000103_acq-headmotion1_T1w.nii.gz",
        "sub-000104_acq-headmotion2_T1w.nii.gz",
    ]
