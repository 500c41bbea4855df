"""A record of Zenodo: its files, locked as they were when they were first seen.

Nobody publishes the hashes of these files anywhere else. So the first fetch writes down
what the record says, and every later one compares. What an archive's table of contents
says is written down too: whoever has all of it needs no network.
"""

import json
import logging
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from stages.common.volume import write_text
from stages.download.base import SourceError
from stages.download.transfer import fetch_json

API = "https://zenodo.org/api/records"
LOCK = "record.json"

log = logging.getLogger("mendmri")


class RecordFile(NamedTuple):
    """A file of a record.

    Attributes:
        name: of the file.
        url: of its content.
        size: in bytes.
        checksum: `md5:<hex>`.
    """

    name: str
    url: str
    size: int
    checksum: str


class Member(NamedTuple):
    """What an archive says of a file in it.

    Attributes:
        size: in bytes.
        crc: its CRC-32.
    """

    size: int
    crc: int


def read_record(record: int, folder: Path) -> dict[str, RecordFile]:
    """Ask for a record's files, by name, and compare them with `record.json`.

    Without an answer, what `record.json` says counts.

    Args:
        record: its number.
        folder: where `record.json` is, or is written.

    Raises:
        SourceError: the record cannot be had and is not locked, or has changed since.
    """
    url, path = f"{API}/{record}", folder / LOCK
    try:
        content = fetch_json(url)
    except SourceError as error:
        locked = _locked(path, record)
        if locked is None:
            raise
        log.warning("going on with what %s says of record %d: %s", path, record, error)
        return _from_lock(locked, path, url)
    files = _from_answer(content, record, url)
    _compare_or_lock(path, record, files)
    return files


def read_members(folder: Path, archive: str) -> dict[str, Member] | None:
    """The files in an archive of the locked record; None if no run wrote them down."""
    try:
        members = _read(folder / LOCK)["members"][archive]
        return {name: Member(*map(int, facts)) for name, facts in members.items()}
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def lock_members(folder: Path, archive: str, members: dict[str, Member]) -> None:
    """Write down what an archive's table of contents says; `read_record` goes before.

    An archive is locked by its checksum, and what is in it with it.
    """
    content = _read(folder / LOCK)
    known = content.get("members")
    others = known if isinstance(known, dict) else {}
    _write(folder / LOCK, {**content, "members": {**others, archive: members}})


def _from_answer(content: Any, record: int, url: str) -> dict[str, RecordFile]:
    try:
        found = str(content.get("id", record))
        files = {entry["key"]: _file(entry, url) for entry in content["files"]}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise SourceError(
            f"{url}: the list of files cannot be read ({type(error).__name__}: "
            f"{error}): is it a public record? see its page; the files can also be "
            "downloaded by hand and given as a local copy (data/local)"
        ) from None
    if found != str(record):
        raise SourceError(
            f"{url} leads to record {found}, its newest version, which may be another "
            f"one tomorrow: name record {found} in params.yaml"
        )
    return files


def _file(entry: Any, url: str) -> RecordFile:
    name, size, checksum = entry["key"], entry["size"], entry["checksum"]
    if not isinstance(size, int) or not str(checksum).startswith("md5:"):
        raise ValueError(f"size {size!r}, checksum {checksum!r} of {name}")
    links = entry.get("links") or {}
    content = f"{url}/files/{quote(name)}/content"
    return RecordFile(
        name, links.get("content") or links.get("self") or content, size, checksum
    )


def _compare_or_lock(path: Path, record: int, files: dict[str, RecordFile]) -> None:
    now = {
        file.name: {"size": file.size, "checksum": file.checksum}
        for file in files.values()
    }
    locked = _locked(path, record)
    if locked is None:
        _write(path, {"record": record, "files": now})
        return
    changed = sorted(
        name for name in {*locked, *now} if locked.get(name) != now.get(name)
    )
    if changed:
        name = changed[0]
        raise SourceError(
            f"{path}: record {record} has changed since it was first fetched "
            f"({', '.join(changed)}): {name} was {locked.get(name, 'absent')}, is "
            f"{now.get(name, 'absent')}: find out why; to accept it, delete {path} and "
            "run again"
        )


def _from_lock(locked: dict[str, Any], path: Path, url: str) -> dict[str, RecordFile]:
    try:
        return {name: _file({"key": name, **locked[name]}, url) for name in locked}
    except (KeyError, TypeError, ValueError):
        raise _unreadable(path) from None


def _locked(path: Path, record: int) -> dict[str, Any] | None:
    """The files as they were first seen; None for another record."""
    try:
        content = _read(path)
        return dict(content["files"]) if content["record"] == record else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise _unreadable(path) from None


def _unreadable(path: Path) -> SourceError:
    return SourceError(
        f"{path} cannot be read: it holds what the record was when it was first "
        "fetched; delete it to accept what the record is now"
    )


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
