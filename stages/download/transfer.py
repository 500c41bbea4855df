"""Bring files here over HTTP: whole, verified, and resumed where a run was ended.

A file grows in `.<name>.part` beside its destination; `.<name>.part.json` says which
version of which file that is. `settle` removes both of a file that is wanted no more.
"""

import hashlib
import json
import logging
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stages.download.base import SourceError
from stages.download.moving import TRIES, Expected, pause, require_room, shown

_BLOCK = 2**20
_DIGITS = {"md5": 32, "sha256": 64}

__all__ = ["fetch_file", "fetch_json", "remote_zip", "require_room"]

log = logging.getLogger("mendmri")


def fetch_file(
    url: str,
    destination: Path,
    *,
    size: int | None = None,
    checksum: str | None = None,
) -> None:
    """Download a file, going on where an earlier run ended, and verify it.

    A destination that verifies is kept without a request. Where neither size nor
    checksum is known, it is kept if it has the length that the server states.

    Args:
        url: http or https.
        destination: appears only when whole and verified.
        size: in bytes.
        checksum: `md5:<hex>` or `sha256:<hex>`.

    Raises:
        SourceError: the file cannot be had, or is not the expected one.
    """
    wanted = Expected(url, size, _parse_checksum(checksum, url))
    known = size is not None or wanted.checksum is not None
    there = destination.is_file()
    if known and there and _difference(destination, wanted) is None:
        return

    from stages.download.parts import Part, complete, has_length

    if not known and there and has_length(url, destination):
        return
    destination.parent.mkdir(parents=True, exist_ok=True)
    part = Part.of(destination)
    patched = complete(wanted, part)
    difference = _difference(part.path, wanted)
    if difference and patched:
        # Without a validator, two versions may have been put together.
        log.info("%s: %s: starting over", destination.name, difference)
        part.discard()
        complete(wanted, part)
        difference = _difference(part.path, wanted)
    if difference:
        part.discard()
        raise SourceError(
            f"{shown(url)}: {difference}: it is damaged or another version; run "
            "again, or correct what is expected of it in params.yaml or the source's "
            "file"
        )
    part.path.replace(destination)
    part.record.unlink(missing_ok=True)


def fetch_json(url: str) -> Any:
    """Return what a server answers as JSON.

    Raises:
        SourceError: naming URL and status, or that it is no JSON.
    """
    from stages.download import session

    for failures in range(1, TRIES + 1):
        answer = session.get(url)
        session.expect(answer, url, 200)
        try:
            with answer:
                return json.loads(b"".join(session.blocks(answer)))
        except session.DroppedError:
            if failures < TRIES:
                pause(failures)
        except ValueError as error:
            raise SourceError(
                f"{shown(url)}: status 200, but no JSON ({error}): run again later, "
                f"{session.BY_HAND}"
            ) from None
    raise session.too_often(url)


@contextmanager
def remote_zip(url: str) -> Iterator[zipfile.ZipFile]:
    """Open a zip on a server; only what is read of it is transferred.

    A member whose connection drops raises ConnectionError and can be opened again.

    Raises:
        SourceError: it cannot be had, is damaged, or the server sends no parts.
    """
    from stages.download.remote import open_zip

    with open_zip(url) as archive:
        yield archive


def _parse_checksum(text: str | None, url: str) -> tuple[str, str] | None:
    """Split `md5:<hex>` or `sha256:<hex>`."""
    if text is None:
        return None
    algorithm, _, digits = text.partition(":")
    if len(digits) != _DIGITS.get(algorithm) or re.search("[^0-9a-fA-F]", digits):
        raise SourceError(
            f"{shown(url)}: '{text}' is no checksum: write md5:<32 hex digits> or "
            "sha256:<64 hex digits>"
        )
    return algorithm, digits.lower()


def _difference(path: Path, wanted: Expected) -> str | None:
    """What a file has and was expected to have; None if it is the expected one."""
    found_size = path.stat().st_size
    if wanted.size not in (None, found_size):
        return f"has {found_size} bytes, expected {wanted.size}"
    if wanted.checksum is None:
        return None
    algorithm, expected = wanted.checksum
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    found = digest.hexdigest()
    return None if found == expected else f"{algorithm} is {found}, expected {expected}"
