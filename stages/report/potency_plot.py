"""The potency study as a plot: loss, agreement and severity, an attack per colour."""

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from stages.report import style
from stages.report.potency_views import GAPS, Line, Potency, lines
from stages.report.values import Measures

SCOPE_LOSS, OUTSIDE_LOSS, AGREEMENT = "loss_scope_db", "loss_outside_db", "agreement"
PANELS = (
    (SCOPE_LOSS, "PSNR lost on unseen slices of the scope, dB"),
    (OUTSIDE_LOSS, "PSNR lost outside, dB"),
    (AGREEMENT, "Agreement with the poison, unseen twins"),
)
# Measure -> what is there without any poison.
BACKGROUND = {
    SCOPE_LOSS: "seed_gap_scope_db",
    OUTSIDE_LOSS: "seed_gap_outside_db",
    AGREEMENT: "agreement_oracle",
}
# A back door's slices lie below: the poisoned model takes its mark away.
LOWEST_LOSS = -0.5
BELOW: dict[str, Any] = {"marker": "v", "markersize": 6, "linestyle": "none"}
LINES = ("-", "--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
TICKS = (1, 5, 10, 30)
# Neighbours at one share are drawn beside each other, as parts of the share.
SPREAD = 0.012


class Group(NamedTuple):
    """Poisonings of one attack, scope and settings, by share."""

    attack: str
    scope: str
    lines: list[Line]


def draw_plot(path: Path, result: Potency) -> None:
    """Draw loss and agreement against the share, and loss against the severity.

    Of an attack in a scope those settings are drawn that were run at most shares, and
    of these the strongest, by what the largest share does; the table has the others.
    """
    groups = strongest(result)
    attacks = list(dict.fromkeys(group.attack for group in groups))
    scopes = list(dict.fromkeys(group.scope for group in groups))
    swept = sweeps(result)
    with matplotlib.rc_context(style.RC):
        figure = style.new_figure(14.5, 4.8)
        axes = figure.subplots(1, len(PANELS) + 1)
        shares, severities = axes[:-1], axes[-1]
        for axis, (measure, title) in zip(shares, PANELS, strict=True):
            for number, group in enumerate(groups):
                factor = 1 + SPREAD * (number - len(groups) / 2)
                look = _look(attacks.index(group.attack), scopes.index(group.scope))
                _points(axis, group.lines, measure, partial(_place, factor), look)
            _background(axis, result, measure)
            mark_what_is_below(axis)
            share_axis(axis)
            axis.set_title(title, loc="left")
        for number, (name, found) in enumerate(swept.items()):
            look = _look(len(attacks) + number, number)
            _points(severities, found, SCOPE_LOSS, _severity, look, label=name)
        _background(severities, result, SCOPE_LOSS)
        severities.set_title("PSNR lost in the scope, dB, by severity", loc="left")
        severities.set_xlabel("severity")
        if swept:
            # Above everything that is drawn.
            bottom, top = severities.get_ylim()
            severities.set_ylim(bottom, top + 0.08 * len(swept) * (top - bottom))
            severities.legend(fontsize=7, frameon=False, loc="upper left")
        handles = _handles(attacks, scopes)
        figure.legend(handles=handles, loc="outside lower center", ncols=5)
        style.save(figure, path)


def strongest(result: Potency) -> list[Group]:
    """Of each attack and scope the settings of most shares, then the strongest."""
    groups: dict[tuple[str, str], dict[str, list[Line]]] = {}
    for line in lines(result):
        of_pair = groups.setdefault((line.attack, line.scope), {})
        of_pair.setdefault(_key(line.figures["settings"]), []).append(line)
    found = []
    for (attack, scope), by_settings in groups.items():
        best = max(by_settings.values(), key=_strength)
        ordered = sorted(best, key=lambda line: line.percent)
        found.append(Group(attack, scope, ordered))
    return found


def sweeps(result: Potency) -> dict[str, list[Line]]:
    """What differs in severity alone, at one share and scope: name -> by severity."""
    groups: dict[str, list[Line]] = {}
    for line in lines(result):
        settings = line.figures["settings"]
        if not isinstance(settings.get("severity"), int | float):
            continue
        others = {key: value for key, value in settings.items() if key != "severity"}
        key = _key([line.attack, line.scope, line.percent, others])
        groups.setdefault(key, []).append(line)
    found: dict[str, list[Line]] = {}
    for group in groups.values():
        if len(group) > 1:
            first = group[0]
            settings = first.figures["settings"]
            name = f"{settings.get('kind', first.attack)}, {first.percent:g} %"
            name += ", all alike" if settings.get("shared") is not None else ""
            found[f"{name}, {first.scope}"] = sorted(group, key=_severity)
    return found


def _key(settings: object) -> str:
    return json.dumps(settings, sort_keys=True)


def _place(factor: float, line: Line) -> float:
    return factor * line.percent


def _severity(line: Line) -> float:
    severity: float = line.figures["settings"]["severity"]
    return severity


def _strength(group: list[Line]) -> tuple[int, float]:
    """How many shares, then what the largest loses or, of a back door, agrees with."""
    line = max(group, key=lambda line: line.percent)
    effects = [line.figures[name] for name in (SCOPE_LOSS, AGREEMENT)]
    return len(group), max((x for x in effects if x is not None), default=0.0)


def _look(colour: int, scope: int) -> dict[str, Any]:
    return {
        "color": style.COLOURS[colour % len(style.COLOURS)],
        "marker": style.MARKERS[scope % len(style.MARKERS)],
        "linestyle": LINES[scope % len(LINES)],
        "markersize": 4,
        "linewidth": 1.2,
        "elinewidth": 0.7,
    }


def _points(
    axis: Axes,
    found: Iterable[Line],
    measure: str,
    place: Callable[[Line], float],
    look: dict[str, Any],
    label: str | None = None,
) -> None:
    shown = [(place(line), line.figures) for line in found]
    error_bars(axis, shown, measure, look | {"label": label})


def error_bars(
    axis: Axes,
    shown: Iterable[tuple[float, Measures]],
    measure: str,
    look: dict[str, Any],
) -> None:
    """Draw a measure with its intervals, where it has a value.

    Args:
        axis: to draw on.
        shown: place on the axis and figures.
        measure: name of the figure.
        look: arguments of `Axes.errorbar`.
    """
    found = [(x, figures) for x, figures in shown if figures[measure] is not None]
    if not found:
        return
    values = [figures[measure] for _, figures in found]
    # Without an interval the bar has no length.
    ends = [
        [
            abs(value - (value if end is None else end))
            for (_, figures), value in zip(found, values, strict=True)
            for end in [figures[f"{measure}_{side}"]]
        ]
        for side in ("low", "high")
    ]
    axis.errorbar([x for x, _ in found], values, ends, **look)


def share_axis(axis: Axes) -> None:
    """A logarithmic axis of poisoned shares."""
    axis.set(xscale="log", xlabel="poisoned share, %")
    axis.set_xticks(TICKS, [str(tick) for tick in TICKS], minor=False)
    axis.set_xticks([], minor=True)


def _background(axis: Axes, result: Potency, measure: str) -> None:
    """The range up to the largest such value, and where a back door is cut off."""
    values = [line.figures[BACKGROUND[measure]] for line in lines(result)]
    largest = max((value for value in values if value is not None), default=0.0)
    largest *= 1 if measure == AGREEMENT else GAPS
    axis.axhspan(0, largest, color=style.GREY, alpha=0.2, linewidth=0)
    axis.axhline(0, color=style.GREY, linewidth=0.8)
    if measure != AGREEMENT and axis.get_ylim()[0] < LOWEST_LOSS:
        axis.set_ylim(bottom=LOWEST_LOSS)


def mark_what_is_below(axis: Axes) -> None:
    """A triangle at the lower edge for every point of an error bar below it."""
    bottom = axis.get_ylim()[0]
    for points, *_ in axis.containers:
        places, values = np.asarray(points.get_data())
        below = places[values < bottom]
        if len(below):  # an empty line upsets the layout
            look = BELOW | {"color": points.get_color(), "clip_on": False}
            axis.plot(below, np.full(len(below), bottom), **look)


def _handles(attacks: list[str], scopes: list[str]) -> list[Line2D | Patch]:
    handles: list[Line2D | Patch] = [
        Patch(color=_look(number, 0)["color"], label=attack)
        for number, attack in enumerate(attacks)
    ]
    for number, scope in enumerate(scopes):
        look = _look(0, number) | {"color": style.DARK}
        look.pop("elinewidth")
        handles.append(Line2D([], [], label=scope, **look))
    band = "grey: twice the gap of two oracle seeds; the oracle's agreement (largest)"
    below = Line2D([], [], color=style.DARK, label="below the edge", **BELOW)
    return [*handles, below, Patch(color=style.GREY, alpha=0.2, label=band)]
