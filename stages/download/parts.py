"""Grow a file's part until it is whole, over as many connections as it takes.

`transfer` imports this file where it needs it, as `requests` is slow to import.
"""

import json
import logging
from pathlib import Path
from typing import NamedTuple

import requests

from stages.common.volume import write_text
from stages.download import session
from stages.download.base import SourceError
from stages.download.moving import (
    TRIES,
    Expected,
    byte_progress,
    pause,
    readable,
    require_room,
    shown,
)

# A connection that brought this much before it dropped was worth another try.
_ENOUGH = 2**20

log = logging.getLogger("mendmri")


class Part(NamedTuple):
    """What an earlier run left of a file.

    Attributes:
        path: `.<name>.part`.
        record: `.<name>.part.json`.
    """

    path: Path
    record: Path

    @classmethod
    def of(cls, destination: Path) -> "Part":
        path = destination.with_name(f".{destination.name}.part")
        return cls(path, path.with_name(f"{path.name}.json"))

    def name(self) -> str:
        """Of the file, for messages."""
        return self.path.name[1 : -len(".part")]

    def length(self) -> int:
        return self.path.stat().st_size if self.path.is_file() else 0

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.record.unlink(missing_ok=True)


class _Version(NamedTuple):
    """Which version of a file a part belongs to.

    Attributes:
        key: of the wanted file.
        validator: what the server calls this version; None if it does not say.
        length: of the whole in bytes; None if the server does not say.
    """

    key: str
    validator: str | None
    length: int | None


def complete(wanted: Expected, part: Part) -> bool:
    """Complete a part; tell whether it is made of several answers."""
    failures, most = 0, part.length()
    while True:
        if _is_complete(part, wanted):
            return True
        answer, start, length = _ask(wanted, part)
        try:
            _append(answer, part, start, length)
        except session.DroppedError as error:
            failures += 1
            if part.length() >= most + _ENOUGH:
                failures, most = 1, part.length()
            if failures >= TRIES:
                raise session.too_often(wanted.url) from None
            log.info("%s: the connection dropped (%s)", part.name(), error)
            pause(failures)
        else:
            return start > 0


def has_length(url: str, path: Path) -> bool:
    """Whether a server states the length that a file has."""
    answer = session.get(url)
    answer.close()
    session.expect(answer, url, 200)
    return answer.headers.get("Content-Length") == str(path.stat().st_size)


def _is_complete(part: Part, wanted: Expected) -> bool:
    """Whether a run ended between the last byte and the naming."""
    version = _recorded(part, wanted)
    length = version.length if version else None
    return length is not None and part.path.is_file() and part.length() == length


def _ask(wanted: Expected, part: Part) -> tuple[requests.Response, int, int | None]:
    """Ask for what is missing of a part, or for all where it cannot be continued.

    Returns:
        The answer, the position of its first byte, the length of the whole if known.
    """
    version = _recorded(part, wanted)
    start = part.length() if version else 0
    if version and start:
        headers = {"Range": f"bytes={start}-"}
        if version.validator:
            headers["If-Range"] = version.validator
        answer = session.get(wanted.url, headers)
        session.expect(answer, wanted.url, 200, 206, 416)
        if answer.status_code == 206 and _continues(answer, start, version):
            require_room(part.path.parent, (version.length or start) - start)
            log.info("%s: going on after %s", part.name(), readable(start))
            return answer, start, version.length
        if answer.status_code == 200:
            return answer, 0, _begin(answer, wanted, part)
        answer.close()
    answer = session.get(wanted.url)
    session.expect(answer, wanted.url, 200)
    return answer, 0, _begin(answer, wanted, part)


def _continues(answer: requests.Response, start: int, version: _Version) -> bool:
    """Whether a partial answer is the rest of the version that was begun."""
    span = session.content_range(answer)
    if span is None or span[0] != start or version.length not in (None, span[1]):
        return False
    return session.validator(answer) in (None, version.validator)


def _begin(answer: requests.Response, wanted: Expected, part: Part) -> int | None:
    """Record the version that an answer brings from its first byte on.

    Raises:
        SourceError: it has another size than expected, or none that could be checked.
    """
    stated = answer.headers.get("Content-Length", "")
    length = int(stated) if stated.isdecimal() else None
    where = shown(wanted.url)
    chunked = "chunked" in answer.headers.get("Transfer-Encoding", "")
    if (length, wanted.size, wanted.checksum, chunked) == (None, None, None, False):
        answer.close()
        raise SourceError(
            f"{where}: the server does not say how long the file is, so that a broken "
            f"transfer would pass for it: give a checksum, {session.BY_HAND}"
        )
    if length is not None and wanted.size not in (None, length):
        answer.close()
        raise SourceError(
            f"{where}: has {length} bytes, expected {wanted.size}: the publisher has "
            f"changed it, or an error page stands in its place: look for it on the "
            f"publisher's page, {session.BY_HAND}"
        )
    part.discard()
    length = wanted.size if length is None else length
    require_room(part.path.parent, length or 0)
    version = _Version(wanted.key(), session.validator(answer), length)
    write_text(part.record, json.dumps(version._asdict()) + "\n")
    return length


def _recorded(part: Part, wanted: Expected) -> _Version | None:
    """The version that a part belongs to, if it can be continued."""
    try:
        version = _Version(**json.loads(part.record.read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None
    # Without either, nothing would tell that the file has changed since.
    sure = version.validator is not None or wanted.checksum is not None
    return version if sure and version.key == wanted.key() else None


def _append(
    answer: requests.Response, part: Part, start: int, length: int | None
) -> None:
    """Write an answer behind what a part holds.

    Raises:
        DroppedError: it ended before the file did.
    """
    position = start
    with (
        answer,
        part.path.open("ab" if start else "wb") as file,
        byte_progress(part.name(), total=length, done=start) as advance,
    ):
        for block in session.blocks(answer):
            try:
                file.write(block)
            except OSError as error:
                error.filename = str(part.path)
                raise
            position += len(block)
            advance(len(block))
            if length is not None and position > length:
                break
    if length is None or position == length:
        return
    if start and position > length:
        part.discard()
    if start or position < length:
        raise session.DroppedError(f"{position} of {length} bytes")
