"""Servers that are busy, gone or strange; disks that are full."""

import io
import logging
import random
import shutil
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from types import SimpleNamespace

import pytest

from stages.download import moving, session
from stages.download.base import SourceError
from stages.download.transfer import fetch_file, fetch_json, require_room
from tests.download.http_server import (
    Drop,
    FileServer,
    Length,
    Redirect,
    Status,
    quick_server,
)

DATA = random.Random(0).randbytes(100_000)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with quick_server(monkeypatch) as server:
        yield server


@pytest.mark.parametrize("code", [429, 500, 502, 503, 504])
def test_asks_again(server: FileServer, tmp_path: Path, code: int) -> None:
    url = server.serve("/a", DATA)
    server.fail("/a", Status(code), Status(code))
    fetch_file(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA
    assert len(server.requests) == 3


def test_waits_as_long_as_it_is_asked_to(
    server: FileServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    url = server.serve("/a", DATA)
    later = formatdate(time.time() + 30, usegmt=True)
    server.fail("/a", Status(429, "7"), Status(429, later), Status(503, "99999999"))
    with caplog.at_level(logging.INFO, "mendmri"):
        fetch_file(url, tmp_path / "a")
    waits = [wait for wait in waits if wait > 1]
    assert waits[0] == 7
    assert waits[1] == pytest.approx(30, abs=2)
    assert waits[2:] == [900]
    assert "the server asks to wait 7 s (429)" in caplog.text


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (403, "403 Forbidden: it needs a login or the link has expired"),
        (404, "404 Not Found: it has moved: look for it on the publisher's page"),
        (503, "503 Service Unavailable: 6 tries: run again later"),
        (418, "418 .*: run again later"),
    ],
)
def test_names_status_and_remedy(
    server: FileServer, tmp_path: Path, code: int, remedy: str
) -> None:
    url = server.serve("/a", DATA)
    server.fail("/a", *[Status(code)] * 6)
    with pytest.raises(SourceError, match=f"{url}: status {remedy}.*by hand.*data/loc"):
        fetch_file(f"{url}?Signature=secret", tmp_path / "a")
    assert len(server.requests) == (6 if code == 503 else 1)
    assert list(tmp_path.iterdir()) == []


def test_no_secret_of_a_url_is_told(server: FileServer, tmp_path: Path) -> None:
    url = server.url("/gone?Signature=secret").replace("//", "//me:secret@")
    with pytest.raises(SourceError, match="404") as caught:
        fetch_file(url, tmp_path / "a")
    assert "secret" not in str(caught.value)
    data = server.serve("/a", DATA)
    server.fail("/a", *[Drop(10)] * 6)
    with pytest.raises(SourceError, match="dropped"):
        fetch_file(f"{data}?Signature=secret", tmp_path / "a")
    assert "secret" not in (tmp_path / ".a.part.json").read_text()


