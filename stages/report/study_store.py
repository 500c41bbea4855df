"""What the committed figures of studies have in common: JSON of finite numbers.

Input: the file of a study's figures.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from stages.report.study_cells import Key, StudyCell
from stages.report.values import Measures

MEND = "restore it from git, or remove it to run the study anew"


def read_json(path: Path) -> Any:
    """The content of a file of figures; nothing where no study has run.

    Raises:
        ValueError: it is no JSON, or holds a number that is not finite.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, parse_constant=_refuse)
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}): {MEND}") from None


def _refuse(constant: str) -> None:
    # Python reads NaN and Infinity, and would not write them again.
    raise ValueError(f"{constant} is no JSON")


def items_of(path: Path, node: Any, place: str) -> list[tuple[str, Any]]:
    """Names and contents of a mapping.

    Args:
        path: of the file that it is from.
        node: what should be a mapping.
        place: in that file.

    Raises:
        ValueError: it is none.
    """
    if not isinstance(node, dict):
        raise ValueError(
            f"{path} is damaged: {place} holds {node!r}, no mapping: {MEND}"
        )
    return list(node.items())


def digests_of(cells: Iterable[StudyCell]) -> dict[Key, str]:
    """Cell -> the digest that its figures have to have."""
    return {cell.key: cell.digest for cell in cells}


def is_current(figures: Measures, key: Key, digests: Mapping[Key, str]) -> bool:
    """Whether figures claim to be those of the present tree.

    Others are measured anew, and may lack what is measured since.
    """
    return key in digests and figures.get("digest") == digests[key]


def check_numbers(
    path: Path, figures: Measures, names: Iterable[str], place: str
) -> None:
    """Refuse figures of which one is missing, or neither null nor a finite number.

    Raises:
        ValueError: names the first, its place and what was found.
    """
    for name in names:
        if not _is_number(figures.get(name, "")):
            refuse_value(path, figures, name, place)


def refuse_value(path: Path, figures: Measures, name: str, place: str) -> NoReturn:
    """Say that a figure is missing or of the wrong kind.

    Raises:
        ValueError: always.
    """
    found = repr(figures[name]) if name in figures else "missing"
    raise ValueError(f"{path} is damaged: '{name}' of {place} is {found}: {MEND}")


def _is_number(value: Any) -> bool:
    if value is None:
        return True
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)
