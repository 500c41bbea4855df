"""Sum up the potency study: what each attack does to a network, against the oracle.

Input: rows and truth of every poisoning of `params.yaml` that has been evaluated; those
that have not are listed as missing.
Output: `metrics/potency.json` (attack -> scope -> share -> figures), a table and a plot
in `metrics/studies/`.

    python -m stages.report.potency --commit <revision>
"""

import argparse
import hashlib
import json
import logging
import subprocess
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.params import PARAMS_FILE, ParamsError, find_block, read_params
from stages.common.truth import read_record
from stages.common.volume import write_text
from stages.report.bootstrap import Bootstrap
from stages.report.healing import seed_gap
from stages.report.measures import Model, difference
from stages.report.potency_views import draw_plot, write_table
from stages.report.rows import read_model, read_slice_rows, split_slices
from stages.report.settings import ReportSettings, Scenario
from stages.report.values import Measures, put, put_value

RESULT = paths.METRICS / "potency.json"
FOLDER = paths.METRICS / "studies"
# Name in the result -> split: what is lost there, oracle minus poisoned model.
# Stages whose results every poisoning is held against.
COMMON = ("code", "check", "synthesize", "train_oracle", "evaluate_oracle")
LOSSES = {
    "outside": "outside",
    "scope": "scope_test",
    "scope_val": "scope_val",
    "poisoned": "forget",
    "clean": "test",
}

log = logging.getLogger(__name__)


def sum_up(params: dict[str, Any], *, commit: str) -> dict[str, Any]:
    """Measure every poisoning that has been evaluated.

    Args:
        params: the whole of `params.yaml`.
        commit: what the code is; a study runs in a copy that has no history.

    Raises:
        ValueError: a file of one that has is damaged.
    """
    settings = ReportSettings(**find_block(params, "report"))
    bootstrap = Bootstrap(settings.bootstrap)
    result: dict[str, Any] = {}
    missing = []
    poisonings = find_block(params, "poisonings")
    stale = stale_poisonings(poisonings)
    for name, row in poisonings.items():
        if name in stale:
            missing.append(name)
            continue
        figures = {"poisoning": name, **_figures(name, row, bootstrap)}
        shares = result.setdefault(row["attack"], {}).setdefault(scope_of(row), {})
        share = f"{row['share']:g}"
        shares[f"{share} ({name})" if share in shares else share] = figures
    result["_run"] = {
        "command": "make potency",
        "commit": commit,
        "params_sha256": hashlib.sha256(PARAMS_FILE.read_bytes()).hexdigest(),
        "missing": missing,
    }
    return result


def stale_poisonings(names: Iterable[str]) -> set[str]:
    """Poisonings of which a row is missing, or was made with other settings or code.

    Raises:
        ValueError: DVC could not say.
    """
    needed = {
        name: {
            f"poison@{name}",
            f"train_poisoned@{name}",
            f"evaluate_poisoned@poisoned-{name}",
            f"evaluate_references@{name}",
        }
        for name in names
    }
    oracles = {"evaluate_oracle@0", "evaluate_oracle@1"}
    stages = sorted(oracles.union(*needed.values()))
    command = [sys.executable, "-m", "dvc", "status", "--with-deps", "--json", *stages]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ValueError(f"`dvc status` failed: {answer.stderr.strip()}")
    changed = set(json.loads(answer.stdout))
    if any(stage.startswith(COMMON) for stage in changed):
        return set(needed)
    return {name for name, own in needed.items() if own & changed}


def scope_of(row: dict[str, Any]) -> str:
    """How the scope of a poisoning is called, such as `all` or `contrast FLAIR`."""
    scope = {key: value for key, value in row["scope"].items() if value is not None}
    if "subjects" in scope:
        scope["subjects"] = len(scope["subjects"])
    return ", ".join(f"{key} {value}" for key, value in scope.items()) or "all"


def _figures(name: str, row: dict[str, Any], bootstrap: Bootstrap) -> Measures:
    record = read_record(paths.truth(name))
    scoped = bool(row["scope"]) and record.measured_on == "clean"
    slices = read_slice_rows("oracle-0")
    everything = {
        split: frozenset(SliceRef(*ref) for ref in group.index)
        for split, group in slices.groupby("split")
    }
    known = [entry.ref for entry in record.poisoned]
    membership = split_slices(everything, record, known, scoped=scoped)
    cells = {"none": f"poisoned/{name}", "oracle": "oracle-0", "second": "oracle-1"}
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
        gap = seed_gap(models["oracle"], models["second"], split)
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


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.report.potency")
    parser.add_argument("--commit", required=True, help="of the code that was run")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    commit: str = parse_args(argv).commit
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        result = sum_up(read_params(), commit=commit)
    except (ParamsError, ValueError) as error:
        log.error("%s", error)
        raise SystemExit(2) from None
    write_text(RESULT, json.dumps(result, indent=1, allow_nan=False) + "\n")
    write_table(FOLDER / "potency.md", result)
    draw_plot(FOLDER / "potency.png", result)
    missing = result["_run"]["missing"]
    log.info("%s: %d poisonings are still missing", RESULT, len(missing))


if __name__ == "__main__":
    main()
