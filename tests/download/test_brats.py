"""BraTS: local copies of every year, and the Decathlon's archive."""

import hashlib
import json
from pathlib import Path

import pytest

from stages.download import brats
from stages.download.base import SourceError, settle
from tests.download.http_server import Drop, FileServer, quick_server
from tests.download.packing import pack

RAW = Path("data/raw/brats")
ARCHIVE = Path(".scratch/download/brats/Task01_BrainTumour.tar")
OLD = ("flair", "t1", "t1ce", "t2", "seg")
NEW = ("t1n", "t1c", "t2w", "t2f", "seg")
CASES = {
    "MICCAI_BraTS_2018_Data_Training/HGG": ("Brats18_CBICA_AAB_1", "_", OLD),
    "MICCAI_BraTS2020_TrainingData": ("BraTS20_Training_001", "_", OLD),
    "": ("BraTS2021_00000", "_", OLD),
    "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData": (
        "BraTS-GLI-00000-000",
        "-",
        NEW,
    ),
    "BraTS2024-BraTS-GLI-TrainingData/training_data1_v2": (
        "BraTS-GLI-02062-100",
        "-",
        NEW,
    ),
}
TASK01 = "Task01_BrainTumour"
NUMBERS = ("003", "001", "002")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MENDMRI_LOCAL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(project: Path, monkeypatch: pytest.MonkeyPatch):
    data = pack(project / "made.tar", _decathlon()).read_bytes()
    digest = hashlib.md5(data, usedforsecurity=False).hexdigest()
    with quick_server(monkeypatch) as server:
        monkeypatch.setattr(brats, "TASK01_URL", server.serve("/t.tar", data))
        monkeypatch.setattr(brats, "TASK01_SIZE", len(data))
        monkeypatch.setattr(brats, "TASK01_MD5", digest)
        yield server


def _decathlon() -> dict[str, bytes]:
    training = [{"image": f"./imagesTr/BRATS_{n}.nii.gz"} for n in sorted(NUMBERS)]
    files = {
        f"./{TASK01}/dataset.json": json.dumps({"training": training}).encode(),
        f"./{TASK01}/._dataset.json": b"Apple",
        f"{TASK01}/imagesTs/BRATS_485.nii.gz": b"test",
    }
    for number in NUMBERS:
        for kind in ("imagesTr", "labelsTr"):
            name = f"{kind}/BRATS_{number}.nii.gz"
            files[f"{TASK01}/{name}"] = name.encode() * 20
            files[f"{TASK01}/{kind}/._BRATS_{number}.nii.gz"] = b"Apple"
    return files


def _of_task01(*numbers: str) -> list[str]:
    kinds = ("imagesTr", "labelsTr")
    names = [f"{kind}/BRATS_{number}.nii.gz" for kind in kinds for number in numbers]
    return ["dataset.json", *names]


def _fetch(*, task01: bool = False, subjects: int | None = None) -> list[str]:
    fetched = brats.fetch(brats.Params(task01=task01, subjects=subjects), RAW)
    settle(RAW, fetched)
    return sorted(fetched.names)


def _put(*names: str) -> list[str]:
    for name in names:
        path = Path("data/local/brats", name.lstrip("/"))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return sorted("/".join(name.split("/")[-2:]) for name in names)


def test_says_how_to_get_it(project: Path) -> None:
    with pytest.raises(SourceError) as caught:
        _fetch()
    message = str(caught.value)
    for part in (
        "syn25829067 for 2021",
        "syn51156910 for 2023",
        "syn53708249 for 2024",
        "awsaf49/brats20-dataset-training-validation",
        "dschettler8845/brats-2021-task1",
        "put it into data/local/brats/",
        "download.brats.task01 to true",
    ):
        assert part in message
    assert "\n" not in message
    assert not list(project.iterdir())


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("root", CASES)
def test_local_folders_of_every_year(root: str, suffix: str) -> None:
    case, joint, contrasts = CASES[root]
    names = _put(*[f"{root}/{case}/{case}{joint}{c}{suffix}" for c in contrasts])
    _put(f"{root}/survival_info.csv", f"{root}/{case}/{case}{joint}mask{suffix}")
    _put(f"{root}/{case}/._{case}{joint}seg{suffix}", f"{root}/dataset.json")
    assert _fetch() == names
    assert names[0].startswith(f"{case}/{case}{joint}")
    text = (RAW / names[-1]).read_bytes().decode()
    assert text.endswith(names[-1])
    provenance = json.loads((RAW / "provenance.json").read_text())
    assert "For research only" in provenance["licence"]


@pytest.mark.parametrize("folders", [True, False])
def test_local_tar_with_and_without_folders_of_cases(folders: bool) -> None:
    case = "BraTS2021_00495"
    files = {f"{case}/{case}_{c}.nii.gz": c.encode() for c in OLD}
    Path("data/local/brats").mkdir(parents=True)
    inside = {f"./{n if folders else n[16:]}": data for n, data in files.items()}
    pack(Path("data/local/brats/BraTS2021_00495.tar"), inside)
    assert _fetch() == sorted(files)
    assert (RAW / case / f"{case}_t1ce.nii.gz").read_bytes() == b"t1ce"


