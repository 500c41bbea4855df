"""Stop a change that makes a metric worse: compare with another git revision.

Inputs: metrics/headline.json, metrics/summary.json and metrics/cells/**/*.json, here
and in BASE; `params.yaml` here (the `gate` block, the grid) and in BASE; `dvc.lock`.
Output: a Markdown table on stdout, and in `--report FILE`; exit code 1 for a
regression or for metrics that nobody reran, 2 when there is nothing to compare with.

    python -m stages.report.gate main --report report.md
"""

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from stages.common.params import PARAMS_FILE, ParamsError, read_params, validate
from stages.common.paths import METRICS
from stages.report.gate_diff import REGRESSION, Change, Grid, compare
from stages.report.gate_settings import BLOCKS, GateRule
from stages.report.gate_stale import StaleError, find_stale

# A comment on a pull request takes 65536 characters.
MOST_ROWS = 250

log = logging.getLogger(__name__)


class GateError(ValueError):
    """There is nothing to compare with."""


def check_metrics(base: str) -> tuple[str, bool]:
    """Return the report in Markdown, and whether the metrics pass.

    Raises:
        GateError: `base` is no revision here, or a metrics file is not JSON.
        ParamsError: `params.yaml` cannot be used.
    """
    params = read_params()
    rules: dict[str, GateRule] = validate(params.get("gate"), "gate", BLOCKS["gate"])
    revision = _resolve(base)
    old_params = _parse_params(_show(revision, str(PARAMS_FILE)), base)
    new = {str(path): _parse(path.read_text("utf-8"), str(path)) for path in _here()}
    if not new:
        raise GateError(f"no metrics in {METRICS}/: run `make repro` first")
    old = {
        path: _parse(_show(revision, path), f"{path} in {base}")
        for path in _git("ls-tree", "-r", "--name-only", revision, "--", str(METRICS))
        if _is_metric(Path(path))
    }
    changes = compare(old, new, grid=Grid(old_params, params), rules=rules)
    in_git = _git("ls-files", "--cached", "--others", "--exclude-standard")
    stale = find_stale(in_git=set(in_git))
    failed = bool(stale) or any(change.verdict == REGRESSION for change in changes)
    return to_markdown(changes, stale, base=base), not failed


def to_markdown(changes: Sequence[Change], stale: Sequence[str], *, base: str) -> str:
    """Regressions first, in the shape of `dvc metrics diff --md`."""
    bad = sum(change.verdict == REGRESSION for change in changes)
    passed = not bad and not stale
    lines = [f"## Metrics against `{base}`: {'pass' if passed else 'FAIL'}", ""]
    if stale:
        lines += [
            f"**{len(stale)} stale**: run `dvc repro` and commit the results.",
            "",
        ]
        lines += [f"- {line}" for line in stale[:MOST_ROWS]]
        lines += [f"- and {len(stale) - MOST_ROWS} more"] * (len(stale) > MOST_ROWS)
        lines += [""]
    lines += [f"{bad} regressions, {len(changes)} changes in all.", ""]
    if changes:
        lines += [f"| Path | Metric | {base} | workspace | Change | Verdict |"]
        lines += ["|---|---|---|---|---|---|"]
        lines += [_row(change) for change in changes[:MOST_ROWS]]
    if len(changes) > MOST_ROWS:
        lines += ["", f"{len(changes) - MOST_ROWS} more rows are not shown."]
    return "\n".join(lines) + "\n"


def _row(change: Change) -> str:
    gain = "-"
    if change.old is not None and change.new is not None:
        gain = f"{change.new - change.old:+.4g}"
    verdict = change.verdict.upper() if change.verdict == REGRESSION else change.verdict
    cells = [
        change.path,
        change.name or "-",
        _shown(change.old),
        _shown(change.new),
        gain,
        f"{verdict} ({change.note})" if change.note else verdict,
    ]
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.6g}"


def _is_metric(path: Path) -> bool:
    if path.suffix != ".json":
        return False
    flat = (METRICS / "headline.json", METRICS / "summary.json")
    return path in flat or METRICS / "cells" in path.parents


def _here() -> list[Path]:
    return [path for path in sorted(METRICS.rglob("*.json")) if _is_metric(path)]


def _parse(text: str | None, name: str) -> dict[str, Any]:
    try:
        content = json.loads(text or "")
    except json.JSONDecodeError as error:
        raise GateError(f"{name} is not JSON: {error}") from None
    return content if isinstance(content, dict) else {"value": content}


def _parse_params(text: str | None, base: str) -> dict[str, Any]:
    try:
        content = yaml.safe_load(text or "{}")
    except yaml.YAMLError as error:
        raise GateError(f"{PARAMS_FILE} in {base} is not YAML: {error}") from None
    return content if isinstance(content, dict) else {}


def _resolve(base: str) -> str:
    found = [] if base.startswith("-") else _git("rev-parse", "--verify", f"{base}^0")
    if not found:
        raise GateError(
            f"'{base}' is no revision of this repository: fetch it (CI: full history, "
            "fetch-depth 0) or name another one, such as BASE=main"
        )
    return found[0]


def _show(revision: str, path: str) -> str | None:
    answer = _run("show", f"{revision}:./{path}")
    return None if answer.returncode else answer.stdout


def _git(*arguments: str) -> list[str]:
    answer = _run("-c", "core.quotePath=false", *arguments)
    return [] if answer.returncode else answer.stdout.splitlines()


def _run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = ["git", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.report.gate")
    parser.add_argument("base", metavar="BASE", help="git revision to compare with")
    parser.add_argument("--report", type=Path, help="also write the table here")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        report, passed = check_metrics(args.base)
    except (GateError, ParamsError, StaleError) as error:
        log.error("%s", error)
        raise SystemExit(2) from None
    sys.stdout.write(report)
    if args.report:
        args.report.write_text(report, encoding="utf-8")
    raise SystemExit(0 if passed else 1)


if __name__ == "__main__":
    main()
