"""What the detectors find, as Markdown and as CSV; threat models apart."""

from typing import Any

import pandas as pd

from stages.report.detection import (
    FIGURES,
    WARNED,
    below_chance,
    figures_of,
    warning_of,
)
from stages.report.detection_rows import DetectionCell, DetectionPlan
from stages.report.filter_retrain import MODELS, NAME
from stages.report.potency_views import DASH, with_interval
from stages.report.settings import RETRAIN
from stages.report.values import Measures

TITLES = (
    "AUROC",
    "in the scope",
    "average precision",
    "precision at budget",
    "recall at budget",
    "recall at 1 % false positives",
)
INTRODUCTION = """\
# Detection

How well each detector's scores separate undiscovered poison from clean slices, among
the training slices that nobody has reported. Budget: as many suspects as slices have
been reported. Brackets: 95 % bootstrap over subjects. Every measure is defined in
`stages/report/README.md`.

Poison that lies in one contrast stands out by the contrast: a detector that told
nothing but contrasts apart would have an AUROC near 1. "In the scope" is the AUROC
among the slices that the attack chose from, where the contrast tells nothing.
"""
CLOSED = """\
## Closed threat model

The detectors see masked k-space, exported targets and the poisoned model.
"""
OPEN = """\
## Open threat model

These see the fully sampled k-space, which holds the truth: no scenario uses them.
"""


def detection_markdown(
    summary: dict[str, Any], plan: DetectionPlan, retrained: dict[str, Measures]
) -> str:
    """A table per threat model, and what became of the suspects.

    Args:
        summary: as `summarise_detection` returns it.
        plan: what is in the grid.
        retrained: as `filter_retrain` returns it.
    """
    parts = [INTRODUCTION]
    for threat_model, heading in (("closed", CLOSED), ("open", OPEN)):
        cells = [cell for cell in plan.cells if cell.threat_model == threat_model]
        if cells:
            parts.append(heading)
            parts.append("\n".join(_table(summary, cells)) + "\n")
    parts.append("\n".join(_forgotten(plan, retrained)))
    return "\n".join(parts).rstrip() + "\n"


def _table(summary: dict[str, Any], cells: list[DetectionCell]) -> list[str]:
    titles = ["poisoning", "attack", "poisoned", "detector", "hidden", "known", *TITLES]
    lines = [_line([*titles, "warning"])]
    lines.append(_line([*["---"] * 4, *["---:"] * (len(titles) - 4), "---"]))
    reasons: dict[str, None] = {}
    for cell in cells:
        values = figures_of(summary, cell)
        share = f"{100 * cell.share:.3g} %"
        row = [cell.poisoning, cell.attack, share, cell.detector]
        row += [str(values["n_hidden"]), str(values["n_known"])]
        row += [_cell(values, name, cell, reasons) for name in FIGURES]
        lines.append(_line([*row, warning_of(values)]))
    return [*lines, *(["", *reasons] if reasons else [])]


def _cell(
    values: dict[str, Any], name: str, cell: DetectionCell, reasons: dict[str, None]
) -> str:
    value = values[name]
    if value is None:
        reasons[f"{DASH} {cell.poisoning}: {values[f'{name}_reason']}  "] = None
        return DASH
    low, high = values[f"{name}_low"], values[f"{name}_high"]
    if low is None or high is None:
        return f"{value:.3f}"
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _forgotten(plan: DetectionPlan, retrained: dict[str, Measures]) -> list[str]:
    """The answer to the paper's 5.1."""
    lines = [
        "## From detected to forgotten\n",
        f"`{NAME}`, the paper's 5.1: from scratch on what the detector leaves. PSNR in "
        "dB on unseen test slices of the scope; `drop_all` is what a detector without "
        "an error would have led to. `make maps` adds a scenario whose detector errs "
        "(`metrics/maps/found.md`).\n",
    ]
    if not retrained:
        return [*lines, f"No scenario of the grid is detected and has `{RETRAIN}`."]
    heads = ["scenario", "poisoning", "detector", "taken for poison"]
    heads += ["suspects", "clean ones among them"]
    lines.append(_line([*heads, *MODELS, f"healing of `{NAME}`"]))
    lines.append(_line([*["---"] * 4, *["---:"] * (len(MODELS) + 3)]))
    for name, values in retrained.items():
        row = plan.scenarios[name]
        amount = "as many as reported"
        if isinstance(row.budget, float):
            amount = f"{100 * row.budget:.3g} % of the training slices"
        amount += ", and the reported ones" if row.with_tips else ""
        cells = [name, row.poisoning, f"{row.detected}", amount]
        cells += [str(values[count]) for count in ("n_suspects", "n_wrong")]
        for figure in (*(f"psnr_{model}" for model in MODELS), "healing"):
            known = figure in values  # there may be no drop_all
            cells.append(with_interval(values, figure, 2) if known else DASH)
        lines.append(_line(cells))
    return lines


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def detection_csv(summary: dict[str, Any], plan: DetectionPlan) -> str:
    """All detectors in one table, a row per poisoning and detector."""
    ends = [f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")]
    counts = ["n_slices", "n_subjects", "n_poisoned", "n_hidden", "n_known"]
    header = ["threat_model", "attack", "share", "poisoning", "detector"]
    header += [*counts, *ends, *map(below_chance, WARNED)]
    rows = [{**cell._asdict(), **figures_of(summary, cell)} for cell in plan.cells]
    table = pd.DataFrame(rows, columns=header)
    return table.to_csv(index=False, lineterminator="\n")
