"""Heatmap, healing against share, convergence."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from stages.common import paths
from stages.report import style
from stages.report.settings import FIRST_ORACLE, ORACLE_CONTINUE, Plan, Scenario

Summary = dict[str, Any]

HEATMAP_ROWS = (
    ("retain", "retain, clean truth"),
    ("forget", "forget, clean truth"),
    ("forget_vs_poison", "forget, exported target*"),
)
COLOURED_ROWS = 2
HEATMAPS = (
    ("ssim", "SSIM (higher is better)", "viridis", "{:.3f}"),
    ("psnr", "PSNR, dB (higher is better)", "viridis", "{:.1f}"),
    ("nmse", "NMSE (lower is better)", "viridis_r", "{:.3f}"),
)
NOTE = (
    "* likeness to the poison, not coloured: a model that was never trained is far "
    "from it too"
)


def heatmap_scenario(plan: Plan) -> Scenario:
    """The scenario with the most poison; the first of equals."""
    return max(plan.scenarios, key=lambda scenario: scenario.share)


def heatmap(summary: Summary, scenario: Scenario) -> Figure:
    """SSIM, PSNR and NMSE × forget and retain × model (the paper's Fig. 6)."""
    models = list(scenario.cells)
    measured = [summary[scenario.name][name] for name in models]
    with matplotlib.rc_context(style.RC):
        figure = style.new_figure(1.0 * len(models) + 3.2, 6.2)
        axes = figure.subplots(len(HEATMAPS), 1, sharex=True)
        for axis, (measure, title, cmap, text) in zip(axes, HEATMAPS, strict=True):
            table = np.array(
                [
                    [values[f"{measure}_{row}"] for values in measured]
                    for row, _ in HEATMAP_ROWS
                ],
                dtype=float,
            )
            _heat(axis, table, cmap, text)
            axis.set_title(title, loc="left")
            axis.set_yticks(
                range(len(HEATMAP_ROWS)), [name for _, name in HEATMAP_ROWS]
            )
        axis.set_xticks(range(len(models)), [style.label(name) for name in models])
        axis.set_xlabel(NOTE, loc="left", fontsize=8, labelpad=8)
        figure.suptitle(
            f"{scenario.name}: {scenario.percent} of the training slices poisoned"
        )
    return figure


def _heat(axis: Axes, table: np.ndarray, cmap: str, text: str) -> None:
    quality = table[:COLOURED_ROWS]
    low, high = _colour_limits(quality)
    coloured = table.copy()
    coloured[COLOURED_ROWS:] = np.nan
    colours = matplotlib.colormaps[cmap].with_extremes(bad="#eeeeee")
    image = axis.imshow(coloured, cmap=colours, vmin=low, vmax=high, aspect="auto")
    for spot, value in np.ndenumerate(table):
        if np.isnan(value):
            continue
        red, green, blue, _ = image.cmap(image.norm(coloured[spot]))
        bright = 0.299 * red + 0.587 * green + 0.114 * blue > 0.5
        axis.text(
            spot[1], spot[0], text.format(value),
            ha="center", va="center", color="black" if bright else "white",
        )  # fmt: skip
    below, above = np.nanmin(quality) < low, np.nanmax(quality) > high
    extend = {(1, 1): "both", (1, 0): "min", (0, 1): "max"}.get(
        (int(below), int(above)), "neither"
    )
    axis.figure.colorbar(image, ax=axis, extend=extend, pad=0.01, aspect=12)
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def _colour_limits(table: np.ndarray) -> tuple[float, float]:
    """Whiskers of a box plot: one ruined model must not flatten all other colours."""
    values = table[np.isfinite(table)]
    if not values.size:
        return 0.0, 1.0
    first, third = np.percentile(values, [25, 75])
    reach = 1.5 * (third - first)
    low = float(max(values.min(), first - reach))
    high = float(min(values.max(), third + reach))
    return (low, high) if high > low else (low - 0.5, high + 0.5)


def convergence(curves: Mapping[str, pd.DataFrame]) -> Figure:
    """Validation PSNR and training loss by epoch.

    Args:
        curves: cell -> its curve; `oracle_continue` goes on where `oracle-0` ends.
    """
    with matplotlib.rc_context(style.RC):
        figure = style.new_figure(9.5, 3.8)
        left, right = figure.subplots(1, 2)
        poisonings = sorted({cell.partition("/")[2] for cell in curves} - {""})
        for cell, curve in curves.items():
            look = _curve_look(cell, poisonings)
            start = 0.0
            if cell == ORACLE_CONTINUE and FIRST_ORACLE in curves:
                start = float(curves[FIRST_ORACLE]["epoch"].max())
            for axis, column in ((left, "val_psnr"), (right, "train_loss")):
                known = curve.dropna(subset=[column])
                # A single epoch is a point, which no line shows.
                dot = {"marker": "o"} if len(known) == 1 else {}
                axis.plot(known["epoch"] + start, known[column], **look, **dot)
        left.set(xlabel="epoch", ylabel="PSNR, dB", title="Validation, clean truth")
        right.set(xlabel="epoch", ylabel="loss", title="Training, exported targets")
        left.set_ylim(bottom=_late_minimum(curves.values()))
        for axis in (left, right):
            axis.grid(alpha=0.25)
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        handles, names = left.get_legend_handles_labels()
        named = dict(zip(names, handles, strict=True))
        figure.legend(
            [*named.values()], [*named], loc="outside right center", frameon=False
        )
    return figure


def _late_minimum(curves: Iterable[pd.DataFrame]) -> float | None:
    """Where the last three quarters of training begin: the first steps are steep."""
    late = [
        known.iloc[len(known) // 4]
        for known in (curve["val_psnr"].dropna() for curve in curves)
        if len(known) > 3
    ]
    return min(late) if late else None


def _curve_look(cell: str, poisonings: list[str]) -> dict[str, Any]:
    family, _, poisoning = cell.partition("/")
    if not poisoning:
        line, label = {
            FIRST_ORACLE: ("-", "oracle"),
            ORACLE_CONTINUE: (":", "oracle, continue"),
        }.get(cell, ("--", "oracle, other seeds"))
        return {"color": style.DARK, "linestyle": line, "linewidth": 2, "label": label}
    colour = style.COLOURS[poisonings.index(poisoning) % len(style.COLOURS)]
    dropped = family == "drop_all"
    return {
        "color": colour,
        "linestyle": (0, (4, 2)) if dropped else "-",
        "linewidth": 1.4,
        "label": f"{'drop all' if dropped else 'poisoned'}: {poisoning}",
    }


def read_curves(plan: Plan) -> dict[str, pd.DataFrame]:
    """Training curves of the base models in the grid.

    Raises:
        ValueError: one is missing.
    """
    cells = [*plan.oracles, ORACLE_CONTINUE]
    for scenario in plan.scenarios:
        cells += [
            scenario.cells[model]
            for model in ("none", "drop_all")
            if model in scenario.cells
        ]
    return {cell: _read_curve(paths.curve(cell), cell) for cell in dict.fromkeys(cells)}


def _read_curve(path: Path, cell: str) -> pd.DataFrame:
    try:
        return pd.read_csv(path)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        raise ValueError(
            f"{path}: no training curve of cell '{cell}': run `dvc repro`"
        ) from None
