"""Lines that `dvc plots` draws: a small CSV each, so that each has its own colour."""

import csv
import io
from collections import Counter
from typing import Any

import pandas as pd

from stages.report.settings import Plan

# Folder under metrics/plots -> (measure of the summary, column that is drawn).
BY_SHARE = {
    "healing": ("healing_scope_test", "healing"),
    "damage": ("damage_outside_db", "damage_outside_db"),
}


def series(
    summary: dict[str, Any], curves: dict[str, pd.DataFrame], plan: Plan
) -> dict[str, str]:
    """Every series of the run.

    Args:
        summary: scenario -> model -> measure.
        curves: training curve of each base model, by cell.
        plan: what is in the grid.

    Returns:
        File name under metrics/plots -> its text.
    """
    files = {
        f"validation/{cell.replace('/', '-')}.csv": _validation(curve)
        for cell, curve in curves.items()
    }
    for folder, (measure, column) in BY_SHARE.items():
        for method in plan.scenarios[0].methods:
            text = _by_share(summary, plan, method, measure, column)
            files[f"{folder}/{method}.csv"] = text
    return files


def _validation(curve: pd.DataFrame) -> str:
    """Epochs without validation are left out: DVC draws an empty cell as 0."""
    columns = ["epoch", "val_loss", "val_psnr", "val_ssim"]
    return curve[columns].dropna().to_csv(index=False, lineterminator="\n")


def _by_share(
    summary: dict[str, Any], plan: Plan, method: str, measure: str, column: str
) -> str:
    """A method's line over the poisoned shares of the most common family of attacks."""
    families = Counter(scenario.family for scenario in plan.scenarios)
    family = families.most_common(1)[0][0]
    points = [
        (scenario.share, summary[scenario.name][method][measure])
        for scenario in plan.scenarios
        if scenario.family == family
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["share", column])
    writer.writerows(sorted(point for point in points if point[1] is not None))
    return text.getvalue()
