"""Archives that would write elsewhere, link elsewhere or fill the disk."""

import random
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from stages.download import placing
from stages.download.archives import take_archive
from stages.download.base import SourceError
from tests.download.packing import BRAIN, SCAN, flat, images, pack


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


UNSAFE = [
    "../evil.nii.gz",
    "a/../../evil.nii.gz",
    "/tmp/evil.nii.gz",
    "C:/evil.nii.gz",
    "..\\evil.nii.gz",
    "a\\evil.nii.gz",
    "a//evil.nii.gz",
    "e\nvil.nii.gz",
]


@pytest.mark.parametrize("wanted", [images, flat])
@pytest.mark.parametrize("kind", ["zip", "tar"])
@pytest.mark.parametrize("name", UNSAFE)
def test_no_name_leaves_the_folder(
    tmp_path: Path, out: Path, name: str, kind: str, wanted: Callable
) -> None:
    path = pack(tmp_path / f"a.{kind}", {"good.nii.gz": BRAIN, name: SCAN})
    with pytest.raises(SourceError) as caught:
        take_archive(path, out, wanted)
    message = str(caught.value)
    assert repr(name) in message
    assert "could leave the folder" in message
    assert str(path) in message
    assert "publisher" in message
    assert not out.exists()
    # Unwanted, such a member does no harm.
    pick = {"good.nii.gz": "good.nii.gz"}.get
    assert take_archive(path, out, pick) == ["good.nii.gz"]


def test_nor_does_a_name_that_the_source_gives(tmp_path: Path, out: Path) -> None:
    path = pack(tmp_path / "a.zip", {"good.nii.gz": BRAIN})
    with pytest.raises(SourceError, match=r"'good.nii.gz': the name '\.\./x' could"):
        take_archive(path, out, lambda _name: "../x")


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_of_tars(tmp_path: Path, out: Path, kind: bytes) -> None:
    path = pack(tmp_path / "a.tar", {"good.nii.gz": BRAIN})
    with tarfile.open(path, "a") as tar:
        info = tarfile.TarInfo("link.nii.gz")
        info.type, info.linkname = kind, "/etc/passwd"
        tar.addfile(info)
    with pytest.raises(
        SourceError, match=r"a\.tar: 'link\.nii\.gz': is a link or a dev"
    ):
        take_archive(path, out, images)
    assert not out.exists()
    pick = {"good.nii.gz": "good.nii.gz"}.get
    assert take_archive(path, out, pick) == ["good.nii.gz"]


def test_links_of_zips(tmp_path: Path, out: Path) -> None:
    info = zipfile.ZipInfo("link.nii.gz")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(SourceError, match=r"'link\.nii\.gz': is a link"):
        take_archive(tmp_path / "a.zip", out, images)


def test_encrypted_zips(tmp_path: Path, out: Path) -> None:
    path = pack(tmp_path / "a.zip", {"good.nii.gz": BRAIN})
    data = bytearray(path.read_bytes())
    data[data.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    with pytest.raises(SourceError, match=r"'good\.nii\.gz': is encrypted.*by hand"):
        take_archive(path, out, images)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_two_members_of_one_name(tmp_path: Path, out: Path, kind: str) -> None:
    path = pack(tmp_path / f"a.{kind}", {"1/a.nii.gz": BRAIN, "2/a.nii.gz": BRAIN})
    with pytest.raises(
        SourceError, match=r"'a\.nii\.gz': several files would get this"
    ):
        take_archive(path, out, flat)
    assert not out.exists()
    path = pack(tmp_path / f"b.{kind}", {"a": BRAIN, "a/b": BRAIN})
    with pytest.raises(SourceError, match=r"'a/b': 'a' would be a file and a folder"):
        take_archive(path, out, lambda name: name)


def _bomb(path: Path, size: int) -> Path:
    """A zip whose member declares a size that it does not have."""
    pack(path, {"bomb.nii.gz": bytes(100_000)})
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.rindex(b"PK\x01\x02") + 24, size)
    path.write_bytes(data)
    return path


def test_a_bomb_is_refused_before_a_byte_is_written(tmp_path: Path, out: Path) -> None:
    path = _bomb(tmp_path / "a.zip", 4_000_000_000)
    with pytest.raises(
        SourceError,
        match=r"'bomb\.nii\.gz': would grow from 1\d\d B to 4\.0 GB, which no",
    ):
        take_archive(path, out, images)
    assert not out.exists()


def test_a_bomb_in_a_tar(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "BOMB_SIZE", 1_000_000)
    files = {"bomb.nii.gz": bytes(30_000_000)}
    path = pack(tmp_path / "a.tar.xz", files)
    with pytest.raises(SourceError, match=r"to 30\.0 MB, which no data do"):
        take_archive(path, out, images)
    monkeypatch.setattr(placing, "BOMB_SIZE", 40_000_000)
    assert take_archive(path, out, images) == ["bomb.nii.gz"]


def _bombs(path: Path, files: dict[str, bytes]) -> Path:
    """A zip whose members declare 99 MB each: none is a bomb by itself."""
    pack(path, files)
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x01\x02")
    while at >= 0:
        if data[at + 46 : at + 50] == b"bomb":
            struct.pack_into("<I", data, at + 24, 99_000_000)
        at = data.find(b"PK\x01\x02", at + 4)
    path.write_bytes(data)
    return path


def test_bombs_that_are_one_together(tmp_path: Path, out: Path) -> None:
    files = {f"bomb{number}.nii.gz": bytes(100_000) for number in range(3)}
    path = _bombs(tmp_path / "a.zip", files)
    message = r"a\.zip: all files together: would grow from \d{3} B to 297\.0 MB, which"
    with pytest.raises(SourceError, match=rf"{message} no data do: get .*publisher"):
        take_archive(path, out, images)
    assert not out.exists()
    # One of them could be data.
    with pytest.raises(SourceError, match=r"cannot be read|bytes early"):
        take_archive(path, out, {"bomb1.nii.gz": "a"}.get)
    # So could all of them, beside enough that does not shrink.
    for size, message in ((250_000, "files together"), (320_000, "read|early")):
        noise = {"noise.nii.gz": random.Random(2).randbytes(size)}
        path = _bombs(tmp_path / f"{size}.zip", {**files, **noise})
        with pytest.raises(SourceError, match=message):
            take_archive(path, out, images)


def test_bombs_that_are_one_together_in_a_tar(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placing, "BOMB_SIZE", 1_000_000)
    files = {f"bomb{number}.nii.gz": bytes(990_000) for number in range(3)}
    path = pack(tmp_path / "a.tar.xz", files)
    with pytest.raises(SourceError, match=r"all files together: .* to 3\.0 MB, which"):
        take_archive(path, out, images)
    assert not out.exists()
    assert take_archive(path, out, {"bomb1.nii.gz": "a"}.get) == ["a"]
    monkeypatch.setattr(placing, "BOMB_SIZE", 3_000_000)
    assert take_archive(path, out, images) == sorted(files)


def test_never_reads_past_the_declared_size(tmp_path: Path, out: Path) -> None:
    path = _bomb(tmp_path / "a.zip", 1000)
    with pytest.raises(SourceError, match=r"a\.zip cannot be read \(Bad CRC-32"):
        take_archive(path, out, images)
    path = _bomb(tmp_path / "a.zip", 200_000)
    with pytest.raises(SourceError, match=r"ends 100000 bytes early|Bad CRC-32"):
        take_archive(path, out, images)
    assert list(out.iterdir()) == []
