"""fastMRI and Calgary-Campinas, which nobody can download but by hand."""

import subprocess
import sys
from pathlib import Path

import pytest

from stages.common.params import ParamsError, validate
from stages.download import calgary_campinas, fastmri
from stages.download.base import SourceError, settle
from tests.download.packing import pack

SUBSETS = ("multicoil_train", "multicoil_val")
KNEES = [f"multicoil_train/file100000{n}.h5" for n in range(3)]
BRAIN = "multicoil_val/file_brain_AXT2_200_2000057.h5"


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MENDMRI_LOCAL", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _put(source: str, *names: str) -> None:
    for name in names:
        path = Path("data/local", source, name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(Path(name).name.encode())


def _knees(volumes: int | None = None, subsets: tuple[str, ...] = SUBSETS) -> list[str]:
    folder = Path("data/raw/fastmri")
    fetched = fastmri.fetch(fastmri.Params(subsets=subsets, volumes=volumes), folder)
    settle(folder, fetched)
    for name in fetched.names:
        assert (folder / name).read_bytes() == Path(name).name.encode()
    return list(fetched.names)


def _campinas(volumes: int | None = None) -> list[str]:
    folder = Path("data/raw/calgary_campinas")
    fetched = calgary_campinas.fetch(calgary_campinas.Params(volumes=volumes), folder)
    settle(folder, fetched)
    return list(fetched.names)


def test_says_how_to_get_them(project: Path) -> None:
    with pytest.raises(
        SourceError,
        match=r"fastMRI cannot .*https://fastmri\.med\.nyu\.edu, .*90 days.*"
        r"put it into data/local/fastmri/",
    ):
        _knees()
    with pytest.raises(
        SourceError,
        match=r"Calgary-Campinas cannot .*train_val_12_channel\.zip.*"
        r"put it into data/local/calgary_campinas/",
    ):
        _campinas()
    assert not list(project.iterdir())


@pytest.mark.parametrize(
    "around",
    ["", "knee/", "brain_multicoil_train_batch_0/", "multicoil_test/batch/"],
)
def test_fastmri_in_whatever_folders(around: str) -> None:
    _put("fastmri", *[f"{around}{name}" for name in (*KNEES, BRAIN)])
    _put("fastmri", f"{around}multicoil_train/notes.txt", "file1.h5")
    _put("fastmri", f"{around}multicoil_train/._file1000000.h5")
    assert _knees() == [*KNEES, BRAIN]
    assert _knees(2) == [*KNEES[:2], BRAIN]
    assert _knees(2, ("multicoil_val",)) == [BRAIN]


def test_fastmri_in_archives_and_batches() -> None:
    _put("fastmri", f"x/brain_{KNEES[0]}")
    for number, name in enumerate((KNEES[2], KNEES[1])):
        folder = f"brain_multicoil_train_batch_{number}"
        inside = name if number else name.partition("/")[2]
        data = Path(name).name.encode()
        archive = Path(f"data/local/fastmri/{folder}.tar.xz")
        pack(archive, {f"{folder}/{inside}": data})
    pack(Path("data/local/fastmri/val.tar"), {f"./{BRAIN}": Path(BRAIN).name.encode()})
    assert _knees() == [*KNEES, BRAIN]
    assert _knees(1) == [KNEES[0], BRAIN]


def test_fastmri_without_a_subset() -> None:
    _put("fastmri", *KNEES, BRAIN)
    with pytest.raises(
        SourceError,
        match=r"local/fastmri: holds no singlecoil_val/\*\.h5, but multicoil_val: add "
        r"it, or take 'singlecoil_val' out of download\.fastmri\.subsets",
    ):
        _knees(subsets=("multicoil_val", "singlecoil_val"))
    assert not Path("data/raw").exists()
    with pytest.raises(
        SourceError, match=r"nothing that 'fastmri' takes: .*singlecoil_val; found 'mul"
    ):
        _knees(subsets=("singlecoil_val",))


@pytest.mark.parametrize(
    ("source", "wrong"),
    [
        (fastmri, {"subsets": []}),
        (fastmri, {"subsets": ["../multicoil_train"]}),
        (fastmri, {"volumes": 0}),
        (calgary_campinas, {"volumes": 0}),
    ],
)
def test_parameters(source, wrong: dict[str, object]) -> None:
    right = {"subsets": list(SUBSETS), "volumes": None}
    right = {key: right[key] for key in source.Params.model_fields}
    validate(right, "download.x", source.Params)
    key = next(iter(wrong))
    with pytest.raises(ParamsError, match=rf"'download\.x\.{key}"):
        validate({**right, **wrong}, "download.x", source.Params)


SCANS = [
    "Test-R=5/e15791s3_P01536.7.h5",
    "Train/e14089s3_P53248.7.h5",
    "Train/e14090s3_P53249.7.h5",
    "Val/e14091s3_P53250.7.h5",
]


@pytest.mark.parametrize("around", ["", "train_val_12_channel/", "zip"])
def test_calgary_campinas(around: str) -> None:
    if around == "zip":
        Path("data/local/calgary_campinas").mkdir(parents=True)
        archive = Path("data/local/calgary_campinas/train_val_12_channel.zip")
        pack(archive, {f"train_val_12_channel/{name}": b"h5" for name in SCANS})
    else:
        _put("calgary_campinas", *[f"{around}{name}" for name in SCANS])
        _put("calgary_campinas", f"{around}loose.h5", f"{around}Train/notes.txt")
    assert _campinas() == SCANS
    assert _campinas(1) == [SCANS[0], SCANS[1], SCANS[3]]


def test_calgary_campinas_without_a_split() -> None:
    _put("calgary_campinas", "train_val_12_channel/e14089s3_P53248.7.h5")
    with pytest.raises(
        SourceError,
        match=r"nothing that 'calgary_campinas' takes: expected `Train/<file>\.h5`",
    ):
        _campinas()


def test_sources_start_fast() -> None:
    names = "brats, calgary_campinas, exbox1, fastmri, m4raw, mr_art"
    code = (
        f"import sys\nfrom stages.download import {names}\n"
        "slow = {'requests', 'remotezip', 'torch', 'nibabel', 'tqdm'}\n"
        "print(sorted(slow & set(sys.modules)))\n"
    )
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", code]
    found = subprocess.run(
        command, cwd=root, check=True, capture_output=True, text=True
    )
    assert found.stdout == "[]\n"
