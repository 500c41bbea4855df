"""M4Raw out of Zenodo's archives: parts of them, whole ones, and what can go wrong."""

import io
import json
import shutil
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from stages.download import m4raw, moving, zenodo
from stages.download.base import SourceError
from tests.download.http_server import Drop, FileServer, quick_server
from tests.download.m4raw_archives import (
    ARCHIVES,
    CONTRASTS,
    RAW,
    RECORD,
    SUBJECTS,
    VAL,
    fetch,
    make_zip,
    publish,
    scan,
)

ARCHIVE = "/M4RawV1.5_multicoil_val.zip"
SCRATCH = Path(".scratch/download/m4raw")


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MENDMRI_LOCAL", raising=False)
    monkeypatch.chdir(tmp_path)
    with quick_server(monkeypatch) as server:
        monkeypatch.setattr(zenodo, "API", server.url("/records"))
        publish(server, {name: make_zip(top) for name, top in ARCHIVES.items()})
        yield server


def test_first_subjects_without_the_rest(server: FileServer) -> None:
    names = fetch("val", "motion", subjects=1)
    motion = [f"motion/inter-scan_motion/2022061001_{c}.h5" for c in CONTRASTS]
    assert names == [*motion, *VAL[:3], "record.json"]
    assert (RAW / VAL[1]).read_bytes() == scan(VAL[1])
    provenance = json.loads((RAW / "provenance.json").read_text())
    assert provenance["licence"] == "CC-BY-4.0"
    assert provenance["version"] == "Zenodo record 8056074"
    assert {request.path for request in server.requests} == {
        f"/records/{RECORD}",
        "/M4RawV1.5_multicoil_val.zip",
        "/M4RawV1.5_motion.zip",
    }
    sent = server.sent
    assert fetch("val", subjects=2) == [*VAL[:6], "record.json"]
    # The three that are there already are not sent again.
    assert server.sent - sent < 3 * 20_000 + 2**16 + 5000


def test_a_run_that_was_killed_and_one_that_was_not(server: FileServer) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(m4raw, "take_archive", _killed)
        with pytest.raises(KeyboardInterrupt):
            fetch("val")
    assert (SCRATCH / "M4RawV1.5_multicoil_val.zip").is_file()
    whole, sent = len(server.files[ARCHIVE][0]), server.sent
    assert fetch("val") == [*VAL, "record.json"]
    assert (RAW / VAL[8]).read_bytes() == scan(VAL[8])
    assert not SCRATCH.exists()
    # The archive is there already; only its table of contents is sent again, and later
    # a member that was damaged.
    assert server.sent - sent < 2**16 + 5000 < whole
    sent = server.sent
    (RAW / VAL[4]).write_bytes(b"x" * 20_000)
    assert fetch("val") == [*VAL, "record.json"]
    assert (RAW / VAL[4]).read_bytes() == scan(VAL[4])
    assert server.sent - sent < 20_000 + 2**16 + 5000 < whole


def _killed(*_arguments: object) -> None:
    raise KeyboardInterrupt


def test_whole_archive_resumes_where_it_dropped(server: FileServer) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("stages.download.parts.TRIES", 1)
        patch.setattr(m4raw, "remote_zip", _then(server, ARCHIVE, Drop(50_000)))
        with pytest.raises(SourceError, match=r"connection dropped .*run again to go"):
            fetch("val")
    part = SCRATCH / ".M4RawV1.5_multicoil_val.zip.part"
    assert part.stat().st_size == 50_000
    assert not (RAW / "multicoil_val").exists()
    assert (RAW / "record.json").is_file()
    assert fetch("val") == [*VAL, "record.json"]
    assert "bytes=50000-" in server.asked()


def _then(server: FileServer, path: str, fault: Drop):
    """Let what follows the table of contents fail."""
    original = m4raw.remote_zip

    class Remote:
        def __init__(self, url: str) -> None:
            self.inner = original(url)

        def __enter__(self):
            return self.inner.__enter__()

        def __exit__(self, *details: object):
            server.fail(path, fault)
            return self.inner.__exit__(*details)

    return Remote


def test_archive_with_another_md5_is_refused(server: FileServer) -> None:
    record = json.loads(server.files[f"/records/{RECORD}"][0])
    record["files"][1]["checksum"] = f"md5:{'0' * 32}"
    server.serve(f"/records/{RECORD}", json.dumps(record).encode())
    with pytest.raises(SourceError, match=r"multicoil_val\.zip: md5 is .*expected 000"):
        fetch("val")
    assert not (RAW / "multicoil_val").exists()
    record["files"][1]["size"] += 1
    (RAW / "record.json").unlink()
    server.serve(f"/records/{RECORD}", json.dumps(record).encode())
    with pytest.raises(SourceError, match=r"val\.zip: has \d+ bytes, its record says"):
        fetch("val", subjects=1)


