"""Archives and folders of others: what is wanted comes out, and whole."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest

from stages.download import moving
from stages.download.archives import take, take_archive, take_folder
from stages.download.base import SourceError
from tests.download.packing import (
    BRAIN,
    FILES,
    KINDS,
    SCAN,
    TAKEN,
    flat,
    images,
    pack,
)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.mark.parametrize("kind", KINDS)
def test_takes_what_is_wanted(tmp_path: Path, out: Path, kind: str) -> None:
    path = pack(tmp_path / f"data set.{kind}", FILES)
    for _run in range(2):
        assert take_archive(path, out, images) == TAKEN
        assert (out / TAKEN[0]).read_bytes() == BRAIN
        assert (out / TAKEN[1]).read_bytes() == SCAN
        assert (out / TAKEN[2]).read_bytes() == b""
        assert len([path for path in out.rglob("*") if path.is_file()]) == 3


def test_folder_follows_links_and_keeps_what_is_there(
    tmp_path: Path, out: Path
) -> None:
    disk, tree = tmp_path / "disk", tmp_path / "tree"
    for name, data in FILES.items():
        (disk / name).parent.mkdir(parents=True, exist_ok=True)
        (disk / name).write_bytes(data)
    tree.mkdir()
    (tree / "Fälle 1").symlink_to(disk / "Fälle 1")
    (tree / "empty.nii.gz").symlink_to(disk / "empty.nii.gz")
    (disk / "Fälle 1" / "up").symlink_to(tree)
    assert take_folder(tree, out, images) == TAKEN
    assert (out / TAKEN[0]).read_bytes() == BRAIN
    assert not (out / "empty.nii.gz").is_symlink()
    kept = (out / TAKEN[0]).stat().st_ino
    (out / TAKEN[1]).write_bytes(BRAIN + SCAN[: len(SCAN) - len(BRAIN)])
    assert take_folder(tree, out, images) == TAKEN
    assert (out / TAKEN[0]).stat().st_ino == kept
    assert (out / TAKEN[1]).read_bytes() == SCAN


def test_folder_with_a_dead_link(tmp_path: Path, out: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "a.nii.gz").symlink_to(tmp_path / "gone")
    with pytest.raises(SourceError, match=r"a\.nii\.gz.*link that leads nowhere"):
        take_folder(tmp_path / "tree", out, images)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_needs_room(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    path = pack(tmp_path / f"a.{kind}", FILES)
    usage = SimpleNamespace(free=moving.MARGIN + 119_999)
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage)
    with pytest.raises(SourceError, match=r"out: 120\.0 kB are needed .* make room"):
        take_archive(path, out, images)
    assert not out.exists()
    usage.free += 1
    assert take_archive(path, out, images) == TAKEN
    usage.free -= 120_000
    assert take_archive(path, out, images) == TAKEN


def _cannot_be_read(path: Path, out: Path) -> None:
    with pytest.raises(
        SourceError,
        match=rf"{path.name} cannot be read \(.+\): .*download it again, or",
    ) as caught:
        take_archive(path, out, images)
    assert "\n" not in str(caught.value)
    assert not (out / "b.nii.gz").exists()


@pytest.mark.parametrize("share", [0.3, 0.8, 0.999])
@pytest.mark.parametrize("kind", KINDS)
def test_truncated(tmp_path: Path, out: Path, kind: str, share: float) -> None:
    path = pack(tmp_path / f"a.{kind}", {"a.nii.gz": BRAIN, "b.nii.gz": SCAN})
    data = path.read_bytes()
    # What a plain tar is filled up with is no part of it.
    size = len(data.rstrip(b"\0")) if kind == "tar" else len(data)
    path.write_bytes(data[: int(size * share)])
    _cannot_be_read(path, out)


@pytest.mark.parametrize("cut", [0, 100])
def test_truncated_at_a_header(tmp_path: Path, out: Path, cut: int) -> None:
    """`tarfile` alone takes both for the archive's end."""
    path = pack(tmp_path / "a.tar", {"a.nii.gz": BRAIN, "b.nii.gz": SCAN})
    second = 512 + -(-len(BRAIN) // 512) * 512
    path.write_bytes(path.read_bytes()[: second + cut])
    _cannot_be_read(path, out)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged(tmp_path: Path, out: Path, kind: str) -> None:
    path = pack(tmp_path / f"a.{kind}", {"a.nii.gz": BRAIN, "b.nii.gz": SCAN})
    data = bytearray(path.read_bytes())
    # In a plain tar only a header can tell.
    second = 512 + -(-len(BRAIN) // 512) * 512
    position = second if kind == "tar" else len(data) * 3 // 4
    data[position : position + 8] = bytes(byte ^ 255 for byte in data[position:][:8])
    path.write_bytes(data)
    _cannot_be_read(path, out)


@pytest.mark.parametrize("kind", KINDS)
def test_no_archive_at_all(tmp_path: Path, out: Path, kind: str) -> None:
    path = tmp_path / f"a.{kind}"
    path.write_bytes(b"<html>please log in</html>" * 100)
    with pytest.raises(
        SourceError, match=rf"a\.{kind} cannot be read \([^:]+\): it is"
    ):
        take_archive(path, out, images)
    with pytest.raises(
        SourceError, match=r"a\.rar is no archive that can .*\.zip, \.tar"
    ):
        take_archive(tmp_path / "a.rar", out, images)


def _take(local: Path, out: Path, wanted=images) -> list[str]:
    return take(local, out, wanted, source="brats", expected="`<id>_seg.nii.gz`")


def test_take_looks_into_files_and_archives(tmp_path: Path, out: Path) -> None:
    local = tmp_path / "local"
    (local / "sub").mkdir(parents=True)
    (local / "sub" / "a.nii.gz").write_bytes(BRAIN)
    pack(local / "one.zip", {"x/b.nii.gz": SCAN})
    pack(local / "two.tar", {"./c.nii.gz": BRAIN})
    pack(local / "sub" / "below.zip", {"d.nii.gz": BRAIN})
    assert _take(local, out) == ["c.nii.gz", "sub/a.nii.gz", "x/b.nii.gz"]
    assert (out / "x/b.nii.gz").read_bytes() == SCAN
    # An archive that is itself wanted is a file like others.
    names = take(local, tmp_path / "raw", _zips, source="brats", expected="zips")
    assert names == ["one.zip", "sub/below.zip"]


def _zips(name: str) -> str | None:
    return name if name.endswith(".zip") else None


@pytest.mark.parametrize("link", [False, True])
def test_take_of_one_archive(tmp_path: Path, out: Path, link: bool) -> None:
    local = pack(tmp_path / "one.tar.gz", {"b.nii.gz": SCAN})
    if link:
        local = tmp_path / "brats"
        local.symlink_to(tmp_path / "one.tar.gz")
    assert _take(local, out) == ["b.nii.gz"]
    assert (out / "b.nii.gz").read_bytes() == SCAN


def test_an_archive_beside_what_was_unpacked(tmp_path: Path, out: Path) -> None:
    local = tmp_path / "local"
    (local / "x").mkdir(parents=True)
    (local / "x" / "a.nii.gz").write_bytes(BRAIN)
    pack(local / "one.zip", {"a.nii.gz": BRAIN})
    pack(local / "two.tar", {"y/a.nii.gz": BRAIN})
    assert _take(local, out, flat) == ["a.nii.gz"]
    pack(local / "two.tar", {"y/a.nii.gz": BRAIN[::-1]})
    with pytest.raises(
        SourceError, match=r"two\.tar: 'a\.nii\.gz': differs from .* that .*local holds"
    ):
        _take(local, out, flat)
    assert (out / "a.nii.gz").read_bytes() == BRAIN


def test_a_file_where_another_archive_has_a_folder(tmp_path: Path, out: Path) -> None:
    (tmp_path / "local").mkdir()
    pack(tmp_path / "local" / "1.zip", {"a": BRAIN})
    pack(tmp_path / "local" / "2.zip", {"a/b": BRAIN})
    with pytest.raises(SourceError, match=r"2\.zip: 'a/b': 'a' would be a file and a"):
        _take(tmp_path / "local", out, lambda name: None if "zip" in name else name)


def test_nothing_wanted_says_what_is_there(tmp_path: Path, out: Path) -> None:
    local = tmp_path / "local"
    local.mkdir()
    pattern = r"local: nothing that 'brats' takes: expected `<id>_seg\.nii\.gz`; found "
    with pytest.raises(SourceError, match=pattern + "no files: put the files"):
        _take(local, out)
    pack(local / "one.zip", {f"{number}.dcm": b"" for number in range(9)})
    with pytest.raises(
        SourceError, match=pattern + "'one.zip', '0.dcm', .* and 5 more: put the files"
    ):
        _take(local, out)


def test_take_refuses_what_it_cannot_open(tmp_path: Path, out: Path) -> None:
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    with pytest.raises(SourceError, match=r"a\.rar is neither a folder nor an archive"):
        _take(tmp_path / "a.rar", out)


@pytest.mark.parametrize("inside", [".", "raw", ".."])
def test_a_local_copy_is_never_tidied_up(tmp_path: Path, inside: str) -> None:
    local = tmp_path / "disk" / "local"
    local.mkdir(parents=True)
    (local / "a.nii.gz").write_bytes(BRAIN)
    with pytest.raises(
        SourceError, match="overlap: keep the local copy somewhere else"
    ):
        _take(local, local / inside)
    assert (local / "a.nii.gz").read_bytes() == BRAIN


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (999, "999 B"),
        (1000, "1.0 kB"),
        (12_691_905_090, "12.7 GB"),
        (5e15, "5000.0 TB"),
    ],
)
def test_bytes_for_people(size: float, text: str) -> None:
    assert moving.readable(size) == text
