"""Which changes of metrics are regressions, and which are only reported."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from stages.report.gate_diff import Change, Grid, compare
from stages.report.gate_settings import GateRule

RULES = {
    "interval": GateRule(match=("*_low",), better="neither", tolerance=0),
    "psnr": GateRule(match=("psnr_*",), better="higher", tolerance=0.1),
    "nmse": GateRule(match=("nmse_*",), better="lower", tolerance=0.01),
}
PARAMS = {
    "scenarios": {"light": {"poisoning": "p10"}, "heavy": {"poisoning": "p30"}},
    "poisonings": {"p10": {}, "p30": {}},
    "grid": {"oracles": [0, 1], "methods": ["retrain", "ssd"], "drop_all": ["p30"]},
}
SUMMARY = "metrics/summary.json"


def _metrics() -> dict[str, Any]:
    values = {"psnr_val": 30.0, "psnr_val_low": 29.0, "nmse_val": 0.1, "other": 5}
    values |= {
        "cost_share": 0.2,
        "seed_gap_val_db": 0.1,
        "healing_drop_val": None,
        "note": "text",
    }
    models = ("oracle", "drop_all", "retrain", "ssd")
    summary: dict[str, Any] = {
        scenario: {model: dict(values) for model in models}
        for scenario in ("light", "heavy")
    }
    summary["heavy"]["ssd"]["healing_drop_val"] = 0.5
    cells = (
        "oracle-0",
        "oracle-1",
        "drop_all/p30",
        "unlearned/light/ssd",
        "unlearned/heavy/ssd",
    )
    files: dict[str, Any] = {
        f"metrics/cells/{cell}.json": {"psnr_val": 30.0} for cell in cells
    }
    files["metrics/headline.json"] = {"light/ssd/psnr_val": 30.0}
    return files | {SUMMARY: summary}


def _compare(
    change: Callable[[dict[str, Any]], Any],
    regrid: Callable[[dict[str, Any]], Any] = dict,
) -> list[Change]:
    old, new = _metrics(), _metrics()
    params = copy.deepcopy(PARAMS)
    change(new)
    regrid(params)
    return compare(old, new, grid=Grid(PARAMS, params), rules=RULES)


def _set(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda files: files[SUMMARY]["light"]["ssd"].update({name: value})


def test_the_same_metrics_are_no_change():
    assert _compare(dict) == []


@pytest.mark.parametrize(
    ("name", "value", "verdict"),
    [
        ("psnr_val", 29.91, "change"),
        ("psnr_val", 29.9, "change"),
        ("psnr_val", 29.89, "regression"),
        ("psnr_val", 30.2, "improvement"),
        ("nmse_val", 0.105, "change"),
        ("nmse_val", 0.12, "regression"),
        ("nmse_val", 0.08, "improvement"),
        ("psnr_val_low", 1.0, "change"),
        ("other", 0, "change"),
        ("healing_drop_val", 0.3, "new"),
        ("unheard_of", 0.3, "new"),
    ],
)
def test_a_number_is_held_against_its_rule(name, value, verdict):
    (change,) = _compare(_set(name, value))
    assert (change.name, change.verdict) == (f"light.ssd.{name}", verdict)


@pytest.mark.parametrize("name", ["psnr_val", "psnr_val_low", "other"])
@pytest.mark.parametrize("value", [None, "n/a", [], float("nan"), float("-inf")])
def test_a_lost_number_is_a_regression_with_or_without_a_rule(name, value):
    (change,) = _compare(_set(name, value))
    assert change.verdict == "regression"


@pytest.mark.parametrize("name", ["healing_drop_val", "unheard_of"])
def test_a_nan_is_never_fine(name):
    (change,) = _compare(_set(name, float("nan")))
    assert change.verdict == "regression"


def test_a_missing_number_or_file_is_a_regression():
    def change(files: dict[str, Any]) -> None:
        del files[SUMMARY]["heavy"]["ssd"]["other"]
        del files["metrics/cells/oracle-0.json"]
        del files["metrics/headline.json"]["light/ssd/psnr_val"]

    assert [change.verdict for change in _compare(change)] == ["regression"] * 3


def test_a_lost_text_is_no_change():
    assert _compare(_set("note", None)) == []


def test_a_removed_scenario_is_reported_only():
    def change(files: dict[str, Any]) -> None:
        del files[SUMMARY]["light"]
        del files["metrics/cells/unlearned/light/ssd.json"]
        del files["metrics/headline.json"]["light/ssd/psnr_val"]

    changes = _compare(change, lambda params: params["scenarios"].pop("light"))
    assert {change.verdict for change in changes} == {"removed"}
    assert {change.note for change in changes} == {"light left the grid"}


def test_a_removed_method_takes_along_what_is_measured_by_it():
    def change(files: dict[str, Any]) -> None:
        for models in files[SUMMARY].values():
            del models["retrain"]
            for values in models.values():
                values["cost_share"] = None

    changes = _compare(
        change, lambda params: params["grid"]["methods"].remove("retrain")
    )
    assert {change.verdict for change in changes} == {"removed"}


def test_a_removed_oracle_takes_the_noise_floor_along():
    def change(files: dict[str, Any]) -> None:
        del files["metrics/cells/oracle-1.json"]
        files[SUMMARY]["light"]["oracle"]["seed_gap_val_db"] = None

    changes = _compare(change, lambda params: params["grid"]["oracles"].remove(1))
    assert {change.verdict for change in changes} == {"removed"}


def test_a_removed_drop_all_takes_its_comparisons_along():
    def change(files: dict[str, Any]) -> None:
        del files[SUMMARY]["heavy"]["drop_all"]
        del files["metrics/cells/drop_all/p30.json"]
        files[SUMMARY]["heavy"]["ssd"]["healing_drop_val"] = None

    changes = _compare(change, lambda params: params["grid"]["drop_all"].clear())
    assert {change.verdict for change in changes} == {"removed"}


def test_what_stays_in_the_grid_is_not_excused_by_what_left():
    changes = _compare(
        _set("psnr_val", None), lambda params: params["scenarios"].pop("heavy")
    )
    assert [change.verdict for change in changes] == ["regression"]


def test_regressions_come_first():
    def change(files: dict[str, Any]) -> None:
        files["metrics/cells/a.json"] = {"psnr_val": float("nan"), "other": 1}
        files[SUMMARY]["heavy"]["oracle"]["psnr_val"] = 40.0
        files[SUMMARY]["heavy"]["ssd"]["psnr_val"] = 20.0

    verdicts = [change.verdict for change in _compare(change)]
    assert verdicts == ["regression", "regression", "improvement", "new"]


def test_a_revision_without_a_grid_excuses_nothing():
    changes = compare(_metrics(), {SUMMARY: {}}, grid=Grid({}, PARAMS), rules=RULES)
    assert {change.verdict for change in changes} == {"regression"}
