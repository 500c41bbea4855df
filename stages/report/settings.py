"""The `report` block, and which models the grid asks a report of."""

from typing import Any, NamedTuple

from pydantic import Field

from stages.common.params import Settings, find_block, validate

ORACLE, ORACLE_CONTINUE, DROP_ALL = "oracle", "oracle_continue", "drop_all"
NONE, CONTINUE, RETRAIN = "none", "continue", "retrain"
FIRST_ORACLE = "oracle-0"
CONTROLS = (ORACLE, ORACLE_CONTINUE, DROP_ALL, NONE, CONTINUE)


class BootstrapSettings(Settings):
    """Resampling of subjects.

    Attributes:
        resamples: how often subjects are drawn anew.
        seed: of the draws.
    """

    resamples: int = Field(ge=100, le=100_000)
    seed: int = Field(ge=0)


class ReportSettings(Settings):
    """How results are summed up.

    Attributes:
        score_alpha: weight of the retain set in the paper's score.
        bootstrap: see `BootstrapSettings`.
    """

    score_alpha: float = Field(ge=0, le=1)
    bootstrap: BootstrapSettings


class Map(Settings):
    """Methods on scenarios side by side, outside of the grid.

    Attributes:
        scenarios: rows of `scenarios`.
        methods: of `grid.methods`.
    """

    scenarios: tuple[str, ...] = Field(min_length=1)
    methods: tuple[str, ...] = Field(min_length=1)


BLOCKS: dict[str, Any] = {"report": ReportSettings, "maps": dict[str, Map]}


class _Grid(Settings, extra="ignore"):
    oracles: tuple[int, ...]
    methods: tuple[str, ...]
    drop_all: tuple[str, ...]


class _Scenario(Settings, extra="ignore"):
    poisoning: str
    detected: str | None = None


class _Poisoning(Settings, extra="ignore"):
    attack: str
    share: float
    scope: dict[str, Any]
    settings: dict[str, Any]


class Scenario(NamedTuple):
    """One scenario of the grid.

    Attributes:
        name: its key.
        poisoning: the poisoning behind it.
        share: poisoned share of all training slices.
        scoped: whether the attack is confined to a part of the slices.
        family: attack, scope, settings and who found the known poison; scenarios of a
            family differ in share.
        cells: model -> key of its cell, in the order of every table.
    """

    name: str
    poisoning: str
    share: float
    scoped: bool
    family: str
    cells: dict[str, str]

    @property
    def percent(self) -> str:
        return f"{100 * self.share:.3g} %"

    @property
    def methods(self) -> list[str]:
        return [model for model in self.cells if model not in CONTROLS]


class Plan(NamedTuple):
    """What a report must hold.

    Attributes:
        profile: its name.
        oracles: cells of the oracles, which differ in their seed.
        scenarios: of the grid.
        settings: the block `report`.
    """

    profile: str
    oracles: tuple[str, ...]
    scenarios: tuple[Scenario, ...]
    settings: ReportSettings


def read_plan(params: dict[str, Any]) -> Plan:
    """Derive the report's content from the whole of `params.yaml`.

    Raises:
        ParamsError: a key is missing or wrong, or a scenario names no poisoning.
    """
    settings = validate(find_block(params, "report"), "report", ReportSettings)
    grid = validate(find_block(params, "grid"), "grid", _Grid)
    scenarios = validate(
        find_block(params, "scenarios"), "scenarios", dict[str, _Scenario]
    )
    plans = []
    for name, scenario in scenarios.items():
        key = f"poisonings.{scenario.poisoning}"
        poisoning = validate(
            find_block(params, "poisonings").get(scenario.poisoning), key, _Poisoning
        )
        plans.append(_scenario(name, scenario, poisoning, grid))
    oracles = tuple(f"oracle-{seed}" for seed in grid.oracles)
    return Plan(str(params.get("profile", "")), oracles, tuple(plans), settings)


def _scenario(
    name: str, scenario: _Scenario, poisoning: _Poisoning, grid: _Grid
) -> Scenario:
    key = scenario.poisoning
    cells = {ORACLE: FIRST_ORACLE, ORACLE_CONTINUE: "oracle_continue"}
    if key in grid.drop_all:
        cells[DROP_ALL] = f"drop_all/{key}"
    cells |= {NONE: f"poisoned/{key}", CONTINUE: f"continue/{key}"}
    cells |= {method: f"unlearned/{name}/{method}" for method in grid.methods}
    detail = sorted({**poisoning.scope, **poisoning.settings}.items())
    if scenario.detected:
        detail.append(("found by", scenario.detected))
    described = ", ".join(f"{part} {value}" for part, value in detail)
    return Scenario(
        name=name,
        poisoning=key,
        share=poisoning.share,
        scoped=any(part is not None for part in poisoning.scope.values()),
        family=f"{poisoning.attack} ({described})" if described else poisoning.attack,
        cells=cells,
    )
