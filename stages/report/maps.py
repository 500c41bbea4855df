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

import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

from stages.common.params import PARAMS_FILE, ParamsError, find_block, read_params
from stages.common.volume import write_text
from stages.report.bootstrap import Bootstrap
from stages.report.maps_cells import Maps, map_cells, mapped, read_maps
from stages.report.maps_store import FIGURES, FOLDER, NUMBERS, read_store
from stages.report.maps_views import draw_costs, draw_map, write_table
from stages.report.measures import Model
from stages.report.membership import membership_auroc
from stages.report.rows import Membership, read_membership, read_model
from stages.report.settings import (
    NONE,
    ORACLE,
    ReportSettings,
    Scenario,
    read_plan,
)
from stages.report.study_cells import (
    Key,
    Study,
    changed_stages,
    parse_args,
    tell_stale,
)
from stages.report.study_digests import Digests, code_digests
from stages.report.study_store import digests_of
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
    plan = read_plan(params)
    scenarios = mapped(maps, plan)
    rows = find_block(params, "scenarios")
    cells = [
        cell
        for scenario in scenarios
        for cell in map_cells(
            scenario,
            plan.oracles,
            digests,
            detector=rows[scenario.name].get("detected"),
        )
    ]
    stored = read_store(digests_of(cells))
    return Maps(maps, plan.oracles, scenarios, Study(tuple(cells), stored))


def sum_up(maps: Maps, settings: ReportSettings, *, commit: str) -> dict[Key, Measures]:
    """All figures that are good or can be measured.

    Args:
        maps: as they stood.
        settings: the block `report`.
        commit: what the code is; a study runs in a copy that has no history.

    Raises:
        ValueError: a file of what has run is damaged, or DVC could not say what has.
    """
    found = maps.study.kept
    todo = [cell for cell in maps.study.cells if cell.key not in found]
    changed = changed_stages() if todo else set()
    bootstrap = Bootstrap(settings.bootstrap)
    for scenario in maps.scenarios:
        ran = [
            cell
            for cell in maps.study.cells
            if cell.part == scenario.name and cell.has_run(changed)
        ]
        new = [cell for cell in ran if cell.key not in found]
        if not new:
            continue
        cells = {cell.item: scenario.cells[cell.item] for cell in ran}
        here = scenario._replace(cells=cells)
        measured = measure_scenario(here, maps.oracles, bootstrap, settings.score_alpha)
        who = read_membership(here)
        for cell in new:
            values = measured[cell.item]
            rows = read_model(here, cells[cell.item], who)
            memory = membership_auroc(Model(rows, who, bootstrap), bootstrap)
            put(values, "membership_auroc", memory)
            values["cost_share"] = _cost_share(cell.item, here, who)
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
    for name in ("damage_vs_continue_contrast", "damage_outside_worst", "flags"):
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
    cells = maps.study.cells
    missing = [" ".join(cell.key) for cell in cells if cell.key not in figures]
    content: dict[str, Any] = {}
    for cell in cells:
        if cell.key in figures:
            content.setdefault(cell.part, {})[cell.item] = figures[cell.key]
    content["_run"] = {
        "command": f"make {read_params()['profile']}",
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


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args("stages.report.maps", argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        params = read_params()
        maps = read_all(params)
        if args.needs:
            tell_stale(maps.study)
            sys.stdout.write(json.dumps(maps.study.needs) + "\n")
            return
        settings = read_plan(params).settings
        figures = sum_up(maps, settings, commit=args.commit)
    except (ParamsError, ValueError) as error:
        log.error("%s", error)
        raise SystemExit(2) from None
    write_results(maps, figures, commit=args.commit)


if __name__ == "__main__":
    main()
