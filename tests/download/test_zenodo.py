"""A record that is locked: what works without the network, and what does not."""

import json
import socket
from pathlib import Path

import pytest

from stages.download import zenodo
from stages.download.base import SourceError
from tests.download.http_server import FileServer, Status, quick_server
from tests.download.m4raw_archives import (
    ARCHIVES,
    RAW,
    RECORD,
    VAL,
    fetch,
    make_zip,
    publish,
    scan,
)

ARCHIVE = "/M4RawV1.5_multicoil_val.zip"
LOCK = RAW / "record.json"


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MENDMRI_LOCAL", raising=False)
    monkeypatch.chdir(tmp_path)
    with quick_server(monkeypatch) as server:
        monkeypatch.setattr(zenodo, "API", server.url("/records"))
        publish(server, {name: make_zip(top) for name, top in ARCHIVES.items()})
        yield server


def _go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    monkeypatch.setattr(zenodo, "API", f"http://127.0.0.1:{port}/records")


def test_offline_with_everything_there(
    server: FileServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    fetch("motion", subjects=2)
    assert fetch("val") == [*VAL, "record.json"]
    lock = LOCK.read_bytes()
    server.requests.clear()
    _go_offline(monkeypatch)
    assert fetch("val") == [*VAL, "record.json"]
    assert LOCK.read_bytes() == lock
    assert (RAW / VAL[8]).read_bytes() == scan(VAL[8])
    (warning,) = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert f"going on with what {LOCK} says of record {RECORD}" in warning
    assert "no answer" in warning
    # Less than what is there needs no network either.
    assert fetch("val", subjects=2) == [*VAL[:6], "record.json"]
    assert server.requests == []


def test_nothing_but_the_record_is_asked_for_again(server: FileServer) -> None:
    fetch("val", "train", subjects=2)
    server.requests.clear()
    assert fetch("val", subjects=1) == [*VAL[:3], "record.json"]
    assert [request.path for request in server.requests] == [f"/records/{RECORD}"]


@pytest.mark.usefixtures("server")
def test_offline_with_something_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    fetch("val", subjects=1)
    _go_offline(monkeypatch)
    asked = rf"/records/{RECORD}/files/M4RawV1\.5_multicoil_%s\.zip/content: no answer"
    for wanted, subjects in (("val", 2), ("val", None), ("train", 1)):
        with pytest.raises(SourceError, match=asked % wanted):
            fetch(wanted, subjects=subjects)
    (RAW / VAL[1]).write_bytes(b"x" * 20_000)
    with pytest.raises(SourceError, match=asked % "val" + r".*run again"):
        fetch("val", subjects=1)
    assert (RAW / VAL[0]).read_bytes() == scan(VAL[0])
    # A lock of before tables of contents were written down.
    (RAW / VAL[1]).write_bytes(scan(VAL[1]))
    assert fetch("val", subjects=1) == [*VAL[:3], "record.json"]
    lock = json.loads(LOCK.read_text())
    assert list(lock.pop("members")) == [ARCHIVE[1:]]
    LOCK.write_text(json.dumps(lock))
    with pytest.raises(SourceError, match=asked % "val"):
        fetch("val", subjects=1)


@pytest.mark.usefixtures("server")
def test_offline_without_a_lock_of_this_record(monkeypatch: pytest.MonkeyPatch) -> None:
    fetch("val", subjects=1)
    _go_offline(monkeypatch)
    with pytest.raises(SourceError, match=rf"/records/{RECORD + 1}: no answer"):
        zenodo.read_record(RECORD + 1, RAW)
    lock = json.loads(LOCK.read_text())
    for files in ([], {"a.zip": {"size": "1", "checksum": "md5:0"}}, {"a.zip": None}):
        LOCK.write_text(json.dumps({**lock, "files": files or 1}))
        with pytest.raises(SourceError, match=r"record\.json cannot be read.*delete"):
            fetch("val", subjects=1)
    LOCK.unlink()
    with pytest.raises(SourceError, match=rf"/records/{RECORD}: no answer"):
        fetch("val", subjects=1)
    assert not LOCK.exists()


def test_archives_are_had_while_the_record_is_not(server: FileServer) -> None:
    fetch("val", subjects=1)
    (RAW / VAL[1]).write_bytes(b"x" * 20_000)
    path = f"/records/{RECORD}"
    server.serve(f"{path}/files{ARCHIVE}/content", server.files.pop(ARCHIVE)[0])
    server.fail(path, *[Status(503)] * 6)
    assert fetch("val", subjects=2) == [*VAL[:6], "record.json"]
    assert (RAW / VAL[1]).read_bytes() == scan(VAL[1])


def test_what_is_in_an_archive_is_locked_when_all_of_it_is_there(
    server: FileServer,
) -> None:
    data = bytearray(server.files[ARCHIVE][0])
    data[data.index(scan(VAL[0]))] ^= 1
    publish(server, {ARCHIVE[1:]: bytes(data)})
    with pytest.raises(SourceError, match="Bad CRC-32"):
        fetch("val", subjects=1)
    assert zenodo.read_members(RAW, ARCHIVE[1:]) is None
    LOCK.unlink()
    publish(server, {ARCHIVE[1:]: make_zip("multicoil_val/")})
    fetch("val", subjects=1)
    members = zenodo.read_members(RAW, ARCHIVE[1:])
    assert members is not None
    assert members[VAL[4]].size == 20_000
    assert len(members) == 10
