"""Sum up the maps: what each method heals, breaks and costs, scenario by scenario.

Figures that are committed and still those of the present tree are kept, those of what
has run here are added, the rest is listed as missing.

Input: `metrics/maps/figures.json` of earlier runs; rows, truth and costs of every
model that the maps of `params.yaml` ask for and that has run here.
Output: the same (scenario -> model -> figures), and of each map a table and two plots
in `metrics/maps/`. With `--needs` a line of JSON instead: scenario -> the stages that
its missing figures need.

    python -m stages.report.maps --commit <revision>
"""

import argparse
import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

from stages.common.params import PARAMS_FILE, ParamsError, read_params
from stages.common.volume import write_text
from stages.report.bootstrap import Bootstrap
from stages.report.maps_cells import Maps, map_cells, read_maps
from stages.report.maps_store import FIGURES, FOLDER, NUMBERS, Key, read_store
from stages.report.maps_views import draw_costs, draw_map, write_table
from stages.report.measures import Model
from stages.report.membership import membership_auroc
from stages.report.potency_cells import changed_stages
from stages.report.rows import Membership, read_membership, read_model
from stages.report.settings import (
    NONE,
    ORACLE,
    ReportSettings,
    Scenario,
    read_plan,
)
from stages.report.study_digests import Digests, code_digests
from stages.report.summary import measure_scenario, read_cost
from stages.report.values import Measures, put, rounded

log = logging.getLogger(__name__)


def read_all(params: dict[str, Any]) -> Maps:
    """The maps as they stand, before anything runs.

    Raises:
        ValueError: a committed file is damaged, or a block of params is missing.
    """
    maps = read_maps(params)
    digests = Digests(params, code_digests())
    cells = map_cells(maps, read_plan(params), digests)
    scenarios = {cell.scenario.name: cell.scenario for cell in cells}
    return Maps(maps, tuple(scenarios.values()), tuple(cells), read_store())


def sum_up(maps: Maps, settings: ReportSettings, *, commit: str) -> dict[Key, Measures]:
    """All figures that are good or can be measured.

    Args:
        maps: as they stood.
        settings: the block `report`.
        commit: what the code is; a study runs in a copy that has no history.

    Raises:
        ValueError: a file of what has run is damaged, or DVC could not say what has.
    """
    found = maps.kept
    todo = [cell for cell in maps.cells if cell.key not in found]
    changed = changed_stages() if todo else set()
    bootstrap = Bootstrap(settings.bootstrap)
    for scenario in maps.scenarios:
        ran = [
            cell
            for cell in maps.cells
            if cell.scenario.name == scenario.name and cell.has_run(changed)
        ]
        new = [cell for cell in ran if cell.key not in found]
        if not new:
            continue
        cells = {cell.model: scenario.cells[cell.model] for cell in ran}
        here = scenario._replace(cells=cells)
        measured = measure_scenario(here, bootstrap, settings.score_alpha)
        who = read_membership(here)
        for cell in new:
            values = measured[cell.model]
            rows = read_model(here, cells[cell.model], who)
            memory = membership_auroc(Model(rows, who, bootstrap), bootstrap)
            put(values, "membership_auroc", memory)
            values["cost_share"] = _cost_share(cell.model, here, who)
            figures = _kept(values)
            found[cell.key] = {**figures, "digest": cell.digest, "commit": commit}
    return found


def _kept(values: Measures) -> Measures:
    """What is kept of a model's measures, with the reasons of what is null."""
    found: Measures = {}
    for name in NUMBERS:
        found[name] = values[name]
        if values[name] is None:
            found[f"{name}_reason"] = values[f"{name}_reason"]
    for name in ("damage_outside_worst", "flags"):
        found[name] = values[name]
    return found


def _cost_share(model: str, scenario: Scenario, who: Membership) -> float:
    """Cost over that of training from scratch on what is not known to be bad."""
    if model == NONE:
        return 0.0
    kept = len(who.kept) / (len(who.kept) + len(who.told))
    whole = read_cost(scenario.cells[ORACLE])["cost_slices"]
    return rounded(read_cost(scenario.cells[model])["cost_slices"] / (whole * kept))


def write_results(maps: Maps, figures: dict[Key, Measures], *, commit: str) -> None:
    """Write the figures, and each map's table and plots."""
    missing = [" ".join(cell.key) for cell in maps.cells if cell.key not in figures]
    content: dict[str, Any] = {}
    for cell in maps.cells:
        if cell.key in figures:
            models = content.setdefault(cell.scenario.name, {})
            models[cell.model] = figures[cell.key]
    content["_run"] = {
        "command": "make maps",
        "commit": commit,
        "params_sha256": hashlib.sha256(PARAMS_FILE.read_bytes()).hexdigest(),
        "missing": missing,
    }
    write_text(FIGURES, json.dumps(content, indent=1, allow_nan=False) + "\n")
    for name, row in maps.maps.items():
        write_table(FOLDER / f"{name}.md", name, row, content)
        draw_map(FOLDER / f"{name}.png", row, content)
        draw_costs(FOLDER / f"{name}_cost.png", row, content)
    log.info("%s: %d models are still missing", FIGURES, len(missing))


def tell_stale(maps: Maps) -> None:
    """Name the models whose committed figures are out of date."""
    if maps.stale:
        log.warning(
            "%d committed figures are out of date, settings or code have changed: %s",
            len(maps.stale),
            ", ".join(" ".join(key) for key in maps.stale),
        )


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.report.maps")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--commit", help="of the code that was run: sum up")
    what.add_argument("--needs", action="store_true", help="say what is missing")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        params = read_params()
        maps = read_all(params)
        if args.needs:
            tell_stale(maps)
            sys.stdout.write(json.dumps(maps.needs) + "\n")
            return
        settings = read_plan(params).settings
        figures = sum_up(maps, settings, commit=args.commit)
    except (ParamsError, ValueError) as error:
        log.error("%s", error)
        raise SystemExit(2) from None
    write_results(maps, figures, commit=args.commit)


if __name__ == "__main__":
    main()
