"""The maps as tables, as heatmaps and as cost against healing."""

from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import textalloc
from matplotlib.axes import Axes

from stages.common.volume import write_text
from stages.report import style
from stages.report.potency_views import DASH, not_run, with_interval
from stages.report.settings import CONTROLS, NONE, ORACLE, ORACLE_CONTINUE, Map
from stages.report.values import Measures

Content = dict[str, Any]


class View(NamedTuple):
    """A measure as a map shows it: colours run over `limits`, and stop there."""

    measure: str
    title: str
    digits: int
    limits: tuple[float, float]


VIEWS = (
    View("healing_scope_test", "Healing, unseen slices of the scope", 2, (-1.0, 1.0)),
    View("healing_agreement_hidden", "Healing, mark of hidden poison", 2, (-1.0, 1.0)),
    View("damage_vs_continue_db", "Against `continue`, outside, dB", 2, (-1.0, 1.0)),
)
COLUMNS = (
    *((view.measure, view.title, view.digits) for view in VIEWS),
    (
        "damage_vs_continue_contrast_db",
        "Against `continue`, worst contrast outside, dB",
        2,
    ),
    ("damage_outside_worst_db", "Worst subject or contrast outside, dB", 2),
    ("damage_outside_db", "Against the poisoned model, outside, dB", 2),
    ("healing_hidden", "Healing, PSNR of hidden poison against its clean targets", 2),
    ("healing_drop_hidden", "Healing against drop-all, hidden poison", 2),
    ("healing_drop_scope_test", "Healing against drop-all, unseen slices", 2),
    ("psnr_scope_test", "PSNR, unseen slices of the scope, dB", 2),
    ("ssim_scope_test", "SSIM, unseen slices of the scope", 3),
    ("nmse_scope_test", "NMSE, unseen slices of the scope", 4),
    ("agreement_scope_test", "Agreement with the poison, unseen slices", 3),
    ("healing_agreement_scope_test", "Healing of that agreement", 2),
    ("membership_auroc", "Membership inference, hidden poison (0.5: chance)", 3),
    ("cost_share", "Cost", 3),
)
# Of a back door, which costs no PSNR, the agreement is what heals.
HEALING = ("healing_scope_test", "healing_agreement_scope_test")
HARM = VIEWS[2]
CHEAPEST = 0.003  # where what costs nothing is drawn
UNCOMPARED = (ORACLE, ORACLE_CONTINUE, NONE)  # not drawn: nobody can have them
BREAKS = -0.25  # what loses more outside is named, dB
# What lies beyond is drawn there, as a triangle: a ruined network must not press all
# others onto one line.
LOWEST, HIGHEST = -1.5, 1.35
NAMES: dict[str, Any] = {
    "textsize": 6,
    "linecolor": style.GREY,
    "linewidth": 0.5,
    "min_distance": 0.012,
    "max_distance": 0.15,
}

Point = tuple[float, float, float | None, str]


def models_of(row: Map, content: Content) -> list[str]:
    """Models that a map has figures of: controls first, then as the map lists them."""
    found = {model for name in row.scenarios for model in content.get(name, ())}
    ordered = [*CONTROLS, *row.methods]
    return [model for model in dict.fromkeys(ordered) if model in found]


def _shown(row: Map, content: Content) -> list[str]:
    """Scenarios that have figures."""
    return [key for key in row.scenarios if content.get(key)]


