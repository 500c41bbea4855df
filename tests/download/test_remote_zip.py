"""Members of a zip on a server, without the rest of it."""

import io
import random
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from stages.download.archives import take_members
from stages.download.base import SourceError
from stages.download.transfer import remote_zip
from tests.download.http_server import (
    Change,
    Drop,
    FileServer,
    Status,
    quick_server,
)

SIZE = 300_000
NAMES = [f"multicoil_val/20220612{n:02d}_T101.h5" for n in range(10)]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    with quick_server(monkeypatch) as server:
        yield server


def _member(name: str) -> bytes:
    return random.Random(name).randbytes(SIZE)


def _archive(compression: int = zipfile.ZIP_STORED, *, zip64: bool = False) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name in NAMES:
            with archive.open(name, "w", force_zip64=zip64) as file:
                file.write(_member(name))
    return buffer.getvalue()


def _third(name: str) -> str | None:
    return name.rpartition("/")[2] if name == NAMES[3] else None


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("zip64", [False, True])
def test_only_what_is_wanted_is_sent(
    server: FileServer, tmp_path: Path, compression: int, zip64: bool
) -> None:
    url = server.serve("/v.zip", _archive(compression, zip64=zip64))
    with remote_zip(url) as archive:
        assert archive.namelist() == NAMES
        names = take_members(archive, tmp_path, _third, desc="v.zip")
    assert names == ["2022061203_T101.h5"]
    assert (tmp_path / names[0]).read_bytes() == _member(NAMES[3])
    # The table of contents is in the last 64 kB.
    assert server.sent < SIZE + 2**16 + 1000
    assert all(server.asked())
    assert {request.agent for request in server.requests} == {"MendMRI"}


def test_goes_on_after_dropped_connections(server: FileServer, tmp_path: Path) -> None:
    url = server.serve("/v.zip", _archive())
    with remote_zip(url) as archive:
        server.fail("/v.zip", Drop(0), Drop(20), Drop(1000), Drop(200_000))
        take_members(archive, tmp_path, lambda name: name, desc="v.zip")
    for name in NAMES:
        assert (tmp_path / name).read_bytes() == _member(name)
    # Each drop costs its own member again, not those before.
    assert server.sent < 10 * SIZE + 300_000 + 2**16


def test_a_second_run_takes_the_rest_only(server: FileServer, tmp_path: Path) -> None:
    url = server.serve("/v.zip", _archive())
    (tmp_path / "multicoil_val").mkdir()
    (tmp_path / NAMES[3]).write_bytes(_member(NAMES[3]))
    (tmp_path / NAMES[4]).write_bytes(_member(NAMES[3]))
    kept = (tmp_path / NAMES[3]).stat().st_ino
    with remote_zip(url) as archive:
        names = take_members(archive, tmp_path, lambda name: name, desc="v.zip")
    assert names == NAMES
    assert (tmp_path / NAMES[3]).stat().st_ino == kept
    assert (tmp_path / NAMES[4]).read_bytes() == _member(NAMES[4])
    assert server.sent < 9 * SIZE + 2**16 + 2000


def test_gives_up(server: FileServer, tmp_path: Path) -> None:
    url = server.serve("/v.zip", _archive())
    with remote_zip(url) as archive:
        server.fail("/v.zip", *[Drop(1000)] * 6)
        with pytest.raises(SourceError, match=r"v\.zip: '2022.*dropped 6 times: run"):
            take_members(archive, tmp_path, _third, desc="v.zip")
    assert list(tmp_path.iterdir()) == []


def test_drops_of_the_table_of_contents(server: FileServer) -> None:
    url = server.serve("/v.zip", _archive())
    server.fail("/v.zip", Status(503), Drop(0), Drop(1))
    with remote_zip(url) as archive:
        assert archive.namelist() == NAMES
    server.fail("/v.zip", *[Drop(0)] * 12)
    with (
        pytest.raises(SourceError, match=r"v\.zip: the connection dropped 6 times"),
        remote_zip(url),
    ):
        pass


def test_a_server_without_parts(server: FileServer) -> None:
    server.ranges = False
    url = server.serve("/v.zip", _archive())
    with (
        pytest.raises(SourceError, match=rf"{url}: .*whole files only.*by hand.*local"),
        remote_zip(f"{url}?secret"),
    ):
        pass


def test_no_zip_and_nothing(server: FileServer) -> None:
    url = server.serve("/v.zip", b"<html>" * 50_000)
    with (
        pytest.raises(SourceError, match=rf"{url}: no zip archive .*publisher's page"),
        remote_zip(url),
    ):
        pass
    with (
        pytest.raises(
            SourceError, match=r"/w\.zip: status 404 Not Found: it has moved"
        ),
        remote_zip(server.url("/w.zip")),
    ):
        pass


def test_a_changed_archive_is_noticed(server: FileServer, tmp_path: Path) -> None:
    data = _archive()
    url = server.serve("/v.zip", data)
    with remote_zip(url) as archive:
        server.fail("/v.zip", Change(data[::-1], '"2"'))
        with pytest.raises(SourceError, match=rf"{url}: changed on the server.*again"):
            take_members(archive, tmp_path, _third, desc="v.zip")
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_member_is_not_taken(server: FileServer, tmp_path: Path) -> None:
    data = bytearray(_archive())
    data[3 * SIZE + SIZE // 2] ^= 1
    url = server.serve("/v.zip", bytes(data))
    with remote_zip(url) as archive, pytest.raises(SourceError, match="Bad CRC-32"):
        take_members(archive, tmp_path, lambda name: name, desc="v.zip")
    assert not (tmp_path / NAMES[3]).exists()
    assert len(list(tmp_path.glob("*/*"))) == 3
    for path in tmp_path.glob("*/*.h5"):
        assert path.read_bytes() == _member(f"multicoil_val/{path.name}")
