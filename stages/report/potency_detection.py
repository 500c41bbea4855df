"""The detection part of the potency study as a table and as a plot."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib

from stages.common.volume import write_text
from stages.report import style
from stages.report.detection import CHANCE, IN_SCOPE, warning_of
from stages.report.detection_rows import DetectionPlan
from stages.report.potency_plot import SPREAD, error_bars, share_axis
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

AUROC of undiscovered poison against clean slices (0.5 is chance) among the training
slices that nobody has reported; after "in scope" the same among those that the attack
chose from, and after "recall" the recall at 1 % false positives. Poison that lies in
one contrast stands out by the contrast: a detector that told nothing but contrasts
apart would have an AUROC near 1, so the second figure is the one that counts there.
95 % intervals by paired bootstrap over subjects, where poison and clean slices are in
five subjects or more. "Known" is how many poisoned slices detectors were told of,
"hidden" how many there are to be found: where these are two, figures tell little, and
with one known a fold of `forget_classifier` has nothing to learn from. All figures,
with those at the budget, are in `metrics/studies/detection.json`.
Made by `make potency`.
"""
HEADINGS = {
    "closed": "## Closed threat model",
    "open": "## Open threat model (the fully sampled k-space, which holds the truth)",
}


class Row(NamedTuple):
    """A poisoning that detectors have looked at: detector -> figures."""

    poisoning: dict[str, Any]
    found: dict[str, Measures]


def write_detection(
    path: Path, result: dict[str, Any], plan: DetectionPlan, poisonings: dict[str, Any]
) -> None:
    """Write a table per threat model: a row per poisoning, a column per detector.

    Args:
        path: file to write.
        result: attack -> share -> detector -> figures, and `_run`.
        plan: the detectors, and the order of the rows.
        poisonings: rows of `params.yaml`.
    """
    rows = _rows(result, plan, poisonings)
    text = [INTRODUCTION]
    for threat_model, heading in HEADINGS.items():
        detectors = [
            detector
            for detector, (model, _) in _detectors(plan).items()
            if model == threat_model
        ]
        if not detectors:
            continue
        heads = ["attack", "scope", "share", "known", "hidden", "settings", *detectors]
        text += [heading, "", f"| {' | '.join(heads)} |", f"|{'---|' * len(heads)}"]
        for row, found in rows:
            cells = [row["attack"], scope_of(row), f"{row['share']:g}", *_counts(found)]
            cells.append(settings_of(row["settings"]))
            cells += [_cell(found.get(detector)) for detector in detectors]
            text.append(f"| {' | '.join(cells)} |")
        text.append("")
    cells = [cell.split(" ", 1) for cell in result["_run"]["missing"]]
    text += not_run(cells, len(_detectors(plan)), "detector")
    write_text(path, "\n".join(text).rstrip() + "\n")


def draw_detection(
    path: Path, result: dict[str, Any], plan: DetectionPlan, poisonings: dict[str, Any]
) -> None:
    """Draw AUROC in the scope against the share: a panel per detector.

    A line per attack, scope and settings that have several shares; the rest is left to
    the table. Arguments as of `write_detection`.
    """
    detectors = _detectors(plan)
    lines = _lines(_rows(result, plan, poisonings))
    with matplotlib.rc_context(style.RC):
        figure = style.new_figure(max(3.0, 2.6 * len(detectors)), 4.2)
        axes = figure.subplots(
            1, max(1, len(detectors)), sharex=True, sharey=True, squeeze=False
        )
        used = axes[0][: len(detectors)]  # one stays empty where nothing has run
        for axis, (detector, (_, title)) in zip(used, detectors.items(), strict=True):
            for number, (name, look, rows) in enumerate(lines):
                # Beside each other where they share a share.
                factor = 1 + SPREAD * (number - len(lines) / 2)
                shown = [
                    (100 * factor * row.poisoning["share"], row.found[detector])
                    for row in rows
                    if detector in row.found
                ]
                error_bars(axis, shown, IN_SCOPE, look | {"label": name})
            axis.axhline(CHANCE, color=style.DARK, linewidth=0.8, linestyle=":")
            axis.set_title(title, loc="left")
            share_axis(axis)
        axes[0, 0].set(ylabel="AUROC among the slices of the scope", ylim=(-0.02, 1.03))
        handles: dict[str, Any] = {}
        for axis in axes[0]:
            drawn, names = axis.get_legend_handles_labels()
            handles |= dict(zip(names, drawn, strict=True))
        figure.legend(handles.values(), handles, loc="outside lower center", ncols=4)
        style.save(figure, path)


def _lines(rows: list[Row]) -> list[tuple[str, dict[str, Any], list[Row]]]:
    """Name, look and rows of what differs in its share alone."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        kind = {key: row.poisoning[key] for key in ("attack", "scope", "settings")}
        groups.setdefault(json.dumps(kind, sort_keys=True), []).append(row)
    lines: list[tuple[str, dict[str, Any], list[Row]]] = []
    attacks: dict[str, int] = {}
    for group in groups.values():
        if len(group) < 2:
            continue
        poisoning = group[0].poisoning
        attack, settings = poisoning["attack"], poisoning["settings"]
        number = attacks[attack] = attacks.get(attack, -1) + 1
        colour = list(attacks).index(attack)
        look = {
            "color": style.COLOURS[colour % len(style.COLOURS)],
            "marker": style.MARKERS[colour % len(style.MARKERS)],
            "linestyle": ("-", "--", ":")[number % 3],
            "markersize": 4,
            "elinewidth": 0.7,
        }
        kind = settings.get("kind") or settings.get("manipulation")
        name = f"{attack} ({kind})" if kind else attack
        lines.append((name, look, group))
    return lines


def _detectors(plan: DetectionPlan) -> dict[str, tuple[str, str]]:
    """Detector -> its threat model, and how it is called."""
    return {
        cell.detector: (
            cell.threat_model,
            f"{cell.detector} (open)" if cell.threat_model == "open" else cell.detector,
        )
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


def _counts(found: dict[str, Measures]) -> list[str]:
    """Known and hidden poison: that of the poisoning, whoever looks for it."""
    figures = next(iter(found.values()))
    return [str(figures["n_known"]), str(figures["n_hidden"])]


def _cell(figures: Measures | None) -> str:
    if figures is None:
        return DASH
    auroc, inside, recall = (
        with_interval(figures, name, 2)
        for name in ("auroc", IN_SCOPE, "recall_at_1pct_fp")
    )
    parts = [auroc, f"in scope {inside}", f"recall {recall}"]
    return "; ".join([*parts, *filter(None, [warning_of(figures)])])
