"""What may be wrong with the rows of a table of own files."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

from stages.common.paths import SPLITS
from stages.download.base import SourceError
from stages.download.folder_table import (
    FORMATS,
    SPACING,
    Numbered,
    Row,
    axis_names,
    format_of,
    header_of,
    locate,
)
from stages.download.placing import is_safe

KINDS = ("kspace", "image")
AXES = ("slice", "coil", "row", "column")
_WITHOUT_AXES = ("NumPy", "BART", "MATLAB")  # formats that do not name their axes
_WITH_KEYS = ("MATLAB", "HDF5")  # formats that hold several variables
_CONTRAST = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]*")
_SHOWN = 20


def check_rows(rows: Numbered, path: Path) -> None:
    """Check every row against the files beside the table.

    Args:
        rows: as they were read.
        path: the table.

    Raises:
        SourceError: naming what is wrong with which rows.
    """
    problems = [
        (number, problem)
        for check in (_file, _meaning, _axes, _variables, _image)
        for number, row in rows.items()
        for problem in check(row, path.parent)
    ]
    problems += [*_doubles(rows), *_repetitions(rows)]
    if not problems:
        return
    lines = [f"row {number}: {text}" for number, text in sorted(problems)]
    more = len(lines) - _SHOWN
    rest = [f"and {more} more"] if more > 0 else []
    raise SourceError(
        "\n".join([f"{path}: correct these rows:", *lines[:_SHOWN], *rest])
    )


def _file(row: Row, folder: Path) -> Iterator[str]:
    for column in ("file", "lesion"):
        name = row[column]
        if not name and column == "lesion":
            continue
        if not name or not is_safe(name):
            yield (
                f"{column} is {name!r}: name a file in {folder}, relative to it, with "
                "'/' and without '..'"
            )
        elif format_of(name) is None:
            yield f"{column} is {name!r}: expected a file {', '.join(FORMATS)}"
        elif locate(folder, name) is None:
            yield f"{folder / name} is missing: put it there, or correct the name"
        elif format_of(name) == "BART" and locate(folder, header_of(name)) is None:
            yield f"{folder / header_of(name)}, the header of {name!r}, is missing"


def _meaning(row: Row, _folder: Path) -> Iterator[str]:
    for column, allowed in (("kind", KINDS), ("split", ("", *SPLITS))):
        if row[column].lower() not in allowed:
            names = ", ".join(name or "nothing" for name in allowed)
            yield f"{column} is {row[column]!r}, expected one of {names}"
    if not re.search(r"[A-Za-z0-9]", row["subject"]):
        yield f"subject is {row['subject']!r}: it needs a letter a-z or a digit"
    if not _CONTRAST.fullmatch(row["contrast"]):
        yield (
            f"contrast is {row['contrast']!r}: use letters, digits and '-', as in "
            "synthesize.contrasts"
        )
    if row["repetition"] and not re.fullmatch(r"[0-9]{1,6}", row["repetition"]):
        yield f"repetition is {row['repetition']!r}, expected a whole number"
    if format_of(row["file"]) == "NIfTI" and row["kind"].lower() == "kspace":
        yield "kind is kspace, but NIfTI holds images: set kind to image"


def _axes(row: Row, _folder: Path) -> Iterator[str]:
    axes, kind = axis_names(row["axes"]), format_of(row["file"])
    needed = kind in _WITHOUT_AXES or (
        kind == "HDF5" and row["kind"].lower() == "image"
    )
    if not axes and needed:
        yield (
            f"axes is empty, and files of {kind} do not say what their axes are: name "
            "them in order, such as 'slice coil row column' ('-' for one of length 1)"
        )
    for column in ("axes", "sens_axes"):
        found = axis_names(row[column])
        if found:
            yield from _named(found, column)
    if kind == "NIfTI" and axes and sorted(axes) != ["column", "row", "slice"]:
        yield (
            f"axes is {row['axes']!r}: of NIfTI it may only order slice, row and "
            "column along x, y and z"
        )
    if "coil" in axes and row["sens_key"] and row["kind"].lower() == "image":
        yield "axes has coil, and sens_key names coil maps: an image has one of them"


def _named(found: list[str], column: str) -> Iterator[str]:
    names = [name for name in found if name != "-"]
    strange = [name for name in names if name not in AXES]
    if strange:
        yield f"{column} has {strange[0]!r}, expected {', '.join(AXES)} and '-'"
    elif len(set(names)) < len(names) or not {"row", "column"} <= set(names):
        yield f"{column} is {' '.join(found)!r}: name row and column, and no axis twice"
    elif column == "sens_axes" and "coil" not in names:
        yield "sens_axes has no coil: sensitivity maps have one"


def _variables(row: Row, _folder: Path) -> Iterator[str]:
    kind = format_of(row["file"])
    for column in ("key", "sens_key"):
        if row[column] and kind is not None and kind not in _WITH_KEYS:
            yield f"{column} is {row[column]!r}, but files of {kind} have no variables"
    if bool(row["sens_key"]) != bool(row["sens_axes"]):
        yield "sens_key and sens_axes go together: the maps' variable and its axes"
    if row["sens_key"] and row["kind"].lower() == "kspace":
        yield "sens_key is for images: k-space needs no maps"


def _image(row: Row, _folder: Path) -> Iterator[str]:
    kind, is_image = format_of(row["file"]), row["kind"].lower() == "image"
    if row["centred"].lower() not in ("", "yes", "no"):
        yield f"centred is {row['centred']!r}, expected yes or no"
    elif is_image and (row["centred"] or row["wrapped"]):
        yield "centred and wrapped are for k-space: leave them empty"
    elif not is_image and not row["centred"] and kind in _WITHOUT_AXES:
        yield (
            "centred is empty: yes if the zero frequency lies at n // 2 of both axes, "
            "no if it lies at 0"
        )
    if row["wrapped"] and not _is_wrapped(axis_names(row["wrapped"])):
        yield (
            f"wrapped is {row['wrapped']!r}, expected 'no', or the axes along which "
            "the image lies half a field of view off: row, column"
        )
    if row["spacing"]:
        match = SPACING.fullmatch(row["spacing"])
        if match is None or not min(float(match[1]), float(match[2])) > 0:
            yield f"spacing is {row['spacing']!r}, expected mm, such as '0.9 x 0.9'"
        if not is_image or kind == "NIfTI":
            what = "NIfTI carries it" if is_image else "k-space needs none"
            yield f"spacing is for images without it, and {what}: leave it empty"
    if row["lesion"] and not is_image:
        yield "lesion is for images: k-space has no grid to draw it on"
    elif row["lesion"] and kind != format_of(row["lesion"]):
        yield f"lesion is no {kind} file as the image is: their axes must be the same"


def _is_wrapped(found: list[str]) -> bool:
    return found == ["no"] or (set(found) <= {"row", "column"})


def _doubles(rows: Numbered) -> Iterator[tuple[int, str]]:
    def data(row: Row) -> tuple[str, ...]:
        return row["file"], row["key"]

    for number, other, row in _seen_before(rows, data):
        yield number, f"{row['file']} is in row {other} already: remove one"


def _repetitions(rows: Numbered) -> Iterator[tuple[int, str]]:
    def repetition(row: Row) -> tuple[str, ...]:
        number = row["repetition"]
        return (*scan(row), str(int(number)) if number.isdecimal() else number)

    def scan(row: Row) -> tuple[str, ...]:
        return row["subject"], row["contrast"]

    for number, other, row in _seen_before(rows, repetition):
        yield (
            number,
            f"row {other} is {row['contrast']} of {row['subject']} too: remove one, or "
            "number them in a column 'repetition'",
        )
    for number, other, row in _seen_before(rows, scan):
        for column in ("kind", "split"):
            if row[column].lower() != rows[other][column].lower():
                yield (
                    number,
                    f"{column} is {row[column]!r}, and row {other}, a repetition of "
                    f"it, has {rows[other][column]!r}: they must agree",
                )


def _seen_before(
    rows: Numbered, key: Callable[[Row], tuple[str, ...]]
) -> Iterator[tuple[int, int, Row]]:
    first: dict[tuple[str, ...], int] = {}
    for number, row in rows.items():
        other = first.setdefault(key(row), number)
        if other != number and row["file"]:
            yield number, other, row
