"""Put files from archives and folders into place: safe names, no bombs, each whole."""

import re
from collections.abc import Callable, Iterable
from pathlib import Path, PurePosixPath
from typing import IO, NamedTuple

from stages.common.volume import atomic_path
from stages.download.base import SourceError, sha256_of
from stages.download.moving import TRIES, byte_progress, pause, readable, require_room

# A file's relative name, with `/`, to its name in the destination; None leaves it out.
Wanted = Callable[[str], str | None]

# What is larger and was compressed more than this holds nothing that we need: each
# member, and all of an archive together.
BOMB_RATIO = 1000
BOMB_SIZE = 100_000_000
_BLOCK = 2**20
_SHOWN = 5

Advance = Callable[[int], object]


class Entry(NamedTuple):
    """A file to be put into place.

    Attributes:
        name: in the destination.
        size: in bytes, as declared.
        open: opens it for reading from its start.
        same: whether a file of the same size holds the same.
    """

    name: str
    size: int
    open: Callable[[], IO[bytes]]
    same: Callable[[Path], bool]


class Found:
    """What has come to light so far, for messages and to notice double names.

    Attributes:
        names: in the destination -> archive or folder that it came from.
        place: archive or folder that is looked through.
    """

    def __init__(self, place: str) -> None:
        self.names: dict[str, str] = {}
        self.place = place
        self._first: list[str] = []
        self._count = 0

    def choose(self, member: str, wanted: Wanted) -> str | None:
        """Ask for a member's name in the destination.

        Raises:
            SourceError: it is wanted, and a name could leave the folder.
        """
        while member.startswith("./"):
            member = member[2:]
        # What macOS adds: it looks like the file beside it.
        if "__MACOSX" in member.split("/") or member.split("/")[-1].startswith("._"):
            return None
        self._count += 1
        if len(self._first) < _SHOWN:
            self._first.append(member)
        name = wanted(member)
        if name is None:
            return None
        for text in (member, name):
            if not is_safe(text):
                raise self.refused(member, f"the name {text!r} could leave the folder")
        return name

    def seen(self) -> str:
        """The first few names and how many more there are."""
        more = self._count - len(self._first)
        text = ", ".join(map(repr, self._first)) or "no files"
        return f"{text} and {more} more" if more else text

    def refused(self, member: str, reason: str) -> SourceError:
        """The error for a member that is not taken."""
        return self._refused(f"{member!r}: {reason}")

    def refuse_bomb(
        self, size: int, compressed: int, *, member: str | None = None
    ) -> None:
        """Check that a member, or all that is taken of an archive, could be data.

        Args:
            size: as declared, bytes.
            compressed: what it is stored in, bytes.
            member: its name; None for all together.

        Raises:
            SourceError: it would grow to more than data do.
        """
        if size > BOMB_SIZE and size > BOMB_RATIO * max(compressed, 1):
            what = "all files together" if member is None else repr(member)
            raise self._refused(
                f"{what}: would grow from {readable(compressed)} to {readable(size)}, "
                "which no data do"
            )

    def _refused(self, reason: str) -> SourceError:
        return SourceError(
            f"{self.place}: {reason}: get the data from their publisher, or unpack the "
            "archive by hand and give the files"
        )


def is_safe(name: str) -> bool:
    """Whether a relative name with `/` stays in its folder on every system."""
    parts = name.split("/")
    return not any(part in ("", ".", "..") for part in parts) and not re.search(
        r"[\\\x00-\x1f\x7f\ud800-\udfff]|^[A-Za-z]:", name
    )


def same_bytes(one: Path, other: Path) -> bool:
    """Whether two files hold the same."""
    same_size = one.stat().st_size == other.stat().st_size
    return same_size and sha256_of(one) == sha256_of(other)


def place(entries: Iterable[Entry], folder: Path, found: Found) -> None:
    """Write entries, each whole or not at all; keep those that are there already.

    Every entry is checked before the first one is written.

    Args:
        entries: of one archive or folder.
        folder: where they go.
        found: learns the names.

    Raises:
        SourceError: names collide, the disk lacks room, or an entry ends early.
    """
    plan = _plan(entries, found)
    absent = [entry.size for entry in plan if _size(folder / entry.name) != entry.size]
    require_room(folder, sum(absent))
    total = sum(entry.size for entry in plan)
    with byte_progress(Path(found.place).name, total=total) as advance:
        for entry in plan:
            path = folder / entry.name
            if _size(path) == entry.size and entry.same(path):
                advance(entry.size)
            else:
                _write_with_tries(entry, path, found, advance)
            found.names.setdefault(entry.name, found.place)


def _plan(entries: Iterable[Entry], found: Found) -> list[Entry]:
    plan = list(entries)
    names: set[str] = set()
    for entry in plan:
        if entry.name in names:
            raise found.refused(entry.name, "several files would get this name")
        names.add(entry.name)
    names.update(found.names)
    for entry in plan:
        for parent in PurePosixPath(entry.name).parents:
            if str(parent) in names:
                raise found.refused(
                    entry.name, f"'{parent}' would be a file and a folder"
                )
    return plan


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None


def _write_with_tries(entry: Entry, path: Path, found: Found, advance: Advance) -> None:
    for failures in range(1, TRIES + 1):
        written = 0

        def count(size: int) -> None:
            nonlocal written
            written += size
            advance(size)

        try:
            _write(entry, path, found, count)
        except ConnectionError:
            advance(-written)
            if failures < TRIES:
                pause(failures)
        else:
            return
    raise SourceError(
        f"{found.place}: '{entry.name}': the connection dropped {TRIES} times: run "
        "again to go on"
    )


def _write(entry: Entry, path: Path, found: Found, advance: Advance) -> None:
    left = entry.size
    with atomic_path(path) as temporary:
        with entry.open() as source, temporary.open("wb") as file:
            # Never past what was declared: that is what the checks were made for.
            while left and (block := source.read(min(_BLOCK, left))):
                file.write(block)
                left -= len(block)
                advance(len(block))
        if left:
            raise found.refused(entry.name, f"ends {left} bytes early")
        other = found.names.get(entry.name)
        if other is not None and not same_bytes(temporary, path):
            raise found.refused(
                entry.name, f"differs from the file of this name that {other} holds"
            )
