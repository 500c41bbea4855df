"""Read the table of a person's own files."""

import csv
import io
import re
import unicodedata
from pathlib import Path

from stages.download.base import SourceError

# What a row must say, and what it may.
REQUIRED = ("file", "kind", "subject", "contrast")
COLUMNS = (
    *REQUIRED,
    *("split", "repetition", "axes", "key", "centred", "wrapped", "spacing"),
    *("sens_key", "sens_axes", "lesion", "scanner"),
)
FORMATS = {
    ".npy": "NumPy",
    ".cfl": "BART",
    ".mat": "MATLAB",
    ".h5": "HDF5",
    ".hdf5": "HDF5",
    ".mrd": "HDF5",
    ".nii": "NIfTI",
    ".nii.gz": "NIfTI",
}
SPACING = re.compile(r"(\d+\.?\d*|\.\d+)\s*(?:[x×,;]|\s)\s*(\d+\.?\d*|\.\d+)(\s*mm)?")

Row = dict[str, str]  # every column, normalised; empty where nothing is said
Numbered = dict[int, Row]


def locate(folder: Path, name: str) -> Path | None:
    """Find a file by its name in the table, however its letters are composed."""
    for form in (name, *(unicodedata.normalize(f, name) for f in ("NFC", "NFD"))):
        if (folder / form).is_file():
            return folder / form
    return None


def files_of(row: Row) -> list[str]:
    """Every file that a row stands for: the header of a `.cfl` is one of its own."""
    names = [name for name in (row["file"], row["lesion"]) if name]
    return names + [header_of(name) for name in names if format_of(name) == "BART"]


def read_rows(path: Path) -> Numbered:
    """Read a table, as a person wrote it, without its empty rows.

    Args:
        path: CSV, UTF-8, with commas or semicolons.

    Returns:
        Rows by their number, as a spreadsheet counts them: the header is number 1.

    Raises:
        SourceError: it is missing, no such CSV, or its columns are others.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise SourceError(
            f"{path} is missing: write a table with the columns "
            f"{', '.join(REQUIRED)} (and others: see the README of download)"
        ) from None
    except UnicodeDecodeError:
        raise SourceError(f"{path} is not UTF-8: save it as 'CSV UTF-8'") from None
    first = text.split("\n", 1)[0]
    delimiter = ";" if first.count(";") > first.count(",") else ","
    try:
        records = list(
            csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        )
    except csv.Error as error:
        raise SourceError(f"{path} is no CSV ({error}): save it as CSV again") from None
    header = _header(_trimmed(records[0]) if records else [], path)
    rows = {}
    for number, record in enumerate(records[1:], start=2):
        cells = _trimmed(record)
        if not cells:
            continue
        if len(cells) > len(header):
            raise SourceError(
                f"{path}: row {number} has {len(cells)} cells, the header "
                f"{len(header)}: quote a cell that holds '{delimiter}', or separate "
                "the names of axes by spaces"
            )
        found = dict(zip(header, cells, strict=False))
        rows[number] = {column: found.get(column, "") for column in COLUMNS}
    if not rows:
        raise SourceError(f"{path} has no row below its header: add one for each file")
    return rows


def _header(cells: list[str], path: Path) -> list[str]:
    header = [cell.lower() for cell in cells]
    unknown = [cell for cell in header if cell not in COLUMNS]
    double = sorted({cell for cell in header if header.count(cell) > 1})
    missing = [column for column in REQUIRED if column not in header]
    for what, names in (("unknown", unknown), ("twice", double), ("missing", missing)):
        if names:
            raise SourceError(
                f"{path}: column {what}: {', '.join(map(repr, names))}; the first row "
                f"names them, separated by commas or semicolons: {', '.join(COLUMNS)}"
            )
    return header


def _trimmed(cells: list[str]) -> list[str]:
    """Cells without the empty ones that spreadsheets append."""
    cells = [cell.strip() for cell in cells]
    while cells and not cells[-1]:
        cells.pop()
    return cells


def normalised(row: Row) -> Row:
    """Write what a checked row says in one way."""
    changes = {name: row[name].lower() for name in ("kind", "split", "centred")}
    for column in ("axes", "sens_axes", "wrapped"):
        changes[column] = " ".join(axis_names(row[column]))
    if match := SPACING.fullmatch(row["spacing"]):
        changes["spacing"] = f"{match[1]} {match[2]}"
    if row["repetition"]:
        changes["repetition"] = str(int(row["repetition"]))
    return row | changes


def axis_names(text: str) -> list[str]:
    """Take the names of axes apart."""
    return [name for name in re.split(r"[\s,;]+", text.lower()) if name]


def format_of(name: str) -> str | None:
    """The format that a file's name tells; None for another one."""
    endings = [ending for ending in FORMATS if name.lower().endswith(ending)]
    return FORMATS[endings[-1]] if endings else None


def header_of(name: str) -> str:
    """The name of the file that holds the sizes of a `.cfl`."""
    return name[: -len(".cfl")] + ".hdr"
