"""Sum up the grid: summary, headline, tables and figures.

Inputs: rows and headline numbers of every cell in the grid, training curves, panels,
scores of detectors, `data/truth/`. Outputs: `metrics/summary.json`,
`metrics/headline.json`, `metrics/detection.json`, `metrics/tables/`, `metrics/plots/`,
`metrics/figures/`.

    python -m stages.report
"""

import argparse
import json
import logging
from collections.abc import Sequence

from stages.common.params import read_params
from stages.common.paths import METRICS
from stages.common.runtime import stage_run
from stages.common.volume import write_text
from stages.report.settings import Plan, read_plan

log = logging.getLogger(__name__)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.report", description=__doc__.splitlines()[0]
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    parse_args(argv)
    with stage_run("report", "report"):
        plan = read_plan(read_params())
        _write_numbers(plan)
        _write_detection()
        _write_figures(plan)


def _write_numbers(plan: Plan) -> None:
    from stages.report import plots, tables
    from stages.report.figures import read_curves
    from stages.report.summary import summarise

    summary = summarise(plan)
    headline = tables.headline(summary, plan)
    outputs = {
        "summary.json": json.dumps(summary, indent=1, allow_nan=False) + "\n",
        "headline.json": json.dumps(headline, indent=1, allow_nan=False) + "\n",
        "tables/results.md": tables.markdown(summary, plan),
        "tables/results.csv": tables.as_csv(summary, plan),
    }
    drawn = plots.series(summary, read_curves(plan), plan)
    outputs |= {f"plots/{name}": text for name, text in drawn.items()}
    for name, text in outputs.items():
        write_text(METRICS / name, text)
        log.info("wrote %s", METRICS / name)


def _write_detection() -> None:
    from stages.report import detection, detection_figure, detection_tables, style
    from stages.report.detection_rows import read_detection_plan
    from stages.report.filter_retrain import NAME, filter_retrain, of_cell

    plan = read_detection_plan(read_params())
    summary = detection.summarise_detection(plan)
    results = json.loads((METRICS / "summary.json").read_text(encoding="utf-8"))
    retrained = filter_retrain(results, plan)
    for cell in plan.cells:
        if found := of_cell(retrained, plan, cell):
            detection.figures_of(summary, cell)[NAME] = found
    decisions = detection.confusion(plan)
    outputs = {
        "detection.json": json.dumps(summary, indent=1, allow_nan=False) + "\n",
        "tables/detection.md": detection_tables.detection_markdown(
            summary, plan, retrained
        ),
        "tables/detection.csv": detection_tables.detection_csv(summary, plan),
        "plots/confusion.csv": decisions,
    }
    for name, text in outputs.items():
        write_text(METRICS / name, text)
        log.info("wrote %s", METRICS / name)
    if plan.cells:
        path = METRICS / "figures" / "detection.png"
        style.save(detection_figure.detection_figure(summary, plan, decisions), path)
        log.info("wrote %s", path)


def _write_figures(plan: Plan) -> None:
    from stages.report import figures, panels, shares, style

    # The figures show what is written, and nothing else.
    summary = json.loads((METRICS / "summary.json").read_text(encoding="utf-8"))
    scenario = figures.heatmap_scenario(plan)
    drawn = {
        "heatmap": figures.heatmap(summary, scenario),
        "healing_by_share": shares.shares_figure(summary, plan),
        "convergence": figures.convergence(figures.read_curves(plan)),
    }
    for scenario in plan.scenarios:
        drawn[f"panels_{scenario.name}"] = panels.panels_figure(scenario)
    for name, figure in drawn.items():
        path = METRICS / "figures" / f"{name}.png"
        style.save(figure, path)
        log.info("wrote %s", path)


if __name__ == "__main__":
    main()