@pytest.mark.usefixtures("server")
def test_nobody_answers(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with FileServer() as gone:
        url = gone.url("/a")
    with (
        caplog.at_level(logging.INFO),
        pytest.raises(
            SourceError, match=rf"{url}: no answer \([^<>]*refused\): check the network"
        ),
    ):
        fetch_file(f"{url}?secret", tmp_path / "a")
    assert "no answer: trying again, 5 tries left" in caplog.text
    assert "secret" not in caplog.text


@pytest.mark.parametrize("url", ["file:///etc/hostname", "ftp://host/a", "a.zip"])
def test_only_http(tmp_path: Path, url: str) -> None:
    with pytest.raises(SourceError, match=f"{url}: .* not a scheme: use https"):
        fetch_file(url, tmp_path / "a")
    with pytest.raises(SourceError, match="use https or http"):
        fetch_json(url)


def test_follows_redirects_but_not_to_files(server: FileServer, tmp_path: Path) -> None:
    server.serve("/b", DATA)
    server.fail("/a", Redirect("/b"), Redirect("file:///etc/hostname"))
    fetch_file(server.url("/a"), tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA
    with pytest.raises(SourceError, match=r"no answer.*file:///etc/hostname"):
        fetch_file(server.url("/a"), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_https_stays_https(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = SimpleNamespace(url="http://host/a", close=lambda: None)
    client = SimpleNamespace(get=lambda *_args, **_more: answer)
    monkeypatch.setattr(session, "session", lambda: client)
    with pytest.raises(SourceError, match=r"https leads to http://host/a without encr"):
        fetch_file("https://host/a", tmp_path / "a")


def test_another_size_is_noticed_before_a_byte_comes(
    server: FileServer, tmp_path: Path
) -> None:
    url = server.serve("/a", DATA)
    with pytest.raises(
        SourceError, match=f"{url}: has 100000 bytes, expected 7:.*page"
    ):
        fetch_file(url, tmp_path / "a", size=7)
    assert list(tmp_path.iterdir()) == []


def test_the_stated_length_is_held_to(server: FileServer, tmp_path: Path) -> None:
    url = server.serve("/a", DATA)
    server.fail("/a", Length(len(DATA) + 5))
    with pytest.raises(SourceError, match=r"dropped 6 times|has 100000 bytes"):
        fetch_file(url, tmp_path / "a", size=len(DATA) + 5)
    assert not (tmp_path / "a").exists()


def test_an_answer_without_length_needs_a_checksum(
    server: FileServer, tmp_path: Path
) -> None:
    url = server.serve("/a", DATA)
    server.fail("/a", Length(None), Length(None))
    with pytest.raises(SourceError, match=r"/a: .*not say how long.*give a checksum"):
        fetch_file(url, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []
    fetch_file(url, tmp_path / "a", size=len(DATA))
    assert (tmp_path / "a").read_bytes() == DATA


@pytest.mark.parametrize(
    "checksum", ["md5:123", "crc:0", "d41d8cd98f00b204", "md5:" + "g" * 32]
)
def test_a_misspelt_checksum_is_an_error(tmp_path: Path, checksum: str) -> None:
    with pytest.raises(SourceError, match=f"'{checksum}' is no checksum: write md5:"):
        fetch_file("http://127.0.0.1:1/a", tmp_path / "a", checksum=checksum)


def test_json(server: FileServer) -> None:
    url = server.serve("/j", '{"a": [1, "é"]}'.encode())
    server.fail("/j", Status(503), Drop(3))
    assert fetch_json(url) == {"a": [1, "é"]}
    with pytest.raises(SourceError, match="/k: status 404 Not Found"):
        fetch_json(server.url("/k"))
    server.serve("/j", b"<html>")
    with pytest.raises(SourceError, match=r"/j: status 200, but no JSON.*by hand"):
        fetch_json(url)
    server.fail("/j", *[Drop(3)] * 6)
    with pytest.raises(SourceError, match="/j: the connection dropped 6 times"):
        fetch_json(url)


def test_needs_room(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = SimpleNamespace(free=moving.MARGIN + 50_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    require_room(tmp_path / "not" / "yet", 50_000)
    with pytest.raises(
        SourceError,
        match=r"yet: 50\.0 kB are needed .*spare\), 268\.5 MB are free: make",
    ):
        require_room(tmp_path / "not" / "yet", 50_001)
    url = server.serve("/a", DATA)
    with pytest.raises(SourceError, match=r"100\.0 kB are needed"):
        fetch_file(url, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    server.fail("/a", *[Drop(60_000)] * 2)
    usage.free += 50_000
    fetch_file(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == DATA


def test_progress_in_a_log(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    clock = iter([0.0, 5.0, 20.0, 25.0])
    monkeypatch.setattr(
        moving, "time", SimpleNamespace(perf_counter=lambda: next(clock))
    )
    with (
        caplog.at_level(logging.INFO, "mendmri"),
        moving.byte_progress("brain.zip", total=12_000_000, done=2_000_000) as advance,
    ):
        advance(1_000_000)
        advance(3_000_000)
        advance(1)
    assert caplog.messages == ["brain.zip: 6.0 MB of 12.0 MB, 200.0 kB/s, 30 s left"]


def test_progress_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with moving.byte_progress("brain.zip", total=12_000_000, done=2_000_000) as advance:
        advance(9_000_000)
        advance(-1_000_000)
        advance(2_000_000)
    assert "brain.zip: 100%" in terminal.getvalue()
    assert "12.0M/12.0M" in terminal.getvalue()
