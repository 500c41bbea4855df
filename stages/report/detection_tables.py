"""What the detectors find, as Markdown and as CSV; threat models apart."""

from typing import Any

import pandas as pd

from stages.report.detection import FIGURES, figures_of
from stages.report.detection_rows import DetectionCell, DetectionPlan
from stages.report.settings import RETRAIN

TITLES = (
    "AUROC",
    "average precision",
    "precision at budget",
    "recall at budget",
    "recall at 1 % false positives",
)
DASH = "–"
INTRODUCTION = """\
# Detection

How well each detector's scores separate undiscovered poison from clean slices, among
the training slices that nobody has reported. Budget: as many suspects as slices have
been reported. Brackets: 95 % bootstrap over subjects. Every measure is defined in
`stages/report/README.md`.
"""
CLOSED = """\
## Closed threat model

The detectors see masked k-space, exported targets and the poisoned model.
"""
OPEN = """\
## Open threat model

These see the fully sampled k-space, which holds the truth: no scenario uses them.
"""


def detection_markdown(summary: dict[str, Any], plan: DetectionPlan) -> str:
    """A table per threat model, and what became of the suspects."""
    parts = [INTRODUCTION]
    for threat_model, heading in (("closed", CLOSED), ("open", OPEN)):
        cells = [cell for cell in plan.cells if cell.threat_model == threat_model]
        if cells:
            parts.append(heading)
            parts.append("\n".join(_table(summary, cells)) + "\n")
    parts.append("\n".join(_forgotten(plan)))
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
        lines.append(
            _line([*row, "**below chance**" if values["below_chance"] else ""])
        )
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


def _forgotten(plan: DetectionPlan) -> list[str]:
    """Which rows of the results answer the paper's 5.1."""
    lines = [
        "## From detected to forgotten\n",
        f"`filter_retrain`, the paper's 5.1 (detect, then train from scratch on the "
        f"rest), is the row `{RETRAIN}` of a scenario whose forget set is detected.\n",
    ]
    if not plan.scenarios:
        return [*lines, "The grid has no such scenario."]
    lines.append(_line(["scenario", "poisoning", "detector", "suspects", "row"]))
    lines.append(_line(["---"] * 5))
    for name, row in plan.scenarios.items():
        amount = "as many as reported"
        if isinstance(row.budget, float):
            amount = f"{100 * row.budget:.3g} % of the training slices"
        amount += ", and the reported ones" if row.with_tips else ""
        where = f"`{RETRAIN}` of `{name}` in `results.md`"
        lines.append(_line([name, row.poisoning, f"{row.detected}", amount, where]))
    return lines


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def detection_csv(summary: dict[str, Any], plan: DetectionPlan) -> str:
    """All detectors in one table, a row per poisoning and detector."""
    ends = [f"{name}{end}" for name in FIGURES for end in ("", "_low", "_high")]
    counts = ["n_slices", "n_subjects", "n_poisoned", "n_hidden", "n_known"]
    header = ["threat_model", "attack", "share", "poisoning", "detector"]
    header += [*counts, *ends, "below_chance"]
    rows = [{**cell._asdict(), **figures_of(summary, cell)} for cell in plan.cells]
    table = pd.DataFrame(rows, columns=header)
    return table.to_csv(index=False, lineterminator="\n")
