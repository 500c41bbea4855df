"""The rows of a person's table, as `download` checked and wrote it, and their scans."""

import csv
from collections.abc import Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from stages.synthesize.scans import Scan, ScanError, check_split, plain_id
from stages.synthesize.settings import ScanSettings

TABLE = "scans.csv"
SCANNER = "folder"


class Row(NamedTuple):
    """One row: what is not said is empty or None.

    Attributes:
        axes: names, in the order of the array.
        centred: whether the zero frequency is at n // 2.
        wrapped: axes along which the image lies half a field of view off; None
            where nobody has looked.
        spacing: of rows and columns, mm.
        sens_key: variable of the sensitivity maps of an image.
    """

    file: Path
    kind: str
    subject: str
    contrast: str
    split: str | None
    repetition: int | None
    axes: tuple[str, ...]
    key: str
    centred: bool | None
    wrapped: tuple[str, ...] | None
    spacing: tuple[float, float] | None
    sens_key: str
    sens_axes: tuple[str, ...]
    lesion: Path | None
    scanner: str


class Group(NamedTuple):
    """A scan and the rows that it comes from, by repetition."""

    scan: Scan
    rows: tuple[Row, ...]


def groups_of(folder: Path, settings: ScanSettings) -> list[Group]:
    """Read the table of a folder, and say which rows make which scan.

    Raises:
        ScanError: the table is missing or damaged, ids collide, or repeated images
            would have to be averaged.
    """
    path = folder / TABLE
    if not path.is_file():
        raise ScanError(f"{path} is missing: run `dvc repro download@folder`")
    by_scan: dict[tuple[str, str], list[Row]] = {}
    for row in _rows(path, path.stat().st_mtime_ns):
        by_scan.setdefault((row.subject, row.contrast), []).append(row)
    groups = []
    for rows in by_scan.values():
        rows.sort(key=lambda row: -1 if row.repetition is None else row.repetition)
        groups += [_group(chosen, settings) for chosen in _chosen(rows, settings)]
    people = {row.subject for rows in by_scan.values() for row in rows}
    _require_different(((name, plain_id(name)) for name in sorted(people)), path)
    _require_different(
        (
            (f"{g.rows[0].contrast} of {g.rows[0].subject}", g.scan.volume_id)
            for g in groups
        ),
        path,
    )
    return groups


def folder_of(path: Path) -> Path:
    """The folder with the table that names a file."""
    for folder in path.parents:
        if (folder / TABLE).is_file():
            return folder
    raise ScanError(
        f"{path}: no {TABLE} lies beside or above it: run `dvc repro download@folder`"
    )


def _chosen(rows: list[Row], settings: ScanSettings) -> list[list[Row]]:
    if settings.repetitions == "keep":
        return [[row] for row in rows]
    if settings.repetitions == "first":
        return [rows[:1]]
    if len(rows) > 1 and rows[0].kind == "image":
        raise ScanError(
            f"{rows[1].file} and {rows[0].file} are repetitions of one image: the mean "
            "of magnitudes is not that of scans; set synthesize.scans.repetitions to "
            "keep or first, or leave one row"
        )
    return [rows]


def _group(rows: list[Row], settings: ScanSettings) -> Group:
    first = rows[0]
    subject, contrast = plain_id(first.subject), plain_id(first.contrast)
    name = f"{subject}_{contrast}"
    if settings.repetitions == "keep" and first.repetition is not None:
        name += f"-{first.repetition:02d}"
    files = [row.file for row in rows]
    files += [row.lesion for row in rows if row.lesion is not None]
    return Group(Scan(name, subject, contrast, first.split, tuple(files)), tuple(rows))


def _require_different(ids: Iterable[tuple[str, str]], path: Path) -> None:
    found: dict[str, str] = {}
    for text, name in ids:
        # Not all file systems tell capitals from small letters.
        if name.casefold() in found:
            raise ScanError(
                f"{path}: '{found[name.casefold()]}' and '{text}' both would be "
                f"'{name}' in file names, which keep letters a-z, digits, '.', '_' and "
                "'-': rename one"
            )
        found[name.casefold()] = text


@lru_cache(maxsize=1)
def _rows(path: Path, _changed: int) -> tuple[Row, ...]:
    """Read the table; once for each process, as every scan asks for it."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            return tuple(_row(cells, path) for cells in csv.DictReader(file))
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        if isinstance(error, ScanError):
            raise
        raise ScanError(
            f"{path} is not as `download` writes it ({error}): run "
            "`dvc repro --force --single-item download@folder`"
        ) from None


def _row(cells: Mapping[str, str], path: Path) -> Row:
    folder = path.parent
    spacing = tuple(map(float, cells["spacing"].split()))
    return Row(
        file=folder / cells["file"],
        kind=cells["kind"],
        subject=cells["subject"],
        contrast=cells["contrast"],
        split=check_split(cells["split"], path) if cells["split"] else None,
        repetition=int(cells["repetition"]) if cells["repetition"] else None,
        axes=tuple(cells["axes"].split()),
        key=cells["key"],
        centred=cells["centred"] == "yes" if cells["centred"] else None,
        wrapped=_wrapped(cells["wrapped"]),
        spacing=(spacing[0], spacing[1]) if len(spacing) == 2 else None,
        sens_key=cells["sens_key"],
        sens_axes=tuple(cells["sens_axes"].split()),
        lesion=folder / cells["lesion"] if cells["lesion"] else None,
        scanner=cells["scanner"] or SCANNER,
    )


def _wrapped(cell: str) -> tuple[str, ...] | None:
    if not cell:
        return None
    return () if cell == "no" else tuple(cell.split())