def write_table(path: Path, name: str, row: Map, content: Content) -> None:
    """Write a row per model and a column per scenario, one table a measure."""
    models = models_of(row, content)
    text = [
        f"# Map `{name}`",
        "",
        "Unseen test slices (outside the scope those of validation too), 95 % "
        "intervals by paired bootstrap over subjects; every measure is defined in "
        "`stages/report/README.md`. Cost is that of training from scratch on what is "
        "not known to be bad. Made by `make maps`.",
    ]
    shown = _shown(row, content)
    for measure, title, digits in COLUMNS:
        lines = []
        for model in models:
            figures = [content[key].get(model) for key in shown]
            cells = [_cell(values, measure, digits) for values in figures]
            if any(cell != DASH for cell in cells):
                lines.append(f"| {' | '.join([model, *cells])} |")
        if lines:
            text += ["", f"## {title}", "", *_header(["model", *shown]), *lines]
        elif reasons := _reasons(content, shown, measure):
            text += ["", f"## {title}", "", f"None: {'; '.join(reasons)}."]
    missing = [
        (key, model)
        for key in row.scenarios
        for model in row.methods
        if model not in content.get(key, {})
    ]
    text += not_run(missing, len(row.methods), "method")
    write_text(path, "\n".join(text) + "\n")


def _cell(figures: Measures | None, measure: str, digits: int) -> str:
    if figures is None:
        return DASH
    return with_interval(figures, measure, digits)


def _reasons(content: Content, scenarios: list[str], measure: str) -> list[str]:
    """Why a measure has no value in any of some scenarios."""
    key = f"{measure}_reason"
    figures = [values for name in scenarios for values in content[name].values()]
    return sorted({values[key] for values in figures if key in values})


def draw_map(path: Path, row: Map, content: Content) -> None:
    """Draw models × scenarios, a panel for each measure."""
    models = [model for model in models_of(row, content) if model not in (ORACLE, NONE)]
    shown = _shown(row, content)
    with matplotlib.rc_context(style.RC):
        width = 1.6 + len(VIEWS) * (0.75 * len(shown) + 0.6)
        figure = style.new_figure(max(width, 7.5), 2.0 + 0.27 * max(len(models), 1))
        axes = figure.subplots(1, len(VIEWS), sharey=True)
        for axis, view in zip(axes, VIEWS, strict=True):
            table = np.array(
                [
                    [_value(content, key, model, view.measure) for key in shown]
                    for model in models
                ],
                dtype=float,
            ).reshape(len(models), len(shown))
            _heat(axis, table, view)
            axis.set_title(view.title.replace(", ", ",\n", 1), loc="left")
            axis.set_xticks(range(len(shown)), shown, rotation=40, ha="right")
        axes[0].set_yticks(range(len(models)), [style.flat_label(m) for m in models])
        style.save(figure, path)


def _heat(axis: Axes, table: np.ndarray, view: View) -> None:
    low, high = view.limits
    colours = matplotlib.colormaps["RdBu"].with_extremes(bad="#eeeeee")
    # Where there is nothing yet, an empty panel stands.
    shown = table if table.size else np.full((1, max(table.shape[1], 1)), np.nan)
    axis.imshow(shown, cmap=colours, vmin=low, vmax=high, aspect="auto")
    for (line, column), value in np.ndenumerate(table):
        if np.isfinite(value):
            strong = abs(np.clip(value, low, high) - (low + high) / 2) > 0.35 * (
                high - low
            )
            text = f"{round(value, view.digits) + 0.0:.{view.digits}f}"
            colour = "white" if strong else "black"
            axis.text(
                column, line, text, ha="center", va="center", color=colour, size=7
            )
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)


