"""Whether the base models have converged, and how far seeds lie apart."""

from stages.report.bootstrap import Bootstrap, Estimate, combine
from stages.report.measures import contrast_gap, per_subject
from stages.report.rows import read_slice_rows
from stages.report.settings import FIRST_ORACLE, ORACLE_CONTINUE, Plan
from stages.report.values import Measures, put, put_value

# More training at the end that gains less, dB on validation, changes no conclusion.
CONVERGED_BELOW_DB = 0.1


def run_summary(plan: Plan, bootstrap: Bootstrap) -> Measures:
    """What holds for the whole run: convergence, noise floor, profile."""
    means: dict[str, Estimate] = {}
    rows = {cell: read_slice_rows(cell) for cell in (*plan.oracles, ORACLE_CONTINUE)}
    for cell in (FIRST_ORACLE, ORACLE_CONTINUE):
        values = per_subject(rows[cell][rows[cell]["split"] == "val"], "psnr")
        means[cell] = bootstrap.mean(values)
    run: Measures = {"profile": plan.profile}
    gain = combine(
        lambda after, before: after - before,
        means[ORACLE_CONTINUE],
        means[FIRST_ORACLE],
    )
    put(run, "convergence_gain_db", gain)
    run["converged"] = gain.value is not None and gain.value < CONVERGED_BELOW_DB
    for split in ("val", "test"):
        gap = contrast_gap(
            [rows[cell][rows[cell]["split"] == split] for cell in plan.oracles]
        )
        put_value(run, f"oracle_seed_gap_{split}_db", gap, "no slices in this split")
    return run
