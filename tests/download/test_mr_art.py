"""MR-ART: what the manifest names comes out of a bucket or a local copy, verified."""

import hashlib
import json
import random
import re
from collections import Counter
from pathlib import Path

import pytest

from stages.common.params import ParamsError, validate
from stages.download import mr_art
from stages.download.base import SourceError, settle
from tests.download.http_server import Drop, FileServer, quick_server
from tests.download.packing import pack

RAW = Path("data/raw/mr_art")
ALL = ("standard", "headmotion1", "headmotion2")
SUBJECTS = ("sub-000103", "sub-000148", "sub-105822")


def _paths(subject: str, *acquisitions: str) -> list[str]:
    stem = f"{subject}/anat/{subject}_acq"
    return [f"{stem}-{acquisition}_T1w.nii.gz" for acquisition in sorted(acquisitions)]


# The third lacks headmotion1, as one of the data set does.
PATHS = [
    *_paths(SUBJECTS[0], *ALL),
    *_paths(SUBJECTS[1], *ALL),
    *_paths(SUBJECTS[2], "standard", "headmotion2"),
]


def _scan(path: str) -> bytes:
    return random.Random(path).randbytes(3000)


def _scores(subject: str) -> bytes:
    names = [path for path in PATHS if path.startswith(subject)]
    rows = [f"{name.partition('/')[2]}\t{n}" for n, name in enumerate(names, start=1)]
    return "\n".join(["filename\tscore", *rows]).encode()


def _tsv(subject: str) -> str:
    return f"{subject}/{subject}_scans.tsv"


@pytest.fixture(autouse=True)
def manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    lines = ["path\tsize\tmd5\ts3_version_id"]
    for path in reversed(PATHS):
        md5 = hashlib.md5(_scan(path), usedforsecurity=False).hexdigest()
        lines.append(f"{path}\t3000\t{md5}\tv+{path[4:10]}")
    file = tmp_path / "manifest.tsv"
    file.write_text("\n".join(lines) + "\n")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.setattr(mr_art, "MANIFEST", file)
    monkeypatch.setattr(mr_art, "MANIFEST_SHA256", digest)
    monkeypatch.delenv("MENDMRI_LOCAL", raising=False)
    monkeypatch.chdir(tmp_path)
    return file


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch):
    with quick_server(monkeypatch) as server:
        monkeypatch.setattr(mr_art, "BASE", server.url("/ds004173"))
        for path in PATHS:
            server.serve(f"/ds004173/{path}", _scan(path))
        for subject in SUBJECTS:
            server.serve(f"/ds004173/{_tsv(subject)}", _scores(subject))
        yield server


def _fetch(
    subjects: int | None = None,
    acquisitions: tuple[str, ...] = ALL,
    version: str = mr_art.VERSION,
) -> list[str]:
    params = mr_art.Params(
        version=version, subjects=subjects, acquisitions=acquisitions
    )
    fetched = mr_art.fetch(params, RAW)
    settle(RAW, fetched)
    return list(fetched.names)


def test_everything_from_the_bucket_and_only_once(server: FileServer) -> None:
    server.fail(f"/ds004173/{PATHS[0]}", Drop(1000))
    expected = sorted([*PATHS, *map(_tsv, SUBJECTS)])
    assert _fetch() == expected
    for path in PATHS:
        assert (RAW / path).read_bytes() == _scan(path)
    assert (RAW / _tsv(SUBJECTS[2])).read_bytes() == _scores(SUBJECTS[2])
    provenance = json.loads((RAW / "provenance.json").read_text())
    assert provenance["licence"] == "CC0"
    assert "bytes=1000-" in server.asked()
    server.requests.clear()
    (RAW / PATHS[3]).write_bytes(b"x" * 3000)
    assert _fetch() == expected
    assert (RAW / PATHS[3]).read_bytes() == _scan(PATHS[3])
    asked = {request.path.removeprefix("/ds004173/") for request in server.requests}
    assert asked == {PATHS[3], *map(_tsv, SUBJECTS)}


