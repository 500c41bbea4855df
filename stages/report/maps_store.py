"""Figures that earlier runs of the maps have left, in whatever clone.

Input: `metrics/maps/figures.json` (scenario -> model -> figures).
"""

import json
import math
from typing import Any

from stages.common import paths
from stages.report.study_cells import Key
from stages.report.values import Measures

FOLDER = paths.METRICS / "maps"
FIGURES = FOLDER / "figures.json"
MEND = "restore it from git, or remove it to run the maps anew"
_ENDS = ("", "_low", "_high")

# What is kept of a model's measures in a scenario (stages/report/README.md).
WITH_INTERVAL = (
    "psnr_scope_val",
    "psnr_scope_test",
    "ssim_scope_test",
    "nmse_scope_test",
    "agreement_scope_test",
    "agreement_hidden",
    "behind_oracle_scope_test_db",
    "healing_scope_val",
    "healing_scope_test",
    "healing_hidden",
    "healing_drop_scope_test",
    "healing_drop_hidden",
    "healing_agreement_scope_test",
    "healing_agreement_hidden",
    "membership_auroc",
    "damage_outside_db",
    "damage_vs_continue_db",
    "damage_vs_continue_contrast_db",
    "score",
    "score_truth",
)
SINGLE = ("damage_outside_worst_db", "gradient_steps", "cost_share")
NUMBERS = (*(f"{name}{end}" for name in WITH_INTERVAL for end in _ENDS), *SINGLE)


def read_store() -> dict[Key, Measures]:
    """All figures there are; none where no map has been run.

    Raises:
        ValueError: the file is damaged; names the place and what to do.
    """
    try:
        content = json.loads(
            FIGURES.read_text(encoding="utf-8"), parse_constant=_refuse
        )
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise ValueError(f"{FIGURES} is damaged ({error}): {MEND}") from None
    stored: dict[Key, Measures] = {}
    for scenario, models in _items(content, "the file"):
        if scenario.startswith("_"):
            continue
        for model, figures in _items(models, scenario):
            _check(figures, f"{scenario} > {model}")
            stored[scenario, model] = figures
    return stored


def _items(node: Any, place: str) -> list[tuple[str, Any]]:
    if not isinstance(node, dict):
        raise ValueError(
            f"{FIGURES} is damaged: {place} holds {node!r}, no mapping: {MEND}"
        )
    return list(node.items())


def _check(figures: Any, place: str) -> None:
    found = dict(_items(figures, place))
    for name in NUMBERS:
        value = found.get(name, "missing")
        if value is not None and not _is_number(value):
            raise ValueError(
                f"{FIGURES} is damaged: '{name}' of {place} is {value!r}: {MEND}"
            )


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _refuse(constant: str) -> None:
    # Python reads NaN and Infinity, and would not write them again.
    raise ValueError(f"{constant} is no JSON")
