"""What one attack does to a network, against the oracle: a poisoning's potency."""

from typing import Any

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.truth import read_record
from stages.report.bootstrap import Bootstrap
from stages.report.healing import seed_gap
from stages.report.measures import Model, difference
from stages.report.rows import read_model, read_slice_rows, split_slices
from stages.report.settings import Scenario
from stages.report.values import Measures, put, put_value

# Name in the result -> split: what is lost there, oracle minus poisoned model.
LOSSES = {
    "outside": "outside",
    "scope": "scope_test",
    "scope_val": "scope_val",
    "poisoned": "forget",
    "clean": "test",
}
WITH_INTERVAL = (
    *(f"loss_{key}_db" for key in LOSSES),
    "agreement",
    "agreement_oracle",
    "agreement_zero_filled",
    "ssim_poisoned_to_clean",
)
# Every number that the figures of a poisoning hold; null where there is none.
NUMBERS = (
    *(f"{name}{end}" for name in WITH_INTERVAL for end in ("", "_low", "_high")),
    *(f"seed_gap_{key}_db" for key in LOSSES),
    "n_poisoned",
    "n_scope_test",
)


def measure_potency(name: str, row: dict[str, Any], bootstrap: Bootstrap) -> Measures:
    """The figures of a poisoning that has been evaluated.

    Args:
        name: of the poisoning.
        row: its row of `params.yaml`.
        bootstrap: draws subjects.

    Raises:
        ValueError: rows or truth are missing or damaged; names the file.
    """
    record = read_record(paths.truth(name))
    scoped = bool(row["scope"]) and record.measured_on == "clean"
    oracles = [read_slice_rows(cell) for cell in ("oracle-0", "oracle-1")]
    everything = {
        split: frozenset(SliceRef(*ref) for ref in group.index)
        for split, group in oracles[0].groupby("split")
    }
    known = [entry.ref for entry in record.poisoned]
    membership = split_slices(everything, record, known, scoped=scoped)
    cells = {"none": f"poisoned/{name}", "oracle": "oracle-0"}
    scenario = Scenario(name, name, row["share"], scoped, row["attack"], cells)
    models = {
        model: Model(read_model(scenario, cell, membership), membership, bootstrap)
        for model, cell in cells.items()
    }
    values: Measures = {
        "severity": row["settings"].get("severity"),
        "settings": row["settings"],
    }
    for key, split in LOSSES.items():
        loss = difference(models["oracle"], models["none"], "psnr", split)
        put(values, f"loss_{key}_db", loss)
        gap = seed_gap(models["oracle"], oracles, split)
        put_value(values, f"seed_gap_{key}_db", gap, "no slices in this split")
    for model, suffix in (("none", ""), ("oracle", "_oracle")):
        estimate = models[model].mean("agreement", "scope_test")
        put(values, f"agreement{suffix}", estimate)
    shown = models["oracle"].mean("agreement_zero_filled", "scope_test")
    put(values, "agreement_zero_filled", shown)
    put(values, "ssim_poisoned_to_clean", models["oracle"].mean("twin_ssim", "forget"))
    values["n_poisoned"] = len(record.poisoned)
    values["n_scope_test"] = len(membership.splits["scope_test"])
    return values
