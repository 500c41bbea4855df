"""Figures that earlier runs of the potency study have left, in whatever clone.

Input: `metrics/potency.json` (attack -> scope -> share -> figures) and
`metrics/studies/detection.json` (attack -> share -> detector -> figures).
"""

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from stages.common import paths
from stages.report.detection import FIGURES
from stages.report.potency_figures import NUMBERS
from stages.report.study_cells import Key
from stages.report.values import Measures

POTENCY = paths.METRICS / "potency.json"
FOLDER = paths.METRICS / "studies"
DETECTION = FOLDER / "detection.json"
LEVELS = 3
MEND = "restore it from git, or remove it to run the study anew"


def read_store() -> dict[Key, Measures]:
    """All figures there are; none where no study has run.

    Raises:
        ValueError: a file is damaged; names it, the place and what to do.
    """
    ends = [f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")]
    stored: dict[Key, Measures] = {}
    for path, numbers, texts in (
        (POTENCY, NUMBERS, ()),
        (DETECTION, ends, ("threat_model",)),
    ):
        for keys, figures in _walk(path, _read(path), ()):
            _check(path, keys, figures, numbers, ("poisoning", *texts))
            key = (figures["poisoning"], keys[-1] if path == DETECTION else "")
            if key in stored:
                raise ValueError(f"{path} has {' '.join(key).strip()} twice: {MEND}")
            stored[key] = figures
    return stored


def _read(path: Path) -> Any:
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


def _walk(
    path: Path, node: Any, keys: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], Measures]]:
    if not isinstance(node, dict):
        raise ValueError(
            f"{path} is damaged: {_place(keys)} holds {node!r}, no mapping: {MEND}"
        )
    if len(keys) == LEVELS:
        yield keys, node
        return
    for key, inner in node.items():
        if keys or not key.startswith("_"):
            yield from _walk(path, inner, (*keys, key))


def _check(
    path: Path,
    keys: tuple[str, ...],
    figures: Measures,
    numbers: Sequence[str],
    texts: Sequence[str],
) -> None:
    if path == POTENCY and not isinstance(figures.get("settings"), dict):
        wrong = "settings"
    else:
        bad = [name for name in texts if not isinstance(figures.get(name), str)]
        bad += [name for name in numbers if not _is_number(figures.get(name, ""))]
        if not bad:
            return
        wrong = bad[0]
    found = repr(figures[wrong]) if wrong in figures else "missing"
    raise ValueError(
        f"{path} is damaged: '{wrong}' of {_place(keys)} is {found}: {MEND}"
    )


def _is_number(value: Any) -> bool:
    if value is None:
        return True
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _place(keys: tuple[str, ...]) -> str:
    return " > ".join(keys) or "the file"
