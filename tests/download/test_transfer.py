"""Files come whole and verified over connections that drop, stall and change."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path

import pytest

from stages.download import transfer
from stages.download.base import SourceError
from stages.download.transfer import fetch_file
from tests.download.http_server import Change, Drop, FileServer, Stall, quick_server

ROOT = Path(__file__).resolve().parents[2]
DATA = random.Random(0).randbytes(3_000_000)
OTHER = random.Random(1).randbytes(3_000_000)
MD5 = "md5:" + hashlib.md5(DATA, usedforsecurity=False).hexdigest()
SHA256 = "sha256:" + hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with quick_server(monkeypatch) as server:
        yield server


def _nothing_else(folder: Path, *names: str) -> bool:
    return sorted(path.name for path in folder.iterdir()) == sorted(names)


def test_brings_a_file_and_keeps_it(server: FileServer, tmp_path: Path) -> None:
    url = server.serve("/a%20b.bin", DATA)
    path = tmp_path / "deep" / "a b.bin"
    fetch_file(url, path, size=len(DATA), checksum=SHA256)
    fetch_file(url, path, checksum="md5:" + MD5[4:].upper())
    assert path.read_bytes() == DATA
    assert _nothing_else(path.parent, "a b.bin")
    (request,) = server.requests
    assert (request.agent, request.encoding) == ("MendMRI", "identity")


def test_replaces_what_does_not_verify(server: FileServer, tmp_path: Path) -> None:
    url = server.serve("/a", DATA)
    path = tmp_path / "a"
    path.write_bytes(OTHER)
    fetch_file(url, path, checksum=MD5)
    assert path.read_bytes() == DATA


def test_without_anything_known_the_length_decides(
    server: FileServer, tmp_path: Path
) -> None:
    url = server.serve("/a", DATA)
    path = tmp_path / "a"
    path.write_bytes(OTHER)
    fetch_file(url, path)
    assert path.read_bytes() == OTHER
    path.write_bytes(OTHER[:-1])
    fetch_file(url, path)
    assert path.read_bytes() == DATA


def test_goes_on_after_dropped_connections(server: FileServer, tmp_path: Path) -> None:
    url = server.serve("/a", DATA)
    server.fail("/a", Drop(1_000_000), Drop(0), Drop(1_500_000))
    fetch_file(url, tmp_path / "a", checksum=SHA256)
    assert (tmp_path / "a").read_bytes() == DATA
    assert server.asked() == [
        None,
        "bytes=1000000-",
        "bytes=1000000-",
        "bytes=2500000-",
    ]
    assert {request.if_range for request in server.requests[1:]} == {'"1"'}
    assert server.sent == len(DATA)


def test_gives_up_after_some_tries(server: FileServer, tmp_path: Path) -> None:
    url = server.serve("/a", DATA)
    server.fail("/a", *[Drop(10)] * 20)
    with pytest.raises(SourceError, match=r"/a: the connection dropped 6 times.*again"):
        fetch_file(url, tmp_path / "a", size=len(DATA))
    assert len(server.requests) == 6
    # What came is kept for the next run.
    assert (tmp_path / ".a.part").stat().st_size == 60


def test_progress_earns_more_tries(server: FileServer, tmp_path: Path) -> None:
    data = DATA * 4
    url = server.serve("/a", data)
    server.fail("/a", *[Drop(2**20)] * 10)
    fetch_file(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == data


def test_goes_on_after_a_killed_process(server: FileServer, tmp_path: Path) -> None:
    url = server.serve("/a", DATA)
    server.fail("/a", Stall(2_000_000))
    code = (
        "import sys; from pathlib import Path\n"
        "from stages.download.transfer import fetch_file\n"
        "fetch_file(sys.argv[1], Path(sys.argv[2]), checksum=sys.argv[3])\n"
    )
    command = [sys.executable, "-c", code, url, str(tmp_path / "a"), SHA256]
    part = tmp_path / ".a.part"
    with subprocess.Popen(command, cwd=ROOT) as process:
        limit = time.monotonic() + 30
        while not (part.exists() and part.stat().st_size >= 1_500_000):
            assert time.monotonic() < limit
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
    assert not (tmp_path / "a").exists()
    there = part.stat().st_size
    subprocess.run(command, cwd=ROOT, check=True, timeout=60)
    assert server.asked() == [None, f"bytes={there}-"]
    assert (tmp_path / "a").read_bytes() == DATA
    assert _nothing_else(tmp_path, "a")


def test_a_whole_part_needs_no_request(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that ended between the last byte and the naming."""
    url = server.serve("/a", DATA)

    def interrupt(*_arguments: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(transfer, "_difference", interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch_file(url, tmp_path / "a")
    assert not (tmp_path / "a").exists()
    fetch_file(url, tmp_path / "a")
    assert server.asked() == [None]
    assert (tmp_path / "a").read_bytes() == DATA
    assert _nothing_else(tmp_path, "a")


@pytest.mark.parametrize("validator", ["etag", "date"])
def test_a_changed_file_starts_over(
    server: FileServer, tmp_path: Path, validator: str
) -> None:
    date = formatdate(1e9, usegmt=True)
    named = {"etag": None, "Last_Modified": date} if validator == "date" else {}
    url = server.serve("/a", DATA, **named)
    server.fail("/a", Drop(1_000_000), Change(OTHER, '"2"'))
    fetch_file(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == OTHER
    assert server.requests[1].if_range == (date if validator == "date" else '"1"')


def test_a_changed_part_starts_over_too(server: FileServer, tmp_path: Path) -> None:
    server.heeds_if_range = False
    url = server.serve("/a", DATA)
    server.fail("/a", Drop(1_000_000), Change(OTHER, '"2"'))
    fetch_file(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == OTHER
    assert server.asked() == [None, "bytes=1000000-", None]


def test_a_file_that_has_become_shorter(server: FileServer, tmp_path: Path) -> None:
    short = DATA[:500_000]
    url = server.serve("/a", OTHER, etag=None)
    server.fail("/a", Drop(1_000_000), Change(short, None))
    checksum = "sha256:" + hashlib.sha256(short).hexdigest()
    fetch_file(url, tmp_path / "a", checksum=checksum)
    assert (tmp_path / "a").read_bytes() == short
    assert server.asked() == [None, "bytes=1000000-", None]


def test_bytes_come_as_they_are_stored(server: FileServer, tmp_path: Path) -> None:
    url = server.serve("/a.nii.gz", DATA, Content_Encoding="gzip")
    fetch_file(url, tmp_path / "a.nii.gz", size=len(DATA), checksum=MD5)
    assert (tmp_path / "a.nii.gz").read_bytes() == DATA


def test_a_weak_etag_is_no_validator(server: FileServer, tmp_path: Path) -> None:
    url = server.serve("/a", DATA, etag='W/"1"')
    server.fail("/a", Drop(1_000_000), Change(OTHER, 'W/"1"'))
    fetch_file(url, tmp_path / "a")
    assert (tmp_path / "a").read_bytes() == OTHER
    assert server.asked() == [None, None]


def test_two_versions_put_together_are_found_out(
    server: FileServer, tmp_path: Path
) -> None:
    url = server.serve("/a", OTHER, etag=None)
    server.fail("/a", Drop(1_000_000), Change(DATA, None))
    fetch_file(url, tmp_path / "a", checksum=SHA256)
    assert (tmp_path / "a").read_bytes() == DATA
    assert server.asked() == [None, "bytes=1000000-", None]


@pytest.mark.parametrize("change", ["url", "size", "checksum"])
def test_another_file_is_not_continued(
    server: FileServer, tmp_path: Path, change: str
) -> None:
    server.serve("/b", OTHER)
    url = server.serve("/a", DATA)
    server.fail("/a", *[Drop(100)] * 6)
    with pytest.raises(SourceError, match="dropped"):
        fetch_file(url, tmp_path / "a", size=len(DATA))
    server.requests.clear()
    if change == "url":
        fetch_file(server.url("/b"), tmp_path / "a", size=len(DATA))
    elif change == "size":
        fetch_file(url, tmp_path / "a")
    else:
        fetch_file(url, tmp_path / "a", size=len(DATA), checksum=MD5)
    assert server.asked() == [None]
    expected = OTHER if change == "url" else DATA
    assert (tmp_path / "a").read_bytes() == expected


def test_without_ranges_it_starts_over(server: FileServer, tmp_path: Path) -> None:
    server.ranges = False
    url = server.serve("/a", DATA)
    server.fail("/a", Drop(1_000_000))
    fetch_file(url, tmp_path / "a", checksum=MD5)
    assert (tmp_path / "a").read_bytes() == DATA


@pytest.mark.parametrize("checksum", [MD5, SHA256])
def test_a_wrong_checksum_leaves_nothing(
    server: FileServer, tmp_path: Path, checksum: str
) -> None:
    url = server.serve("/a", OTHER)
    found = hashlib.new(checksum.partition(":")[0], OTHER).hexdigest()
    expected = checksum.partition(":")[2]
    with pytest.raises(
        SourceError, match=f"/a: .* is {found}, expected {expected}: .*run again"
    ):
        fetch_file(url, tmp_path / "a", checksum=checksum)
    assert list(tmp_path.iterdir()) == []
    assert len(server.requests) == 1