def draw_costs(path: Path, row: Map, content: Content) -> None:
    """Draw healing against cost, a panel per scenario; colour tells what was broken.

    Named are models that nothing cheaper heals as well as, and those that break much.
    """
    shown = _shown(row, content) or [*row.scenarios[:1]]
    with matplotlib.rc_context(style.RC):
        columns = min(len(shown), 3)
        rows = -(-len(shown) // columns)
        figure = style.new_figure(3.6 * columns + 0.8, 3.1 * rows + 0.3)
        grid = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        axes = list(grid.flat)
        points = None
        names: list[tuple[Axes, list[Point]]] = []
        for axis, key in zip(axes[: len(shown)], shown, strict=True):
            found = _costs(axis, key, row, content)
            names.append((axis, found))
            points = _scatter(axis, found) or points
        for axis in axes[len(shown) :]:
            axis.set_visible(False)
        figure.supxlabel("cost / training from scratch")
        figure.supylabel("healing, unseen slices of the scope")
        if points is not None:
            bar = figure.colorbar(points, ax=axes, pad=0.01, aspect=30)
            bar.set_label("against `continue` outside of the scope, dB")
        # Names are put where there is room, so the panels have to have their places.
        figure.draw_without_rendering()
        for axis, found in names:
            _name(axis, found)
        style.save(figure, path)


def _costs(axis: Axes, key: str, row: Map, content: Content) -> list[Point]:
    plain, marked = HEALING
    models = models_of(row, content)
    seen = any(_value(content, key, model, plain) is not None for model in models)
    measure = plain if seen else marked
    axis.set_title(key if seen else f"{key} (agreement)", loc="left")
    axis.set_xscale("log")
    axis.set_xlim(CHEAPEST * 0.8, 2.5)
    axis.set_ylim(LOWEST - 0.1, HIGHEST + 0.2)
    axis.axhline(1, color=style.GREY, linewidth=0.8, linestyle=":")
    axis.axhline(0, color=style.GREY, linewidth=0.8)
    axis.axvline(1, color=style.GREY, linewidth=0.8, linestyle=":")
    found: list[Point] = []
    for model in models:
        cost = _value(content, key, model, "cost_share")
        healed = _value(content, key, model, measure)
        if model in UNCOMPARED or cost is None or healed is None:
            continue
        harm = _value(content, key, model, HARM.measure)
        shown = min(max(healed, LOWEST), HIGHEST)
        found.append((max(cost, CHEAPEST), shown, harm, model))
    return found


def _scatter(axis: Axes, found: list[Point]) -> Any:
    """Draw points; return some of them for the bar of colours, None where none are."""
    low, high = HARM.limits
    points = None
    for marker in "ov^":
        chosen = [point for point in found if _marker(point[1]) == marker]
        if chosen:
            xs, ys, harms, _ = zip(*chosen, strict=True)
            colours = [0.0 if harm is None else harm for harm in harms]
            points = axis.scatter(
                xs, ys, c=colours, marker=marker, cmap="RdBu", vmin=low, vmax=high,
                edgecolors=style.DARK, s=26,
            )  # fmt: skip
    return points


def _marker(healed: float) -> str:
    """Which way a point lies beyond the axis, if it does."""
    return "v" if healed <= LOWEST else "^" if healed >= HIGHEST else "o"


def _noted(found: list[Point], model: str) -> bool:
    """Whether a model is named: nothing cheaper heals as well, or it breaks much.

    What breaks much is nobody's rival.
    """
    x, y, harm = next(point[:3] for point in found if point[3] == model)
    rivals = [
        point
        for point in found
        if point[0] <= x and point[3] != model and not _breaks(point[2])
    ]
    return all(point[1] < y for point in rivals) or _breaks(harm)


def _breaks(harm: float | None) -> bool:
    return harm is not None and harm < BREAKS


def _name(axis: Axes, found: list[Point]) -> None:
    """Write the names of those that are noted where they cover nothing.

    A name goes to the right of its point if it can, so the rightmost is the first.
    """
    noted = sorted((p for p in found if _noted(found, p[3])), reverse=True)
    if noted:
        textalloc.allocate(
            axis,
            [point[0] for point in noted],
            [point[1] for point in noted],
            [point[3] for point in noted],
            x_scatter=[point[0] for point in found],
            y_scatter=[point[1] for point in found],
            **NAMES,
        )


def _value(content: Content, scenario: str, model: str, measure: str) -> float | None:
    figures = content.get(scenario, {}).get(model)
    value: float | None = figures[measure] if figures else None
    return value


def _header(titles: list[str]) -> list[str]:
    return [f"| {' | '.join(titles)} |", f"|{'---|' * len(titles)}"]
