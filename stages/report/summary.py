"""Everything that is measured: scenario -> model -> measure."""

import json
from collections.abc import Sequence
from typing import Any

from stages.common import paths
from stages.report import healing as heal
from stages.report.bootstrap import Bootstrap, absent
from stages.report.convergence import run_summary
from stages.report.measures import (
    FORGET_SPLITS,
    SPLITS,
    Model,
    difference,
    flags,
    worst_contrast,
    worst_outside,
)
from stages.report.rows import (
    evaluated_by,
    read_membership,
    read_model,
    read_slice_rows,
)
from stages.report.settings import (
    CONTINUE,
    DROP_ALL,
    NONE,
    ORACLE,
    RETRAIN,
    Plan,
    Scenario,
)
from stages.report.values import Measures, put, put_value


def summarise(plan: Plan) -> dict[str, Any]:
    """Measure every model of the grid from its rows."""
    bootstrap = Bootstrap(plan.settings.bootstrap)
    summary: dict[str, Any] = {}
    for scenario in plan.scenarios:
        summary[scenario.name] = measure_scenario(
            scenario, plan.oracles, bootstrap, plan.settings.score_alpha
        )
    summary["_run"] = run_summary(plan, bootstrap)
    return summary


def measure_scenario(
    scenario: Scenario, oracles: Sequence[str], bootstrap: Bootstrap, alpha: float
) -> dict[str, Measures]:
    """Measure every model of one scenario from its rows: model -> measure.

    Args:
        scenario: its cells; the oracle, `none` and `continue` are among them.
        oracles: cells whose seeds tell the noise floor.
        bootstrap: draws subjects.
        alpha: weight of the retain set in the paper's score.

    Raises:
        ValueError: rows are missing or damaged; names the cell and what to run.
    """
    membership = read_membership(scenario)
    models = {
        name: Model(read_model(scenario, cell, membership), membership, bootstrap)
        for name, cell in scenario.cells.items()
    }
    rows = [read_slice_rows(cell) for cell in oracles]
    gaps = {
        split: heal.seed_gap(models[ORACLE], rows, split)
        for split in heal.SPLITS.values()
    }
    costs = {name: read_cost(cell) for name, cell in scenario.cells.items()}
    measured = {}
    for name in scenario.cells:
        values: Measures = {}
        _add_levels(values, models[name])
        _add_healing(values, name, models, gaps)
        _add_damage(values, name, models)
        _add_scores(values, models[name], alpha)
        _add_cost(values, name, costs)
        _add_counts(values, models[name])
        measured[name] = values
    return measured


def _add_levels(values: Measures, model: Model) -> None:
    for split in SPLITS:
        for measure in ("psnr", "ssim", "nmse"):
            put(values, f"{measure}_{split}", model.mean(measure, split))
    for split in FORGET_SPLITS:
        for measure in ("psnr", "ssim", "nmse"):
            estimate = model.mean(f"{measure}_vs_poison", split)
            put(values, f"{measure}_{split}_vs_poison", estimate)
    for name, split in (
        ("hidden", "forget_hidden"),
        ("known", "forget_known"),
        ("scope_val", "scope_val"),
        ("scope_test", "scope_test"),
    ):
        put(values, f"agreement_{name}", model.mean("agreement", split))
        if "agreement_own_num" in model.rows[split]:
            put(values, f"agreement_own_{name}", model.mean("agreement_own", split))


def _add_healing(
    values: Measures,
    name: str,
    models: dict[str, Model],
    gaps: dict[str, float | None],
) -> None:
    model, none, oracle = models[name], models[NONE], models[ORACLE]
    drop_all = models.get(DROP_ALL)
    for short, split in heal.SPLITS.items():
        gap = gaps[split]
        put(values, f"healing_{short}", heal.healing(model, none, oracle, split, gap))
        if drop_all is None:
            against_drop = absent("drop_all is not in the grid for this poisoning")
        else:
            against_drop = heal.healing(
                model, none, drop_all, split, gap, heal.NOT_BETTER
            )
        put(values, f"healing_drop_{short}", against_drop)
        left = difference(oracle, model, "psnr", split)
        put(values, f"behind_oracle_{short}_db", left)
        if split in ("scope_val", "scope_test", "forget_hidden"):
            gone = heal.healing_agreement(model, none, oracle, split)
            put(values, f"healing_agreement_{short}", gone)
        if name == ORACLE:
            put_value(values, f"seed_gap_{short}_db", gap, "no slices in this split")


def _add_damage(values: Measures, name: str, models: dict[str, Model]) -> None:
    model = models[name]
    for key, other in (("outside", NONE), ("vs_continue", CONTINUE)):
        change = difference(model, models[other], "psnr", "outside")
        put(values, f"damage_{key}_db", change)
    change, contrast = worst_contrast(model, models[CONTINUE])
    put(values, "damage_vs_continue_contrast_db", change)
    values["damage_vs_continue_contrast"] = contrast
    if contrast is None:
        values["damage_vs_continue_contrast_reason"] = change.reason
    worst = worst_outside(model, models[NONE])
    reason = "no unseen slice lies outside the scope"
    if name == NONE:
        worst, reason = None, "compared with itself"
    values["damage_outside_worst"] = worst[1] if worst else None
    if worst is None:
        values["damage_outside_worst_reason"] = reason
    worst_db = worst[0] if worst else None
    put_value(values, "damage_outside_worst_db", worst_db, reason)
    values["flags"] = [] if name == NONE else flags(model, models[NONE])


def _add_scores(values: Measures, model: Model, alpha: float) -> None:
    who = model.membership
    put(values, "score", model.score(who.kept, who.told, alpha))
    truly = who.splits["retain"], who.splits["forget"]
    put(values, "score_truth", model.score(*truly, alpha))


def _add_cost(values: Measures, name: str, costs: dict[str, dict[str, float]]) -> None:
    # The poisoned model is where unlearning starts from: it costs nothing more.
    nothing = {"gradient_steps": 0, "cost_slices": 0.0}
    cost = nothing if name == NONE else costs[name]
    values["gradient_steps"] = cost["gradient_steps"]
    if RETRAIN not in costs:
        share, reason = None, "retrain is not in the grid"
    elif not costs[RETRAIN]["cost_slices"]:
        share, reason = None, "retraining took no step"
    else:
        share, reason = cost["cost_slices"] / costs[RETRAIN]["cost_slices"], ""
    put_value(values, "cost_share", share, reason)


def _add_counts(values: Measures, model: Model) -> None:
    parts = {split: model.rows[split] for split in SPLITS}
    for split, rows in parts.items():
        values[f"n_subjects_{split}"] = int(rows["subject_id"].nunique())
        values[f"n_slices_{split}"] = len(rows)
    whole = [parts[split] for split in ("retain", "forget", "val", "test")]
    subjects = {subject for rows in whole for subject in rows["subject_id"]}
    values["n_subjects"] = len(subjects)
    values["n_slices"] = sum(map(len, whole))


def read_cost(cell: str) -> dict[str, float]:
    """Cost of a cell, from its headline file."""
    path = paths.cell_metrics(cell)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return {key: content[key] for key in ("gradient_steps", "cost_slices")}
    except (FileNotFoundError, KeyError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path}: no cost of cell '{cell}' ({error!r}): run "
            f"`dvc repro {evaluated_by(cell)}`"
        ) from None
