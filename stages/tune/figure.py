"""Regret of every objective on every method: a dot each, their mean as a bar."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from stages.common.volume import atomic_path
from stages.tune.objectives import RULES, VALIDATIONS
from stages.tune.summary import Summary, mean_regret

DPI = 150
# Okabe and Ito's palette, which the colour-blind tell apart.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#999999", "#999999")
TITLES = {"holdout": "contaminated hold-out", "trusted": "trusted validation"}
LABELS = {"own": "params.yaml", "blind": "blind"}
# Any: a checker knows every single key of matplotlib.
RC: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.family": "DejaVu Sans",
}


def draw(found: Summary, path: Path) -> None:
    """Write the figure: a row per scenario, a column per kind of validation."""
    matplotlib.use("agg")
    with matplotlib.rc_context(RC):
        figure = Figure(figsize=(8, 3 * len(found)), layout="constrained")
        axes = figure.subplots(
            len(found), len(VALIDATIONS), squeeze=False, sharey="row"
        )
        for row, (scenario, methods) in zip(axes, found.items(), strict=True):
            for axis, seen in zip(row, VALIDATIONS, strict=True):
                _panel(axis, methods, seen)
                axis.set_title(f"{scenario}, {TITLES[seen]}")
            row[0].set_ylabel("regret, dB")
        with atomic_path(path) as temporary:
            figure.savefig(
                temporary, dpi=DPI, format="png", metadata={"Software": None}
            )


def _panel(axis: Any, methods: dict[str, Any], seen: str) -> None:
    means = mean_regret(methods)
    names = [*(f"{rule}_{seen}" for rule in RULES), "own", "blind"]
    axis.bar(range(len(names)), [means[n] for n in names], color=COLOURS, alpha=0.5)
    for place, name in enumerate(names):
        values = [_regret(entry, name) for entry in methods.values()]
        # Apart by their order, so that equal ones are told.
        shifts = [0.5 * (i + 0.5) / len(values) - 0.25 for i in range(len(values))]
        axis.scatter(
            [place + shift for shift in shifts], values, s=12, color=COLOURS[place]
        )
    labels = [LABELS.get(name, name.removesuffix(f"_{seen}")) for name in names]
    axis.set_xticks(range(len(names)), labels)


def _regret(entry: dict[str, Any], name: str) -> float:
    if name == "own":
        return float(entry["own"]["regret_db"])
    if name == "blind":
        return float(entry["blind_regret_db"])
    return float(entry["objectives"][name]["regret_db"])
