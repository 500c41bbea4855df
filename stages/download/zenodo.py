"""A record of Zenodo: its files, locked as they were when they were first seen.

Nobody publishes the hashes of these files anywhere else. So the first fetch writes down
what the record says, and every later one compares.
"""

import json
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

from stages.common.volume import write_text
from stages.download.base import SourceError
from stages.download.transfer import fetch_json

API = "https://zenodo.org/api/records"
LOCK = "record.json"


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


def read_record(record: int, folder: Path) -> dict[str, RecordFile]:
    """Ask for a record's files, by name, and compare them with `record.json`.

    Args:
        record: its number.
        folder: where `record.json` is, or is written.

    Raises:
        SourceError: the record cannot be had, or has changed since.
    """
    files = _ask(record)
    _compare_or_lock(folder / LOCK, record, files)
    return files


def _ask(record: int) -> dict[str, RecordFile]:
    url = f"{API}/{record}"
    content = fetch_json(url)
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
        content = {"record": record, "files": now}
        write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
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


def _locked(path: Path, record: int) -> dict[str, Any] | None:
    """The files as they were first seen; None for another record."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return dict(content["files"]) if content["record"] == record else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        raise SourceError(
            f"{path} cannot be read: it holds what record {record} was when it was "
            "first fetched; delete it to accept what the record is now"
        ) from None
