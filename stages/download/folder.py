"""A person's own files, and a table that says what they are.

The files lie in data/local/folder/ with a CSV, one row a volume; README.md has its
columns. What is brought are the files that it names, and the table itself, checked and
under one name.
"""

import csv
import io
from functools import partial
from pathlib import Path
from typing import IO

from pydantic import Field

from stages.common.params import Settings
from stages.common.volume import write_text
from stages.download.base import Fetched, Origin, SourceError
from stages.download.folder_checks import check_rows
from stages.download.folder_table import (
    COLUMNS,
    Row,
    files_of,
    locate,
    normalised,
    read_rows,
)
from stages.download.local import local_copy, where_to_put
from stages.download.placing import Entry, Found, is_safe, place, same_bytes

TABLE = "scans.csv"


GIVES = "either"
PUBLISHED = ("train", "val", "test")


class Params(Settings):
    """Which table to read.

    Attributes:
        table: its file name, relative to data/local/folder/.
    """

    table: str = Field(min_length=1)


def fetch(params: Params, folder: Path) -> Fetched:
    """Check the whole table, then copy what it names.

    Raises:
        SourceError: there is no table, or one row or more are wrong: naming them all.
    """
    local = _local(params.table, folder)
    found = read_rows(local / params.table)
    check_rows(found, local / params.table)
    rows = [normalised(row) for row in found.values()]
    names = sorted({name for row in rows for name in files_of(row)})
    entries = [_entry(_located(local, name), name) for name in names]
    place(entries, folder, Found(str(local)))
    write_text(folder / TABLE, _as_csv(rows))
    origin = Origin(
        title=f"own files, as {params.table} lists them",
        url="none: local files",
        version="none: see the SHA-256 of each file",
        licence="not stated: whoever brought the files knows",
        citation="not stated",
    )
    return Fetched(origin, (*names, TABLE))


def _local(table: str, folder: Path) -> Path:
    local = local_copy("folder")
    if local is None:
        raise SourceError(
            f"there are no own files: write {table}, which lists them (see the README "
            f"of download), and {where_to_put('folder')}"
        )
    if not local.is_dir():
        raise SourceError(f"{local} is no folder: unpack it, and name the folder so")
    # The stage tidies its own folder up: a person's files must not lie in it.
    here, there = local.resolve(), folder.resolve()
    if here == there or here in there.parents or there in here.parents:
        raise SourceError(
            f"{local} and {folder}, where the files go, overlap: keep your files "
            "somewhere else"
        )
    if not is_safe(table) or "/" in table:
        raise SourceError(
            f"params.yaml: 'download.folder.table' = {table!r}: expected the name of a "
            f"file directly in {local}"
        )
    return local


def _located(local: Path, name: str) -> Path:
    path = locate(local, name)
    if path is None:
        raise SourceError(f"{local / name} has vanished: put it back, and run again")
    return path


def _entry(path: Path, name: str) -> Entry:
    return Entry(
        name=name,
        size=path.stat().st_size,
        open=partial(_open, path),
        same=partial(same_bytes, path),
    )


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")


def _as_csv(rows: list[Row]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