def test_case_355_of_2020() -> None:
    root = "BraTS2020_TrainingData/MICCAI_BraTS2020_TrainingData"
    stem = f"{root}/BraTS20_Training_355/BraTS20_Training_355"
    images = _put(*[f"{stem}_{c}.nii" for c in OLD[:4]])
    _put(f"{root}/BraTS20_Training_355/W39_1998.09.19_Segm.nii")
    _put(f"{root}/BraTS20_Training_356/W39_1998.09.19_Segm.nii")
    segmentation = "BraTS20_Training_355/BraTS20_Training_355_seg.nii"
    assert _fetch() == sorted([*images, segmentation])
    assert (RAW / segmentation).read_bytes().endswith(b"W39_1998.09.19_Segm.nii")


def test_first_people_with_all_their_times() -> None:
    cases = [f"BraTS-GLI-0000{n}-00{t}" for n, t in ((5, 0), (2, 1), (2, 0), (9, 0))]
    _put(*[f"training/{case}/{case}-t1n.nii.gz" for case in cases])
    assert [name.partition("/")[0] for name in _fetch(subjects=2)] == [
        "BraTS-GLI-00002-000",
        "BraTS-GLI-00002-001",
        "BraTS-GLI-00005-000",
    ]
    assert len(_fetch(subjects=9)) == 4


def test_nothing_of_brats() -> None:
    _put("images/lung_001.nii.gz", "images/sub-1_t1.nii.gz", "x/dataset.json")
    with pytest.raises(SourceError, match=r"nothing that 'brats' takes: .*dataset\.js"):
        _fetch()


@pytest.mark.parametrize("subjects", [None, 2])
@pytest.mark.parametrize("kind", ["tar", "folder"])
def test_local_copy_of_task01(kind: str, subjects: int | None) -> None:
    local = Path("data/local/brats")
    local.mkdir(parents=True)
    if kind == "tar":
        pack(local / "Task01_BrainTumour.tar", _decathlon())
    for name, data in _decathlon().items() if kind == "folder" else ():
        (local / name).parent.mkdir(parents=True, exist_ok=True)
        (local / name).write_bytes(data)
    names = _of_task01(*sorted(NUMBERS)[:subjects])
    assert _fetch(subjects=subjects) == names
    assert (RAW / names[1]).read_bytes() == names[1].encode() * 20
    provenance = json.loads((RAW / "provenance.json").read_text())
    assert provenance["licence"].startswith("CC-BY-SA 4.0")


def test_task01_without_its_description() -> None:
    _put("imagesTr/BRATS_001.nii.gz", "labelsTr/BRATS_001.nii.gz")
    with pytest.raises(
        SourceError, match=r"lacks Task01's dataset\.json, which .*: add it, or"
    ):
        _fetch()
    assert not RAW.exists()


def test_task01_is_loaded_once(server: FileServer) -> None:
    server.fail("/t.tar", Drop(3000))
    assert _fetch(task01=True, subjects=2) == _of_task01("001", "002")
    assert "bytes=3000-" in server.asked()
    assert not ARCHIVE.parent.exists()
    provenance = json.loads((RAW / "provenance.json").read_text())
    assert "Medical Segmentation Decathlon" in provenance["title"]
    asked = len(server.requests)
    assert _fetch(task01=True, subjects=1) == _of_task01("001")
    assert len(server.requests) == asked
    # More than there is, and a file that was damaged.
    assert _fetch(task01=True) == _of_task01("001", "002", "003")
    assert len(server.requests) == asked + 1
    assert _fetch(task01=True, subjects=9) == _of_task01("001", "002", "003")
    assert len(server.requests) == asked + 1
    name = _of_task01("001")[1]
    (RAW / name).write_bytes(b"x" * (RAW / name).stat().st_size)
    assert _fetch(task01=True) == _of_task01("001", "002", "003")
    assert (RAW / name).read_bytes() == name.encode() * 20
    assert len(server.requests) == asked + 2


def test_task01_that_was_loaded_but_not_taken(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(brats, "take_archive", _killed)
        with pytest.raises(KeyboardInterrupt):
            _fetch(task01=True)
    assert ARCHIVE.is_file()
    asked = len(server.requests)
    assert _fetch(task01=True) == _of_task01("001", "002", "003")
    assert len(server.requests) == asked
    assert not ARCHIVE.exists()


def _killed(*_arguments: object) -> None:
    raise KeyboardInterrupt


def test_task01_with_another_md5(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(brats, "TASK01_MD5", "0" * 32)
    with pytest.raises(SourceError, match=r"/t\.tar: md5 is .*, expected 0000"):
        _fetch(task01=True)
    assert len(server.requests) == 1
    assert not RAW.exists()
