"""What all figures share: colours that the colour-blind tell apart, saving."""

from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from stages.common.volume import atomic_path
from stages.report.settings import (
    CONTINUE,
    DROP_ALL,
    NONE,
    ORACLE,
    ORACLE_CONTINUE,
)

DPI = 150
# Okabe and Ito's palette.
COLOURS = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#CC79A7",
    "#56B4E9",
    "#D55E00",
    "#8C6D31",
    "#5D3A9B",
)
MARKERS = "osD^vPX*"
GREY, DARK = "#999999", "#222222"
LABELS = {
    ORACLE: "oracle",
    ORACLE_CONTINUE: "oracle,\ncontinued",
    DROP_ALL: "drop all",
    NONE: "poisoned\n(none)",
    CONTINUE: "continue",
}

# Any: a checker knows every single key of matplotlib.
RC: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.family": "DejaVu Sans",
}


def label(model: str) -> str:
    """A model's name as a figure shows it."""
    return LABELS.get(model, model.replace("_", "\n"))


def flat_label(model: str) -> str:
    return label(model).replace("\n", " ")


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches; constrained layout keeps labels apart."""
    matplotlib.use("agg")
    return Figure(figsize=(width, height), layout="constrained")


def save(figure: Figure, path: Path) -> None:
    """Write a PNG whose bytes depend on its content alone."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=DPI, format="png", metadata={"Software": None})
