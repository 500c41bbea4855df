"""Take the wanted files out of archives and folders that others made.

An archive is not trusted: no name leaves the folder, no link is followed or made, and
what its table of contents declares is checked before the first byte is written.
"""

import gzip
import logging
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stages.download.base import SourceError
from stages.download.members import (
    StrictMember,
    folder_entries,
    tar_entries,
    zip_entries,
)
from stages.download.placing import Found, Wanted, place

__all__ = ["Wanted", "take", "take_archive", "take_folder", "take_members"]

_TARS = (".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz", ".tar.bz2", ".tbz2")
_SUFFIXES = (".zip", *_TARS)
log = logging.getLogger("mendmri")

# What the libraries raise for damaged archives, and for kinds that they cannot read.
_DAMAGED = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    EOFError,
    NotImplementedError,
)


def take_members(
    archive: zipfile.ZipFile, folder: Path, wanted: Wanted, *, desc: str
) -> list[str]:
    """Extract what is wanted of an open zip, here or on a server.

    A file that is there with its size and CRC is kept: a killed run goes on.

    Args:
        archive: open.
        folder: where the files go.
        wanted: which ones, and their names there.
        desc: names the archive in messages.

    Returns:
        The files' names in `folder`, sorted.

    Raises:
        SourceError: the archive is damaged or unsafe.
    """
    found = Found(desc)
    with _readable(desc):
        place(zip_entries(archive, wanted, found), folder, found)
    return sorted(found.names)


def take_archive(path: Path, folder: Path, wanted: Wanted) -> list[str]:
    """Extract what is wanted of a zip or tar: see `take_members`."""
    found = Found(str(path))
    _take_archive(path, folder, wanted, found)
    return sorted(found.names)


def take_folder(tree: Path, folder: Path, wanted: Wanted) -> list[str]:
    """Copy what is wanted of a folder; links in it are followed.

    Args:
        tree: the folder to look through.
        folder: where the files go.
        wanted: which ones, and their names there.

    Returns:
        The files' names in `folder`, sorted.

    Raises:
        SourceError: two files would get one name, or a link leads nowhere.
    """
    found = Found(str(tree))
    place(folder_entries(tree, wanted, found), folder, found)
    return sorted(found.names)


def take(
    local: Path, folder: Path, wanted: Wanted, *, source: str, expected: str
) -> list[str]:
    """Take what is wanted of a local copy: an archive, or a folder of files.

    Archives that lie directly in the folder are opened too, those below it are not.

    Args:
        local: the local copy.
        folder: where the files go.
        wanted: which files, and their names there.
        source: who asks, for messages.
        expected: what there should be, for messages, such as "`<id>_T101.h5`".

    Returns:
        The files' names in `folder`, sorted.

    Raises:
        SourceError: there is nothing wanted, or it is damaged, ambiguous or unsafe.
    """
    _refuse_overlap(local, folder)
    found = Found(str(local))
    if local.is_dir():
        archives = [
            path
            for path in sorted(local.iterdir())
            if is_archive(path) and wanted(path.name) is None
        ]
        place(folder_entries(local, wanted, found), folder, found)
    elif is_archive(local.resolve()):
        archives = [local.resolve()]
    else:
        raise SourceError(
            f"{local} is neither a folder nor an archive ({', '.join(_SUFFIXES)}): "
            f"make it a folder that holds the files of '{source}'"
        )
    for path in archives:
        _take_archive(path, folder, wanted, found)
    if not found.names:
        raise SourceError(
            f"{local}: nothing that '{source}' takes: expected {expected}; found "
            f"{found.seen()}: put the files there under the names that they were "
            "published with"
        )
    return sorted(found.names)


def is_archive(path: Path) -> bool:
    """Whether a file's name says that it is an archive which can be opened."""
    hidden = path.name.startswith(".")
    return path.name.lower().endswith(_SUFFIXES) and not hidden and path.is_file()


def _refuse_overlap(local: Path, folder: Path) -> None:
    """A stage tidies its folder up: a person's files must not lie in it."""
    here, there = local.resolve(), folder.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise SourceError(
            f"{local} and {folder}, where the files go, overlap: keep the local copy "
            "somewhere else"
        )


def _take_archive(path: Path, folder: Path, wanted: Wanted, found: Found) -> None:
    name = path.name.lower()
    found.place = str(path)
    log.info("looking through %s", path)
    with _readable(str(path)):
        if name.endswith(".zip"):
            with zipfile.ZipFile(path) as archive:
                place(zip_entries(archive, wanted, found), folder, found)
        elif name.endswith(_TARS):
            with tarfile.open(path, "r:*", tarinfo=StrictMember) as tar:
                place(tar_entries(tar, path, wanted, found), folder, found)
        else:
            raise SourceError(
                f"{path} is no archive that can be opened: expected "
                f"{', '.join(_SUFFIXES)}"
            )


@contextmanager
def _readable(desc: str) -> Iterator[None]:
    try:
        yield
    except (*_DAMAGED, OSError) as error:
        # Errors of the file system have a number, those of bz2 have none.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise SourceError(
            f"{desc} cannot be read ({reason}): it is damaged "
            "or was not downloaded to its end: download it again, or unpack it by hand "
            "and give the files"
        ) from None
