"""The cells of the maps: a model in a scenario, and the stages that it needs."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from stages.common.params import find_block, validate
from stages.report.rows import evaluated_by
from stages.report.settings import DROP_ALL, Map, Plan, Scenario
from stages.report.study_cells import ORACLES, SHARED, Study, StudyCell
from stages.report.study_digests import Digests


class Maps(NamedTuple):
    """All maps, the scenarios in them with the models that are asked for, and cells."""

    maps: dict[str, Map]
    oracles: tuple[str, ...]
    scenarios: tuple[Scenario, ...]
    study: Study


def read_maps(params: dict[str, Any]) -> dict[str, Map]:
    """The block `maps`.

    Raises:
        ParamsError: it is missing or wrong.
    """
    maps: dict[str, Map] = validate(find_block(params, "maps"), "maps", dict[str, Map])
    return maps


def mapped(maps: dict[str, Map], plan: Plan) -> tuple[Scenario, ...]:
    """Scenarios of some map, in the order of `params.yaml`, with its models alone."""
    found = []
    for whole in plan.scenarios:
        wanted = {
            method
            for row in maps.values()
            if whole.name in row.scenarios
            for method in row.methods
        }
        if wanted:
            models = {
                model: cell
                for model, cell in whole.cells.items()
                if model not in whole.methods or model in wanted
            }
            found.append(whole._replace(cells=models))
    return tuple(found)


def map_cells(
    scenario: Scenario,
    oracles: Sequence[str],
    digests: Digests,
    *,
    detector: str | None,
) -> list[StudyCell]:
    """The cells of a scenario: its models.

    Args:
        scenario: with the models of the maps alone.
        oracles: cells whose seeds tell the noise floor.
        digests: of what shapes a figure.
        detector: that finds the scenario's forget set; None where it is drawn.

    Raises:
        ValueError: a block of params is missing.
    """
    # What unlearning starts from is measured in the same breath as each method.
    before = _before(scenario, oracles)
    cells = []
    for model, cell in scenario.cells.items():
        method = model if model in scenario.methods else None
        cells.append(
            StudyCell(
                scenario.name,
                model,
                digests.unlearned(scenario.name, method),
                (*before, *([evaluated_by(cell)] if method else [])),
                _through(scenario, method, detector),
                SHARED | ORACLES,
            )
        )
    return cells


def _before(scenario: Scenario, oracles: Sequence[str]) -> tuple[str, ...]:
    """Stages that evaluate what every method is compared with."""
    cells = [
        cell for model, cell in scenario.cells.items() if model not in scenario.methods
    ]
    stages = [evaluated_by(cell) for cell in dict.fromkeys((*cells, *oracles))]
    return (*stages, f"evaluate_references@{scenario.poisoning}")


def _through(
    scenario: Scenario, method: str | None, detector: str | None
) -> tuple[str, ...]:
    name = scenario.poisoning
    stages = [f"poison@{name}", f"forget@{scenario.name}"]
    stages += [f"train_{kind}@{name}" for kind in ("poisoned", "continue")]
    if DROP_ALL in scenario.cells:
        stages += [f"drop_list@{name}", f"train_drop_all@{name}"]
    if detector is not None:
        stages += [f"forget_tips@{name}", f"detect@{name}-{detector}"]
    if method is not None:
        stages.append(f"unlearn@{scenario.name}-{method}")
    return tuple(stages)