def test_asks_for_the_version_that_the_manifest_names(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    urls = []
    original = mr_art.fetch_file

    def spy(url: str, *args: object, **known: object) -> None:
        urls.append(url)
        original(url, *args, **known)

    monkeypatch.setattr(mr_art, "fetch_file", spy)
    _fetch(1, ("standard",))
    base = server.url("/ds004173")
    assert urls == [
        f"{base}/{_paths(SUBJECTS[0], 'standard')[0]}?versionId=v%2B000103",
        f"{base}/{_tsv(SUBJECTS[0])}",
    ]


@pytest.mark.usefixtures("server")
def test_first_subjects_and_acquisitions() -> None:
    wanted = [
        *_paths(SUBJECTS[0], "headmotion1", "standard"),
        _tsv(SUBJECTS[0]),
        *_paths(SUBJECTS[1], "headmotion1", "standard"),
        _tsv(SUBJECTS[1]),
    ]
    assert _fetch(2, ("standard", "headmotion1")) == wanted
    # Lacking an acquisition is no error, and no reason to leave a person out.
    names = _fetch(None, ("standard", "headmotion1"))
    assert names == [*wanted, *_paths(SUBJECTS[2], "standard"), _tsv(SUBJECTS[2])]


def test_wrong_bytes_and_wrong_scores(server: FileServer) -> None:
    server.serve(f"/ds004173/{PATHS[0]}", b"x" * 3000)
    with pytest.raises(
        SourceError, match=rf"{PATHS[0]}: md5 is .*, expected .*run again"
    ):
        _fetch()
    assert not (RAW / PATHS[0]).exists()
    server.serve(f"/ds004173/{PATHS[0]}", _scan(PATHS[0]))
    server.serve(f"/ds004173/{_tsv(SUBJECTS[0])}", b"<Error>AccessDenied</Error>")
    with pytest.raises(
        SourceError,
        match=r"sub-000103_scans\.tsv: has no row for .*T1w\.nii\.gz: it is",
    ):
        _fetch()
    assert not (RAW / _tsv(SUBJECTS[0])).exists()
    assert (RAW / PATHS[0]).is_file()


def test_version_and_manifest_belong_together(manifest: Path) -> None:
    with pytest.raises(
        SourceError, match=r"'download\.mr_art\.version' = '1\.0\.1': .*is of 1\.0\.2"
    ):
        _fetch(version="1.0.1")
    manifest.write_text(manifest.read_text().replace("3000", "3001"))
    with pytest.raises(
        SourceError, match=r"manifest\.tsv: SHA-256 is [0-9a-f]{64}, expected .*anew"
    ):
        _fetch()


def test_the_shipped_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    scans = mr_art._manifest()
    counts = Counter(mr_art._acquisition(scan) for scan in scans)
    assert counts == {"standard": 148, "headmotion1": 141, "headmotion2": 147}
    assert len({scan.path for scan in scans}) == 436
    assert len({mr_art._subject(scan.path) for scan in scans}) == 148
    assert mr_art.Scan(
        "sub-000103/anat/sub-000103_acq-standard_T1w.nii.gz",
        11_088_525,
        "c05ce930495e12e4b38fcda999986336",
        "_DmHD9jZ.EAIBpqEFbHF7m9fXxDxNZ9y",
    ) in (scans)
    assert all(re.fullmatch("[0-9a-f]{32}", scan.md5) for scan in scans)


def _local(tmp_path: Path, *subjects: str) -> dict[str, bytes]:
    files = {path: _scan(path) for path in PATHS if path.startswith(subjects)}
    files |= {_tsv(subject): _scores(subject) for subject in subjects}
    for name, data in files.items():
        path = tmp_path / "data/local/mr_art/ds004173" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        derived = tmp_path / "data/local/mr_art/ds004173/derivatives/mriqc" / name
        derived.parent.mkdir(parents=True, exist_ok=True)
        derived.write_bytes(b"derived")
    return files


def test_local_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mr_art, "_BLOCK", 1300)  # a scan has 3000 bytes
    files = _local(tmp_path, SUBJECTS[1], SUBJECTS[2])
    assert _fetch() == sorted(files)
    assert all((RAW / name).read_bytes() == data for name, data in files.items())
    assert _fetch(1, ("headmotion1",)) == [
        *_paths(SUBJECTS[1], "headmotion1"),
        _tsv(SUBJECTS[1]),
    ]


def test_local_archive(tmp_path: Path) -> None:
    files = {path: _scan(path) for path in PATHS[:3]}
    files[_tsv(SUBJECTS[0])] = _scores(SUBJECTS[0])
    local = tmp_path / "data/local/mr_art"
    local.mkdir(parents=True)
    pack(local / "ds004173.tar.gz", {f"x/{k}": data for k, data in files.items()})
    assert _fetch() == sorted(files)


def test_local_copy_that_is_not_whole(tmp_path: Path) -> None:
    _local(tmp_path, SUBJECTS[0])
    root = tmp_path / "data/local/mr_art/ds004173"
    (root / PATHS[1]).unlink()
    (root / _tsv(SUBJECTS[0])).unlink()
    with pytest.raises(
        SourceError, match=rf"lacks 2 files of MR-ART, first {PATHS[1]}: add them"
    ):
        _fetch()
    assert not RAW.exists()
    (root / PATHS[1]).write_bytes(b"/annex/objects/MD5E-s3000")
    (root / _tsv(SUBJECTS[0])).write_bytes(_scores(SUBJECTS[0]))
    with pytest.raises(
        SourceError, match=rf"{PATHS[1]} has 25 bytes .* are 3000 and .*datalad get"
    ):
        _fetch()
    assert not (RAW / PATHS[1]).exists()


@pytest.mark.parametrize(
    "wrong", [{"acquisitions": []}, {"acquisitions": ["rest"]}, {"subjects": -1}]
)
def test_parameters(wrong: dict[str, object]) -> None:
    right = {"version": "1.0.2", "subjects": None, "acquisitions": ["standard"]}
    validate(right, "download.mr_art", mr_art.Params)
    key = next(iter(wrong))
    with pytest.raises(ParamsError, match=rf"'download\.mr_art\.{key}"):
        validate({**right, **wrong}, "download.mr_art", mr_art.Params)
