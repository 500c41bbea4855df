"""Sum up what luck does: the same poisons and methods under several training seeds.

Input: `metrics/seeds/<n>.json`, where n has been added to the seeds of the default grid
(scenario -> model -> figures).
Output: `metrics/seeds/seeds.json` (scenario -> measure -> model -> values by seed and
their mean, its 95 % interval, and their deviation), the same as tables and as a plot.

    python -m stages.report.seeds
"""

import argparse
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from scipy.special import stdtrit

from stages.common import paths
from stages.common.volume import write_text
from stages.report import style
from stages.report.settings import NONE, ORACLE
from stages.report.study_store import check_numbers, items_of, read_json
from stages.report.values import rounded

FOLDER = paths.METRICS / "seeds"
SUMMARY, TABLE, PLOT = (FOLDER / f"seeds.{kind}" for kind in ("json", "md", "png"))
CONFIDENCE = 0.95
LIMITS = (-1.0, 1.6)  # of the plot: a ruined network must not press the others flat


class View(NamedTuple):
    """A measure as the tables show it; `psnr` is the level that it is made of here."""

    measure: str
    title: str
    digits: int
    psnr: str | None = None


PSNR = View("psnr_scope_test", "PSNR, unseen slices of the scope, dB", 2)
GAIN = View(
    "gain_scope_test_db",
    "Gain over the poisoned model of the same seed, unseen slices of the scope, dB",
    2,
    PSNR.measure,
)
VIEWS = (
    PSNR,
    GAIN,
    View("healing_scope_test", "Healing, unseen slices of the scope", 2, PSNR.measure),
    View(
        "healing_scope_val",
        "Healing, validation slices of the scope",
        2,
        "psnr_scope_val",
    ),
    View("ssim_scope_test", "SSIM, unseen slices of the scope", 3),
    View("agreement_scope_test", "Agreement with the poison, unseen slices", 3),
    View("damage_outside_db", "Against the poisoned model, outside, dB", 2),
)
log = logging.getLogger(__name__)

# Seed -> scenario -> model -> figures.
Runs = dict[str, dict[str, dict[str, Any]]]


def read_runs() -> Runs:
    """All runs that there are.

    Raises:
        ValueError: there is none, or a file is damaged; names it and what to do.
    """
    files = {path.stem: path for path in FOLDER.glob("*.json") if path.stem.isdecimal()}
    numbers = [view.psnr or view.measure for view in VIEWS]
    runs: Runs = {}
    for seed in sorted(files, key=int):
        path, scenarios = files[seed], {}
        for scenario, models in items_of(path, read_json(path), "the file"):
            if scenario.startswith("_"):
                continue
            scenarios[scenario] = dict(items_of(path, models, scenario))
            for model, figures in scenarios[scenario].items():
                place = f"{scenario} > {model}"
                items_of(path, figures, place)
                check_numbers(path, figures, numbers, place)
        if scenarios:
            runs[seed] = scenarios
    if not runs:
        raise ValueError(f"{FOLDER} holds no run: `make seeds` makes them")
    return runs


def sum_up(runs: Runs) -> dict[str, Any]:
    """Scenario -> measure -> model -> values by seed, and what they say together."""
    found: dict[str, Any] = {}
    for scenario in dict.fromkeys(name for run in runs.values() for name in run):
        here = {seed: run[scenario] for seed, run in runs.items() if scenario in run}
        models = dict.fromkeys(model for run in here.values() for model in run)
        found[scenario] = {
            view.measure: _measured(view, here, models) for view in VIEWS
        }
    return found


def _measured(
    view: View, here: Mapping[str, Mapping[str, Any]], models: Iterable[str]
) -> dict[str, Any]:
    """Model -> values by seed, those that there are."""
    values = {
        model: {
            seed: value
            for seed, run in here.items()
            if (value := _value(view, run, model)) is not None
        }
        for model in models
    }
    return {model: _described(row) for model, row in values.items() if row}


def _value(view: View, run: Mapping[str, Any], model: str) -> float | None:
    if view.psnr is None:
        return _level(run, model, view.measure)
    after, before = (_level(run, name, view.psnr) for name in (model, NONE))
    if after is None or before is None:
        return None
    if view is GAIN:
        return rounded(after - before)
    # Of every seed, for the table is to show what luck does to it: the report leaves it
    # out where two oracles happen to lie far apart.
    best = _level(run, ORACLE, view.psnr)
    if best is None or best <= before:
        return None
    return rounded((after - before) / (best - before))


def _level(run: Mapping[str, Any], model: str, measure: str) -> float | None:
    value: float | None = run.get(model, {}).get(measure)
    return value


