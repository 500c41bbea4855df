"""What `dvc plots` draws: a CSV per plot, a line per value of its column `series`."""

import csv
import io
from collections import Counter
from typing import Any

import pandas as pd

from stages.report.settings import Plan

# Plot -> (measure of the summary, column that is drawn).
BY_SHARE = {
    "healing": ("healing_scope_test", "healing"),
    "damage": ("damage_outside_db", "damage_outside_db"),
}


def series(
    summary: dict[str, Any], curves: dict[str, pd.DataFrame], plan: Plan
) -> dict[str, str]:
    """Every plot of the run.

    Args:
        summary: scenario -> model -> measure.
        curves: training curve of each base model, by cell.
        plan: what is in the grid.

    Returns:
        File name under metrics/plots -> its text.
    """
    files = {
        f"{name}.csv": _by_share(summary, plan, measure, column)
        for name, (measure, column) in BY_SHARE.items()
    }
    return files | {"validation.csv": _validation(curves)}


def _validation(curves: dict[str, pd.DataFrame]) -> str:
    """Epochs without validation are left out: DVC draws an empty cell as 0."""
    parts = [
        curve[["epoch", "val_psnr"]].dropna().assign(series=cell)
        for cell, curve in curves.items()
    ]
    return pd.concat(parts).to_csv(index=False, lineterminator="\n")


def _by_share(summary: dict[str, Any], plan: Plan, measure: str, column: str) -> str:
    """Methods over the poisoned shares of the most common family of attacks."""
    families = Counter(scenario.family for scenario in plan.scenarios)
    family = families.most_common(1)[0][0]
    points = [
        (scenario.share, summary[scenario.name][method][measure], method)
        for method in plan.scenarios[0].methods
        for scenario in sorted(plan.scenarios, key=lambda scenario: scenario.share)
        if scenario.family == family
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["share", column, "series"])
    writer.writerows(point for point in points if point[1] is not None)
    return text.getvalue()
