"""Figures that earlier runs of the potency study have left, in whatever clone.

Input: `metrics/potency.json` (attack -> scope -> share -> figures) and
`metrics/studies/detection.json` (attack -> share -> detector -> figures).
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from stages.common import paths
from stages.report.detection import FIGURES
from stages.report.potency_figures import NUMBERS
from stages.report.study_cells import Key
from stages.report.study_store import (
    MEND,
    check_numbers,
    is_current,
    items_of,
    read_json,
    refuse_value,
)
from stages.report.values import Measures

POTENCY = paths.METRICS / "potency.json"
FOLDER = paths.METRICS / "studies"
DETECTION = FOLDER / "detection.json"
LEVELS = 3
ENDS = tuple(f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high"))


def read_store(digests: Mapping[Key, str]) -> dict[Key, Measures]:
    """All figures there are; none where no study has run.

    Args:
        digests: cell -> that of the present tree. Figures of another one are out of
            date, and only asked what they are of.

    Raises:
        ValueError: a file is damaged; names it, the place and what to do.
    """
    stored: dict[Key, Measures] = {}
    for path in (POTENCY, DETECTION):
        for keys, figures in _walk(path, read_json(path), ()):
            place = _place(keys)
            _check_text(path, figures, "poisoning", place)
            key = (figures["poisoning"], keys[-1] if path == DETECTION else "")
            if key in stored:
                raise ValueError(f"{path} has {' '.join(key).strip()} twice: {MEND}")
            if is_current(figures, key, digests):
                _check(path, figures, place)
            stored[key] = figures
    return stored


def _walk(
    path: Path, node: Any, keys: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Measures]]:
    for key, inner in items_of(path, node, _place(keys)):
        if len(keys) == LEVELS - 1:
            items_of(path, inner, _place((*keys, key)))
            yield (*keys, key), inner
        elif keys or not key.startswith("_"):
            yield from _walk(path, inner, (*keys, key))


def _check(path: Path, figures: Measures, place: str) -> None:
    if path == POTENCY:
        if not isinstance(figures.get("settings"), dict):
            refuse_value(path, figures, "settings", place)
        check_numbers(path, figures, NUMBERS, place)
    else:
        _check_text(path, figures, "threat_model", place)
        check_numbers(path, figures, ENDS, place)


def _check_text(path: Path, figures: Measures, name: str, place: str) -> None:
    if not isinstance(figures.get(name), str):
        refuse_value(path, figures, name, place)


def _place(keys: tuple[str, ...]) -> str:
    return " > ".join(keys) or "the file"