def test_needs_room_before_the_archive_is_loaded(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=moving.MARGIN + 9 * 20_000 - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(SourceError, match=r"m4raw: 180\.0 kB are needed .*make room"):
        fetch("val")
    assert not SCRATCH.exists()
    assert server.sent < 2**16 + 5000


def test_record_that_changed_is_refused_until_accepted(server: FileServer) -> None:
    fetch("val", subjects=1)
    lock = json.loads((RAW / "record.json").read_text())
    assert lock["record"] == RECORD
    assert set(lock["files"]) == set(ARCHIVES)
    changed = {name: make_zip(top) for name, top in ARCHIVES.items()}
    changed["M4RawV1.5_multicoil_val.zip"] += b"more"
    publish(server, changed)
    with pytest.raises(
        SourceError,
        match=r"8056074 has changed .*\(M4RawV1\.5_multicoil_val\.zip\).*delete "
        r"data/raw/m4raw/record\.json and run again",
    ):
        fetch("train", subjects=1)
    (RAW / "record.json").write_text("{")
    with pytest.raises(SourceError, match=r"record\.json cannot be read: .*delete it"):
        fetch("val", subjects=1)
    (RAW / "record.json").unlink()
    assert fetch("train", subjects=1)[0] == "multicoil_train/2022061001_FLAIR01.h5"


def test_other_versions_name_their_archives_otherwise(server: FileServer) -> None:
    archives = {
        "M4RawV1.1_multicoil_train.zip": make_zip("multicoil_train/", "notes.h5"),
        "M4Raw_multicoil_test.zip": make_zip("M4Raw/"),
        "gre_data.zip": make_zip("gre_data/"),
        "README.pdf": b"%PDF",
    }
    publish(server, archives)
    names = fetch("train", "test", "gre", subjects=1)
    assert [name.partition("/")[0] for name in names[::3]] == [
        "gre_data",
        "multicoil_test",
        "multicoil_train",
        "record.json",
    ]
    skipped = json.loads((RAW / "provenance.json").read_text())["skipped"]
    assert [entry["name"] for entry in skipped] == ["multicoil_train/notes.h5"]
    with pytest.raises(
        SourceError,
        match=r"8056074 has no archives of the set 'motion'; its files: .*README\.pdf.*"
        r"download\.m4raw\.sets, or .*put it into data/local/m4raw/",
    ):
        fetch("train", "motion", subjects=1)
    publish(server, {**archives, "M4Raw_train_more.zip": make_zip("multicoil_train/")})
    (RAW / "record.json").unlink()
    with pytest.raises(SourceError, match="has 2 archives of the set 'train'"):
        fetch("train")


def test_strange_records(server: FileServer) -> None:
    publish(server, {}, id=9999999)
    with pytest.raises(SourceError, match=r"leads to record 9999999.*name record 999"):
        fetch("val")
    for body in (b'{"id": 1}', b"[]", b'{"files": [{"key": "a", "size": "1"}]}'):
        server.serve(f"/records/{RECORD}", body)
        with pytest.raises(
            SourceError, match=r"list of files cannot be read .*by hand"
        ):
            fetch("val")
    publish(server, {"x_val.zip": make_zip("multicoil_train/")})
    with pytest.raises(SourceError, match=r"x_val\.zip: holds no scans of the set 'v"):
        fetch("val")


def test_a_record_without_links(server: FileServer) -> None:
    path = f"/records/{RECORD}"
    record = json.loads(server.files[path][0])
    for file in record["files"]:
        del file["links"]
    server.serve(path, json.dumps(record).encode())
    server.serve(f"{path}/files{ARCHIVE}/content", server.files.pop(ARCHIVE)[0])
    assert fetch("val", subjects=1) == [*VAL[:3], "record.json"]


@pytest.mark.usefixtures("server")
def test_one_archive_at_a_time_takes_up_room(monkeypatch: pytest.MonkeyPatch) -> None:
    there = []
    original = m4raw.take_archive

    def spy(*arguments: Any) -> list[str]:
        there.append([path.name for path in SCRATCH.iterdir()])
        return original(*arguments)

    monkeypatch.setattr(m4raw, "take_archive", spy)
    fetch("val", "train")
    assert there == [[ARCHIVE[1:]], ["M4RawV1.5_multicoil_train.zip"]]


def test_gradient_echoes_are_of_the_people_who_were_chosen(server: FileServer) -> None:
    """GRE lists everybody, in an order of its own: its first need not be theirs."""
    later = {name: make_zip(top) for name, top in ARCHIVES.items()}
    folder = "gre_data/"
    gre = io.BytesIO()
    with zipfile.ZipFile(gre, "w", zipfile.ZIP_STORED) as archive:
        for subject in ("2022050101", *SUBJECTS):
            archive.writestr(f"{folder}{subject}_GRE01.h5", scan(subject))
    publish(server, later | {"M4RawV1.5_gre_data.zip": gre.getvalue()})
    names = fetch("gre", "val", subjects=2)
    assert [name for name in names if name.startswith(folder)] == [
        f"{folder}{subject}_GRE01.h5" for subject in SUBJECTS[:2]
    ]
    alone = fetch("gre", subjects=1)
    assert alone == [f"{folder}2022050101_GRE01.h5", "record.json"]
