"""Bytes that are moved: of what file, room for them, patience, how far they are."""

import hashlib
import logging
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from stages.common.runtime import LINES_EVERY_SECONDS
from stages.download.base import SourceError

# Left free for everything else that writes to the disk.
MARGIN = 2**28
# For what fails on the way, with pauses that grow.
TRIES = 6
BACKOFF_SECONDS = 1.0
LONGEST_BACKOFF = 60.0

log = logging.getLogger("mendmri")


class Expected(NamedTuple):
    """A file to fetch and what is known of it.

    Attributes:
        url: http or https.
        size: bytes.
        checksum: algorithm and lower-case hex digits.
    """

    url: str
    size: int | None
    checksum: tuple[str, str] | None

    def key(self) -> str:
        """Name this file in the part's record without its URL, which may be secret."""
        return hashlib.sha256(repr(tuple(self)).encode()).hexdigest()


def require_room(folder: Path, needed: int) -> None:
    """Check that a disk has room for so many bytes and a margin.

    Raises:
        SourceError: with what is needed and what is free.
    """
    existing = folder.absolute()
    while not existing.exists():
        existing = existing.parent
    free = shutil.disk_usage(existing).free
    if needed and free < needed + MARGIN:
        raise SourceError(
            f"{folder}: {readable(needed)} are needed (and {readable(MARGIN)} to "
            f"spare), {readable(free)} are free: make room, or link the folder to a "
            "larger disk"
        )


def readable(size: float) -> str:
    """A number of bytes for people: `12.7 GB`."""
    units = ["B", "kB", "MB", "GB", "TB"]
    while abs(size) >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{size:.0f} B" if units[0] == "B" else f"{size:.1f} {units[0]}"


def shown(url: str) -> str:
    """A URL for messages: what may be a secret (query, password) is left out."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def pause(failures: int) -> None:
    """Wait before the next try, longer after each failure."""
    time.sleep(min(BACKOFF_SECONDS * 2 ** (failures - 1), LONGEST_BACKOFF))


@contextmanager
def byte_progress(
    desc: str, *, total: int | None, done: int = 0
) -> Iterator[Callable[[int], object]]:
    """Yield a function that is told how many bytes more are done.

    A bar on a terminal; elsewhere (a log, CI) a plain line now and then.

    Args:
        desc: what is moved.
        total: bytes in all, if known.
        done: bytes of an earlier run.
    """
    if sys.stderr.isatty():
        from tqdm import tqdm

        with tqdm(
            total=total,
            initial=done,
            desc=desc,
            unit="B",
            unit_scale=True,
            dynamic_ncols=True,
        ) as bar:
            yield bar.update
        return
    started = last = time.perf_counter()
    moved = 0

    def advance(count: int) -> None:
        nonlocal moved, last
        moved += count
        now = time.perf_counter()
        if now - last <= LINES_EVERY_SECONDS:
            return
        last = now
        rate = max(moved, 1) / (now - started)
        here = readable(done + moved)
        if total is None:
            log.info("%s: %s, %s/s", desc, here, readable(rate))
            return
        left = (total - done - moved) / rate
        line = "%s: %s of %s, %s/s, %.0f s left"
        log.info(line, desc, here, readable(total), readable(rate), left)

    yield advance
