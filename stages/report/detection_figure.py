"""Figure: how well each detector ranks, and what the classifier decided."""

import io
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.report import style
from stages.report.detection import (
    CHANCE,
    CLASSIFIER,
    IN_SCOPE,
    figures_of,
    most_poisoned,
)
from stages.report.detection_rows import DetectionPlan

CLASSES = ("clean", "poisoned")


def detection_figure(
    summary: dict[str, Any], plan: DetectionPlan, decisions: str
) -> Figure:
    """AUROC of each detector on each poisoning, beside a confusion matrix.

    Args:
        summary: as `summarise_detection` returns it.
        plan: what is in the grid.
        decisions: CSV of actual and predicted class; empty without a classifier.
    """
    poisonings = list(dict.fromkeys(cell.poisoning for cell in plan.cells))
    table = pd.read_csv(io.StringIO(decisions))
    with matplotlib.rc_context(style.RC):
        figure = style.new_figure(max(5.0, 1.5 * len(poisonings)) + 3.4, 4.6)
        widths = [max(5.0, 1.5 * len(poisonings)), 2.8]
        if table.empty:
            left = figure.subplots()
        else:
            left, right = figure.subplots(1, 2, width_ratios=widths)
            _confusion(right, table, most_poisoned(plan))
        _ranking(left, summary, plan, poisonings)
        handles, names = left.get_legend_handles_labels()
        figure.legend(
            handles, names, loc="outside lower center", ncols=3, frameon=False
        )
    return figure


def _ranking(
    axis: Axes, summary: dict[str, Any], plan: DetectionPlan, poisonings: list[str]
) -> None:
    detectors = list(dict.fromkeys(cell.detector for cell in plan.cells))
    shifts = np.linspace(-0.3, 0.3, len(detectors))
    opened = {cell.detector for cell in plan.cells if cell.threat_model == "open"}
    for index, (detector, shift) in enumerate(zip(detectors, shifts, strict=True)):
        colour = style.COLOURS[index % len(style.COLOURS)]
        colour = style.GREY if detector in opened else colour
        marker = style.MARKERS[index % len(style.MARKERS)]
        name = f"{detector} (open)" if detector in opened else detector
        axis.plot([], [], linestyle="none", marker=marker, color=colour, label=name)
        for cell in (cell for cell in plan.cells if cell.detector == detector):
            values = figures_of(summary, cell)
            if values["auroc"] is None:
                continue
            x = poisonings.index(cell.poisoning) + shift
            axis.plot([x], [values["auroc"]], marker=marker, markersize=5, color=colour)
            if values["auroc_low"] is not None:
                ends = [values["auroc_low"], values["auroc_high"]]
                axis.plot([x, x], ends, color=colour, linewidth=1.2)
            if values[IN_SCOPE] is not None:
                axis.plot(
                    [x + 0.05], [values[IN_SCOPE]], marker=marker, markersize=5,
                    color=colour, markerfacecolor="white",
                )  # fmt: skip
    axis.axhline(CHANCE, color=style.DARK, linewidth=0.8, linestyle=":")
    axis.set_ylim(-0.02, 1.03)
    axis.set_xlim(-0.5, len(poisonings) - 0.5)
    axis.set_xticks(
        range(len(poisonings)), [name.replace("-", "-\n", 1) for name in poisonings]
    )
    axis.grid(axis="y", alpha=0.25)
    title = "Undiscovered poison against clean slices (hollow: those of the scope)"
    axis.set(ylabel="AUROC", title=title)


def _confusion(axis: Axes, table: pd.DataFrame, poisoning: str) -> None:
    """Shares of each actual class, with counts (the paper's Fig. 3)."""
    counts = np.array(
        [
            [
                int(((table["actual"] == actual) & (table["predicted"] == guess)).sum())
                for guess in CLASSES
            ]
            for actual in CLASSES
        ]
    )
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    axis.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        axis.text(
            column, row, f"{counts[row, column]}\n{100 * share:.0f} %",
            ha="center", va="center", color="white" if share > 0.5 else style.DARK,
        )  # fmt: skip
    axis.set_xticks(range(len(CLASSES)), CLASSES)
    axis.set_yticks(range(len(CLASSES)), CLASSES)
    title = f"{CLASSIFIER} at 0.5,\n{poisoning}"
    axis.set(xlabel="predicted", ylabel="actual", title=title)
    axis.spines[:].set_visible(False)
