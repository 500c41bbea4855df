"""Whether the base models have converged, and how far seeds lie apart."""

from stages.report.bootstrap import Bootstrap, Estimate, combine
from stages.report.measures import per_subject
from stages.report.rows import read_slice_rows
from stages.report.settings import ORACLE_CONTINUE, Plan
from stages.report.values import Measures, put, put_value

# More training at the end that gains less, dB on validation, changes no conclusion.
CONVERGED_BELOW_DB = 0.1
FIRST_ORACLE, SECOND_ORACLE = "oracle-0", "oracle-1"


def run_summary(plan: Plan, bootstrap: Bootstrap) -> Measures:
    """What holds for the whole run: convergence, noise floor, profile."""
    means: dict[tuple[str, str], Estimate] = {}
    for cell in (FIRST_ORACLE, SECOND_ORACLE, ORACLE_CONTINUE):
        rows = read_slice_rows(cell)
        for split in ("val", "test"):
            values = per_subject(rows[rows["split"] == split], "psnr")
            means[cell, split] = bootstrap.mean(values)
    run: Measures = {"profile": plan.profile}
    gain = combine(
        lambda after, before: after - before,
        means[ORACLE_CONTINUE, "val"],
        means[FIRST_ORACLE, "val"],
    )
    put(run, "convergence_gain_db", gain)
    run["converged"] = gain.value is not None and gain.value < CONVERGED_BELOW_DB
    for split in ("val", "test"):
        gap = combine(
            lambda a, b: abs(a - b),
            means[FIRST_ORACLE, split],
            means[SECOND_ORACLE, split],
        )
        put_value(run, f"oracle_seed_gap_{split}_db", gap.value, gap.reason)
    return run
