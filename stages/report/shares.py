"""Figure: damage, healing and harm against the poisoned share."""

import textwrap
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from stages.report import style
from stages.report.settings import CONTINUE, DROP_ALL, NONE, Plan, Scenario

Summary = dict[str, Any]
Point = tuple[float, float, float | None, float | None]

# A ruined model must not squeeze the others: what lies beyond is marked at the edge.
HEALING_LIMITS = (-1.0, 1.5)
HARM_LIMITS = (-3.0, 1.5)


def shares_figure(summary: Summary, plan: Plan) -> Figure:
    """What the poison did, what each method undid, and what it broke elsewhere."""
    scenarios = sorted(plan.scenarios, key=lambda item: (_rank(plan, item), item.share))
    with matplotlib.rc_context(style.RC):
        figure = style.new_figure(max(7.5, 1.6 * len(scenarios) + 3.4), 9.2)
        top, middle, bottom = figure.subplots(3, 1, sharex=True)
        _damage(top, summary, scenarios)
        _methods(middle, summary, scenarios, "healing_scope_test", HEALING_LIMITS)
        _methods(bottom, summary, scenarios, "damage_outside_db", HARM_LIMITS)
        top.set(ylabel="PSNR lost, dB", title="Damage: oracle − poisoned, unseen scope")
        middle.set(ylabel="healing", title="Healing, unseen scope (1 = oracle)")
        bottom.set(
            ylabel="PSNR change, dB",
            title="Damage outside the scope (below 0 = harm)",
            xlabel="poisoned share of the training slices",
        )
        middle.axhline(1, color=style.DARK, linewidth=0.8, linestyle=":")
        _finish([top, middle, bottom], scenarios)
        figure.align_ylabels([top, middle, bottom])
        handles, names = middle.get_legend_handles_labels()
        figure.legend(handles, names, loc="outside right center", frameon=False)
    return figure


def _rank(plan: Plan, scenario: Scenario) -> int:
    """Larger families of scenarios first."""
    families = [item.family for item in plan.scenarios]
    order = sorted(set(families), key=lambda name: (-families.count(name), name))
    return order.index(scenario.family)


def _runs(scenarios: list[Scenario]) -> list[list[int]]:
    """Positions of scenarios that differ in their share alone: joined by lines."""
    runs: list[list[int]] = []
    for position, scenario in enumerate(scenarios):
        if position and scenario.family == scenarios[position - 1].family:
            runs[-1].append(position)
        else:
            runs.append([position])
    return runs


def _finish(axes: list[Axes], scenarios: list[Scenario]) -> None:
    ticks = [f"{item.percent}\n{item.name}" for item in scenarios]
    for axis in axes:
        axis.axhline(0, color=style.DARK, linewidth=0.8)
        axis.grid(axis="y", alpha=0.25)
        axis.set_xlim(-0.5, len(scenarios) - 0.5)
        axis.set_xticks(range(len(scenarios)), ticks)
        axis.tick_params(labelbottom=True)
        for run in _runs(scenarios)[1:]:
            axis.axvline(run[0] - 0.5, color=style.GREY, linewidth=0.8)


def _damage(axis: Axes, summary: Summary, scenarios: list[Scenario]) -> None:
    measure = "behind_oracle_scope_test_db"
    points = _points(summary, scenarios, NONE, measure, 0.0)
    _draw(axis, points, scenarios, color=style.DARK, marker="o")
    gaps = [
        summary[item.name]["oracle"]["seed_gap_scope_test_db"] for item in scenarios
    ]
    floor = np.array([np.nan if gap is None else gap for gap in gaps], dtype=float)
    wide = np.concatenate(
        [[position - 0.5, position + 0.5] for position in range(len(floor))]
    )
    axis.fill_between(
        wide, np.repeat(-floor, 2), np.repeat(floor, 2),
        color=style.GREY, alpha=0.4, linewidth=0,
        label="gap of two oracle seeds",
    )  # fmt: skip
    axis.legend(loc="upper left", frameon=False)


def _methods(
    axis: Axes,
    summary: Summary,
    scenarios: list[Scenario],
    measure: str,
    limits: tuple[float, float],
) -> None:
    methods = list(dict.fromkeys(name for item in scenarios for name in item.methods))
    drawn = [*methods, CONTINUE, DROP_ALL]
    shifts = np.linspace(-0.3, 0.3, len(drawn))
    for index, (model, shift) in enumerate(zip(drawn, shifts, strict=True)):
        grey = model in (CONTINUE, DROP_ALL)
        look = {
            "color": style.GREY if grey else style.COLOURS[index % len(style.COLOURS)],
            "marker": style.MARKERS[index % len(style.MARKERS)],
            "label": style.flat_label(model),
        }
        points = _points(summary, scenarios, model, measure, float(shift))
        _draw(axis, points, scenarios, limits=limits, **look)
    axis.set_ylim(*limits)
    for position, item in enumerate(scenarios):
        values = [summary[item.name][name][measure] for name in item.methods]
        if values and all(value is None for value in values):
            reason = summary[item.name][item.methods[0]][f"{measure}_reason"]
            axis.text(
                position, 0.06, textwrap.fill(reason, 14),
                transform=axis.get_xaxis_transform(),
                ha="center", va="bottom", color="#555555", fontsize=8,
            )  # fmt: skip


def _points(
    summary: Summary,
    scenarios: list[Scenario],
    model: str,
    measure: str,
    shift: float,
) -> dict[int, Point]:
    """Position of the scenario -> (x, value, low, high), where there is a value."""
    points: dict[int, Point] = {}
    for position, item in enumerate(scenarios):
        values = summary[item.name].get(model)
        if values is None or values[measure] is None:
            continue
        ends = values[f"{measure}_low"], values[f"{measure}_high"]
        points[position] = (position + shift, values[measure], *ends)
    return points


def _draw(
    axis: Axes,
    points: dict[int, Point],
    scenarios: list[Scenario],
    *,
    limits: tuple[float, float] | None = None,
    **look: Any,
) -> None:
    label = look.pop("label", None)
    axis.plot([], [], label=label, **look)
    for run in _runs(scenarios):
        chosen = [points[position] for position in run if position in points]
        xs, ys = [point[0] for point in chosen], [point[1] for point in chosen]
        axis.plot(xs, ys, linewidth=1, alpha=0.5, color=look["color"])
    for x, y, low, high in points.values():
        if low is not None and high is not None:
            axis.plot([x, x], [low, high], color=look["color"], linewidth=1.2)
        if limits and not limits[0] <= y <= limits[1]:
            _beyond(axis, x, y, limits, look["color"])
        else:
            axis.plot([x], [y], linestyle="none", markersize=5, **look)


def _beyond(
    axis: Axes, x: float, y: float, limits: tuple[float, float], colour: str
) -> None:
    """Mark a value outside of the axis at its edge, with the number."""
    edge, marker, side = (
        (limits[0], "v", "bottom") if y < limits[0] else (limits[1], "^", "top")
    )
    axis.plot([x], [edge], marker=marker, color=colour, markersize=7, clip_on=False)
    inwards = 0.05 * (limits[1] - limits[0]) * (1 if side == "bottom" else -1)
    axis.text(
        x, edge + inwards, f"{y:.1f}",
        ha="center", va=side, color=colour, fontsize=8, rotation=90,
    )  # fmt: skip
