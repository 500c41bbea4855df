"""The detection part of the potency study as a table and as a plot."""

from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.axes import Axes

from stages.common.volume import write_text
from stages.report import style
from stages.report.detection import CHANCE
from stages.report.detection_rows import DetectionPlan
from stages.report.potency_views import (
    DASH,
    not_run,
    scope_of,
    settings_of,
    with_interval,
)
from stages.report.values import Measures

INTRODUCTION = """\
# Detection: what each detector finds of each poisoning

AUROC of undiscovered poison against clean slices (0.5 is chance), and after the
semicolon the recall at 1 % false positives; among the training slices that nobody has
reported. 95 % intervals by paired bootstrap over subjects. A detector called open sees
the fully sampled k-space, which holds the truth. All figures, with those at the budget,
are in `metrics/studies/detection.json`. Made by `make potency`.
"""


class Row(NamedTuple):
    """A poisoning that detectors have looked at: detector -> figures."""

    poisoning: dict[str, Any]
    found: dict[str, Measures]


def write_detection(
    path: Path, result: dict[str, Any], plan: DetectionPlan, poisonings: dict[str, Any]
) -> None:
    """Write a row per poisoning and a column per detector, as Markdown.

    Args:
        path: file to write.
        result: attack -> share -> detector -> figures, and `_run`.
        plan: the detectors, and the order of the rows.
        poisonings: rows of `params.yaml`.
    """
    detectors = _detectors(plan)
    heads = ["attack", "scope", "share", "settings", *detectors.values()]
    text = [INTRODUCTION, f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
    for row, found in _rows(result, plan, poisonings):
        cells = [row["attack"], scope_of(row), f"{row['share']:g}"]
        cells.append(settings_of(row["settings"]))
        cells += [_cell(found.get(detector)) for detector in detectors]
        text.append(f"| {' | '.join(cells)} |")
    cells = [cell.split(" ", 1) for cell in result["_run"]["missing"]]
    text += not_run(cells, len(detectors), "detector")
    write_text(path, "\n".join(text) + "\n")


def draw_detection(
    path: Path, result: dict[str, Any], plan: DetectionPlan, poisonings: dict[str, Any]
) -> None:
    """Draw AUROC against the share: a panel per detector, a line per attack.

    What has another scope or other settings than the first of its attack is left to the
    table. Arguments as of `write_detection`.
    """
    detectors = _detectors(plan)
    groups: dict[str, list[Row]] = {}
    for row in _rows(result, plan, poisonings):
        group = groups.setdefault(row.poisoning["attack"], [])
        if not group or _like(row.poisoning, group[0].poisoning):
            group.append(row)
    with matplotlib.rc_context(style.RC):
        figure = style.new_figure(max(3.0, 2.6 * len(detectors)), 3.8)
        axes = figure.subplots(1, max(1, len(detectors)), sharey=True, squeeze=False)
        shown = axes[0][: len(detectors)]  # one stays empty where nothing has run
        for axis, (detector, title) in zip(shown, detectors.items(), strict=True):
            _draw(axis, groups, detector)
            axis.set_title(title, loc="left")
            axis.set_xlabel("poisoned share, %")
        axes[0, 0].set(ylabel="AUROC", ylim=(-0.02, 1.03))
        handles: dict[str, Any] = {}
        for axis in axes[0]:
            lines, names = axis.get_legend_handles_labels()
            handles |= dict(zip(names, lines, strict=True))
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=4)
        style.save(figure, path)


def _draw(axis: Axes, groups: dict[str, list[Row]], detector: str) -> None:
    for index, (attack, group) in enumerate(groups.items()):
        points = sorted(
            (100 * row.poisoning["share"], row.found[detector]["auroc"])
            for row in group
            if detector in row.found and row.found[detector]["auroc"] is not None
        )
        if points:
            axis.plot(
                *zip(*points, strict=True),
                color=style.COLOURS[index % len(style.COLOURS)],
                marker=style.MARKERS[index % len(style.MARKERS)],
                label=attack,
            )
    axis.axhline(CHANCE, color=style.DARK, linewidth=0.8, linestyle=":", label="chance")


def _detectors(plan: DetectionPlan) -> dict[str, str]:
    """Detector -> how it is called."""
    return {
        cell.detector: f"{cell.detector} (open)"
        if cell.threat_model == "open"
        else cell.detector
        for cell in plan.cells
    }


def _rows(
    result: dict[str, Any], plan: DetectionPlan, poisonings: dict[str, Any]
) -> list[Row]:
    """In the order of the plan, those that have figures."""
    places = {cell.poisoning: (cell.attack, cell.share_key) for cell in plan.cells}
    rows = []
    for name, (attack, share) in places.items():
        found = result.get(attack, {}).get(share)
        if found:
            rows.append(Row(poisonings[name], found))
    return rows


def _like(row: dict[str, Any], first: dict[str, Any]) -> bool:
    return all(row[key] == first[key] for key in ("scope", "settings"))


def _cell(figures: Measures | None) -> str:
    if figures is None:
        return DASH
    auroc, recall = (
        with_interval(figures, name, 2) for name in ("auroc", "recall_at_1pct_fp")
    )
    return f"{auroc}; {recall}"
