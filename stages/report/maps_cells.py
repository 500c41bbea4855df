"""The cells of the maps: a model in a scenario, and the stages that it needs."""

from typing import Any, NamedTuple

from stages.common.params import find_block, validate
from stages.report.maps_store import Key
from stages.report.potency_cells import ORACLES, SHARED
from stages.report.rows import evaluated_by
from stages.report.settings import DROP_ALL, Map, Plan, Scenario
from stages.report.study_digests import Digests
from stages.report.values import Measures


class MapCell(NamedTuple):
    """One set of figures of the maps.

    Attributes:
        scenario: with the models that some map asks for.
        model: one of them.
        digest: of all that shapes the figures.
        targets: stages to ask the runner for.
        through: stages of its own that they need.
    """

    scenario: Scenario
    model: str
    digest: str
    targets: tuple[str, ...]
    through: tuple[str, ...]

    @property
    def key(self) -> Key:
        return self.scenario.name, self.model

    def has_run(self, changed: set[str]) -> bool:
        """Whether nothing that it needs is among the stages that DVC would run."""
        own, shared = {*self.targets, *self.through}, SHARED | ORACLES
        return not any(
            stage in own or stage.partition("@")[0] in shared for stage in changed
        )


class Maps(NamedTuple):
    """All maps, their cells, and the figures that earlier runs have left."""

    maps: dict[str, Map]
    scenarios: tuple[Scenario, ...]
    cells: tuple[MapCell, ...]
    stored: dict[Key, Measures]

    @property
    def kept(self) -> dict[Key, Measures]:
        """Figures that are those of the present tree."""
        return {
            cell.key: self.stored[cell.key]
            for cell in self.cells
            if self.stored.get(cell.key, {}).get("digest") == cell.digest
        }

    @property
    def stale(self) -> list[Key]:
        """Committed figures that are not: other settings, other code, or no row."""
        kept = self.kept
        return [key for key in self.stored if key not in kept]

    @property
    def needs(self) -> dict[str, list[str]]:
        """Scenario -> the stages that its missing figures need; none: all are there."""
        kept = self.kept
        found: dict[str, dict[str, None]] = {}
        for cell in self.cells:
            wanted = found.setdefault(cell.scenario.name, {})
            if cell.key not in kept:
                wanted |= dict.fromkeys(cell.targets)
        return {name: list(stages) for name, stages in found.items()}


def read_maps(params: dict[str, Any]) -> dict[str, Map]:
    """The block `maps`.

    Raises:
        ParamsError: it is missing or wrong.
    """
    maps: dict[str, Map] = validate(find_block(params, "maps"), "maps", dict[str, Map])
    return maps


def map_cells(maps: dict[str, Map], plan: Plan, digests: Digests) -> list[MapCell]:
    """Every cell of the maps, scenario by scenario in the order of `params.yaml`.

    Raises:
        ValueError: a block of params is missing.
    """
    cells = []
    for whole in plan.scenarios:
        wanted = {
            method
            for row in maps.values()
            if whole.name in row.scenarios
            for method in row.methods
        }
        if not wanted:
            continue
        models = {
            model: cell
            for model, cell in whole.cells.items()
            if model not in whole.methods or model in wanted
        }
        scenario = whole._replace(cells=models)
        # What unlearning starts from is measured in the same breath as each method.
        before = _before(scenario, [m for m in models if m not in whole.methods])
        for model, cell in models.items():
            method = model if model in wanted else None
            cells.append(
                MapCell(
                    scenario,
                    model,
                    digests.unlearned(whole.name, method),
                    (*before, *([evaluated_by(cell)] if method else [])),
                    _through(scenario, method),
                )
            )
    return cells


def _before(scenario: Scenario, base: list[str]) -> tuple[str, ...]:
    """Stages that evaluate what every method is compared with."""
    others = ("evaluate_oracle@1", f"evaluate_references@{scenario.poisoning}")
    return (*(evaluated_by(scenario.cells[model]) for model in base), *others)


def _through(scenario: Scenario, method: str | None) -> tuple[str, ...]:
    name = scenario.poisoning
    stages = [f"poison@{name}", f"forget@{scenario.name}"]
    stages += [f"train_{kind}@{name}" for kind in ("poisoned", "continue")]
    if DROP_ALL in scenario.cells:
        stages += [f"drop_list@{name}", f"train_drop_all@{name}"]
    if method is not None:
        stages.append(f"unlearn@{scenario.name}-{method}")
    return tuple(stages)
