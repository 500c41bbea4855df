"""The paper's 5.1: would it do to train from scratch on what a detector leaves?

`filter_retrain` is the method `retrain` in a scenario whose forget set is detected;
beside it what a perfect detector would have led to (`drop_all`) and the oracle.
"""

from typing import Any

from stages.common import paths
from stages.common.manifest import read_slices
from stages.common.truth import read_record
from stages.report.detection_rows import DetectionCell, DetectionPlan
from stages.report.settings import DROP_ALL, NONE, ORACLE, RETRAIN
from stages.report.values import Measures

NAME = "filter_retrain"
# What it is called here -> model of the results.
MODELS = {"none": NONE, NAME: RETRAIN, "drop_all": DROP_ALL, "oracle": ORACLE}
PSNR, HEALING = "psnr_scope_test", "healing_scope_test"
ENDS = ("", "_low", "_high")


def filter_retrain(results: dict[str, Any], plan: DetectionPlan) -> dict[str, Measures]:
    """Scenario -> what came of it; without those that nothing was trained for.

    Args:
        results: scenario -> model -> measure, as in `metrics/summary.json`.
        plan: the scenarios whose forget set is detected.

    Returns:
        Per scenario `n_suspects`, `n_wrong` (clean slices among them), PSNR on unseen
        slices of the scope (dB) of each of `MODELS` there is, and the healing.
    """
    found = {}
    for scenario in plan.scenarios:
        models = results[scenario]
        if RETRAIN not in models:
            continue
        folder = paths.answers(scenario)
        suspects = read_slices(folder / "known.json", made_by=f"forget@{scenario}")
        poisoned = {entry.ref for entry in read_record(folder).poisoned}
        values: Measures = {
            "n_suspects": len(suspects),
            "n_wrong": len(set(suspects) - poisoned),
        }
        for name, model in MODELS.items():
            if model in models:
                values |= _take(models[model], PSNR, f"psnr_{name}")
        found[scenario] = values | _take(models[RETRAIN], HEALING, "healing")
    return found


def of_cell(
    retrained: dict[str, Measures], plan: DetectionPlan, cell: DetectionCell
) -> dict[str, Measures]:
    """The scenarios whose forget set comes from this detector on this poisoning."""
    wanted = (cell.poisoning, cell.detector)
    rows = plan.scenarios
    return {
        name: values
        for name, values in retrained.items()
        if (rows[name].poisoning, rows[name].detected) == wanted
    }


def _take(measures: Measures, name: str, new: str) -> Measures:
    """A measure with its interval, and the reason where it is null."""
    keys = [f"{end}{why}" for end in ENDS for why in ("", "_reason")]
    return {
        f"{new}{key}": measures[f"{name}{key}"]
        for key in keys
        if f"{name}{key}" in measures
    }