def _described(by_seed: Mapping[str, float]) -> dict[str, Any]:
    values = np.array([*by_seed.values()])
    found: dict[str, Any] = {"values": dict(by_seed), "mean": rounded(values.mean())}
    if len(values) > 1:
        sd = values.std(ddof=1)
        error = sd / np.sqrt(len(values))
        half = stdtrit(len(values) - 1, (1 + CONFIDENCE) / 2) * error
        found |= {
            "sd": rounded(sd),
            "low": rounded(values.mean() - half),
            "high": rounded(values.mean() + half),
        }
    return found


def write_table(path: Path, found: dict[str, Any]) -> None:
    """Write a table per scenario and measure: models by seed."""
    text = [
        "# Seeds",
        "",
        "The same poisoned slices, known slices and methods with other seeds of "
        "training and unlearning: seed n has n added to those of the default grid. "
        "Healing is between the poisoned model and the oracle of the same seed, so the "
        "oracle's luck is in it, and is given whatever the gap of two oracles; the "
        "oracle's gain is what the poison costs. Square "
        "brackets are 95 % intervals of the mean over seeds (by t), sd is between "
        "seeds. Every measure is defined in `stages/report/README.md`. Made by "
        "`make seeds`.",
    ]
    for scenario, measures in found.items():
        text += ["", f"## {scenario}"]
        for view in VIEWS:
            rows = measures[view.measure]
            seeds = sorted({s for row in rows.values() for s in row["values"]}, key=int)
            head = ["model", *(f"seed {seed}" for seed in seeds), "mean", "sd"]
            text += ["", f"### {view.title}", "", f"| {' | '.join(head)} |"]
            text.append(f"| --- |{' ---: |' * (len(head) - 1)}")
            for model, row in rows.items():
                cells = [_shown(row["values"].get(seed), view.digits) for seed in seeds]
                mean = _shown(row["mean"], view.digits)
                if "sd" in row:
                    low, high = (
                        _shown(row[end], view.digits) for end in ("low", "high")
                    )
                    mean = f"{mean} [{low}, {high}]"
                cells += [mean, _shown(row.get("sd"), view.digits)]
                text.append(f"| {' | '.join([model, *cells])} |")
    write_text(path, "\n".join(text) + "\n")


def _shown(value: float | None, digits: int) -> str:
    return "–" if value is None else f"{round(value, digits) + 0.0:.{digits}f}"


def draw(path: Path, found: dict[str, Any]) -> None:
    """Draw gains by model: a point per seed, a bar for the interval of the mean."""
    with matplotlib.rc_context(style.RC):
        figure = style.new_figure(0.5 + 4.2 * len(found), 3.4)
        axes = figure.subplots(1, len(found), sharey=True, squeeze=False)[0]
        for axis, (scenario, measures) in zip(axes, found.items(), strict=True):
            rows = {
                model: row
                for model, row in measures[GAIN.measure].items()
                if model != NONE
            }
            for x, row in enumerate(rows.values()):
                _draw_model(axis, x, row)
            axis.axhline(0, color=style.GREY, lw=0.8, ls=":")
            axis.set_xticks(range(len(rows)), [style.label(model) for model in rows])
            axis.tick_params(axis="x", labelsize=7)
            axis.set_title(scenario, loc="left")
            axis.set_ylim(LIMITS[0] - 0.08, LIMITS[1] + 0.08)
        axes[0].set_ylabel(
            "gain over the poisoned model,\nunseen slices of the scope, dB"
        )
        style.save(figure, path)


def _draw_model(axis: Axes, x: int, row: Mapping[str, Any]) -> None:
    """Points, mean and its interval; what a ruined network has, at the edge."""
    low, high = LIMITS
    values = np.array([*row["values"].values()])
    offsets = x + np.linspace(-0.18, 0.18, len(values))
    for marker, here in (
        ("v", values < low),
        ("^", values > high),
        ("o", (values >= low) & (values <= high)),
    ):
        shown = np.clip(values[here], low, high)
        axis.plot(offsets[here], shown, marker, color=style.COLOURS[0], ms=4)
    if "sd" in row and low < row["mean"] < high:
        axis.vlines(x, max(row["low"], low), min(row["high"], high), color=style.DARK)
    if low < row["mean"] < high:
        axis.hlines(row["mean"], x - 0.25, x + 0.25, color=style.DARK)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    return argparse.ArgumentParser(prog="python -m stages.report.seeds").parse_args(
        argv
    )


def main(argv: Sequence[str] | None = None) -> None:
    parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        runs = read_runs()
    except ValueError as error:
        log.error("%s", error)
        raise SystemExit(2) from None
    found = sum_up(runs)
    write_text(SUMMARY, json.dumps(found, indent=1, allow_nan=False) + "\n")
    write_table(TABLE, found)
    draw(PLOT, found)
    log.info("%s: seeds %s", TABLE, ", ".join(runs))


if __name__ == "__main__":
    main()
