"""What archives and folders hold, as entries to be put into place."""

import os
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, NoReturn, cast

from stages.download.placing import Entry, Found, Wanted, same_bytes

_KIND = 0o170000
_REGULAR = 0o100000


def zip_entries(
    archive: zipfile.ZipFile, wanted: Wanted, found: Found
) -> Iterator[Entry]:
    """Wanted files of a zip."""
    size = compressed = 0
    for info in archive.infolist():
        name = None if info.is_dir() else found.choose(info.filename, wanted)
        if name is None:
            continue
        kind = (info.external_attr >> 16) & _KIND
        if kind not in (0, _REGULAR):
            raise found.refused(info.filename, "is a link or a device, no file")
        if info.flag_bits & 1:
            raise found.refused(info.filename, "is encrypted")
        found.refuse_bomb(info.file_size, info.compress_size, member=info.filename)
        size += info.file_size
        compressed += info.compress_size
        yield Entry(
            name=name,
            size=info.file_size,
            open=partial(archive.open, info),
            same=partial(has_crc, info.CRC),
        )
    found.refuse_bomb(size, compressed)


def tar_entries(
    tar: tarfile.TarFile, path: Path, wanted: Wanted, found: Found
) -> Iterator[Entry]:
    """Wanted files of a tar, in the order in which they lie there."""
    members = tar.getmembers()
    compressed = path.stat().st_size
    size = 0
    stream = cast(IO[bytes], tar.fileobj)
    # `tarfile` stops at the end mark: a compressed stream's checksum lies behind it.
    while stream.read(2**20):
        pass
    for info in members:
        name = None if info.isdir() else found.choose(info.name, wanted)
        if name is None:
            continue
        if not info.isreg() or info.size < 0:
            raise found.refused(info.name, "is a link or a device, no file")
        found.refuse_bomb(info.size, compressed, member=info.name)
        size += info.size
        yield Entry(
            name=name,
            size=info.size,
            open=partial(_open_member, tar, info),
            same=_never,
        )
    found.refuse_bomb(size, compressed)


def folder_entries(tree: Path, wanted: Wanted, found: Found) -> Iterator[Entry]:
    """Wanted files of a folder and those below it."""
    seen = set()
    for top, folders, files in os.walk(tree, onerror=_raise, followlinks=True):
        # A link to a folder above would be walked for ever.
        seen.add(Path(top).resolve())
        folders[:] = sorted(
            name for name in folders if (Path(top) / name).resolve() not in seen
        )
        for path in (Path(top) / name for name in sorted(files)):
            name = found.choose(path.relative_to(tree).as_posix(), wanted)
            if name is None:
                continue
            if not path.is_file():
                raise found.refused(
                    str(path), "is no file, or a link that leads nowhere"
                )
            yield Entry(
                name=name,
                size=path.stat().st_size,
                open=partial(_open_file, path),
                same=partial(same_bytes, path),
            )


def has_crc(expected: int, path: Path) -> bool:
    """Whether a file has the CRC-32 that a zip states."""
    crc = 0
    with path.open("rb") as file:
        while block := file.read(2**20):
            crc = zlib.crc32(block, crc)
    return crc == expected


class StrictMember(tarfile.TarInfo):
    """A tar's header whose damage is an error: `tarfile` takes it for the end."""

    @classmethod
    def frombuf(
        cls, buf: bytes | bytearray, encoding: str, errors: str
    ) -> "StrictMember":
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if buf.count(0) == tarfile.BLOCKSIZE:
                raise  # the end mark
            raise tarfile.ReadError(str(error)) from None


def _open_file(path: Path) -> IO[bytes]:
    return path.open("rb")


def _open_member(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    return cast(IO[bytes], tar.extractfile(info))


def _never(_path: Path) -> bool:
    """A tar holds no checksums: nothing tells that a file is there already."""
    return False


def _raise(error: OSError) -> NoReturn:
    raise error
