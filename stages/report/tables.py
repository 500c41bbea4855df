"""The results as a headline, as Markdown and as CSV."""

import csv
import io
from typing import Any, NamedTuple

from stages.report.settings import NONE, Plan, Scenario

Summary = dict[str, Any]


class Column(NamedTuple):
    """A column: measure in the summary, heading, digits, and whether with interval."""

    measure: str
    title: str
    digits: int
    interval: bool


COLUMNS = (
    Column("psnr_scope_test", "PSNR, dB", 2, True),
    Column("ssim_scope_test", "SSIM", 4, False),
    Column("agreement_scope_test", "agreement", 3, False),
    Column("healing_scope_test", "healing", 2, True),
    Column("healing_hidden", "healing, hidden", 2, False),
    Column("damage_outside_db", "damage outside, dB", 2, True),
    Column("cost_share", "cost / retrain", 3, False),
    Column("score", "score", 3, False),
)
DASH = "–"
_UNSCOPED = " The attack has no outside: it is all unseen slices here."


def headline(summary: Summary, plan: Plan) -> dict[str, float | None]:
    """What a person wants to see first, flat, for `dvc metrics show --md`.

    `poison_costs_db_<scenario>` is what the poison cost on unseen slices of the scope;
    `healing_<scenario>` what the method that is best on validation undoes of that.
    """
    run = summary["_run"]
    lines: dict[str, float | None] = {
        "convergence_gain_db": run["convergence_gain_db"],
        "seed_gap_db": run["oracle_seed_gap_test_db"],
    }
    for scenario in plan.scenarios:
        models = summary[scenario.name]
        damage = models[NONE]["behind_oracle_scope_test_db"]
        lines[f"poison_costs_db_{scenario.name}"] = damage
        best = best_method(models, scenario)
        healed = models[best]["healing_scope_test"] if best else None
        lines[f"healing_{scenario.name}"] = healed
    return lines


def best_method(models: Summary, scenario: Scenario) -> str | None:
    """The method with the highest PSNR on validation slices of the scope."""
    ranked = [
        (models[name]["psnr_scope_val"], name)
        for name in scenario.methods
        if models[name]["psnr_scope_val"] is not None
    ]
    return max(ranked)[1] if ranked else None


def markdown(summary: Summary, plan: Plan) -> str:
    """One table per scenario: models in rows, all on unseen slices of the scope."""
    parts = [
        "# Results\n",
        "PSNR, SSIM, agreement and healing: unseen test slices in the attack's scope,",
        "against the clean truth. Brackets: 95 % paired bootstrap over subjects. Every",
        "measure is defined in `stages/report/README.md`.\n",
        _convergence(summary["_run"]),
    ]
    for scenario in plan.scenarios:
        parts += ["", *_table(summary[scenario.name], scenario)]
    return "\n".join(parts).rstrip() + "\n"


def _convergence(run: Summary) -> str:
    gain = _number(run["convergence_gain_db"], 2)
    word = "converged" if run["converged"] else "NOT converged"
    gap = _number(run["oracle_seed_gap_test_db"], 2)
    return (
        f"Base models: {word} (`oracle_continue` gains {gain} dB on validation). "
        f"Two oracle seeds lie {gap} dB apart on test (root mean square over their "
        "pairs and the contrasts)."
    )


def _table(models: Summary, scenario: Scenario) -> list[str]:
    first = next(iter(models.values()))
    scope = first["n_slices_scope_test"], first["n_subjects_scope_test"]
    forget, known = first["n_slices_forget"], first["n_slices_forget_known"]
    titles = ["model", *(column.title for column in COLUMNS), "against PSNR"]
    lines = [
        f"## {scenario.name}\n",
        f"{scenario.percent} of the training slices poisoned ({forget} slices, "
        f"{known} of them known); {scope[0]} test slices of {scope[1]} subjects in "
        f"the scope.{'' if scenario.scoped else _UNSCOPED}\n",
        _line(titles),
        _line(["---", *["---:"] * len(COLUMNS), "---"]),
    ]
    reasons: dict[str, None] = {}
    for name in scenario.cells:
        values = models[name]
        cells = [_cell(values, column, reasons) for column in COLUMNS]
        lines.append(_line([name, *cells, ", ".join(values["flags"])]))
    if reasons:
        lines += ["", *[f"{DASH} {reason}" for reason in reasons]]
    return lines


def _cell(values: Summary, column: Column, reasons: dict[str, None]) -> str:
    value = values[column.measure]
    if value is None:
        reasons[f"{column.title}: {values[column.measure + '_reason']}"] = None
        return DASH
    text = _number(value, column.digits)
    low, high = (values.get(f"{column.measure}_{end}") for end in ("low", "high"))
    if column.interval and low is not None and high is not None:
        text += f" [{_number(low, column.digits)}, {_number(high, column.digits)}]"
    return text


def _number(value: float | None, digits: int) -> str:
    if value is None:
        return DASH
    # Adding 0.0 keeps a rounded -0.00 from showing its sign.
    return f"{round(value, digits) + 0.0:.{digits}f}"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def as_csv(summary: Summary, plan: Plan) -> str:
    """All tables in one: a row per scenario and model, intervals in own columns."""
    header = ["scenario", "poisoned_share", "model"]
    for column in COLUMNS:
        ends = ("", "_low", "_high") if column.interval else ("",)
        header += [column.measure + end for end in ends]
    rows = []
    for scenario in plan.scenarios:
        for name in scenario.cells:
            values = summary[scenario.name][name]
            identity = [scenario.name, scenario.share, name]
            rows.append(identity + [values[key] for key in header[3:]])
    return _csv(header, rows)


def _csv(header: list[str], rows: list[list[Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    return text.getvalue()
