"""Sum up the potency study: what each attack does to a network, and who finds it.

Figures that are committed and still those of the present tree are kept, those of what
has run here are added, the rest is listed as missing.

Input: `metrics/potency.json` and `metrics/studies/detection.json` of earlier runs;
rows, truth and scores of every poisoning of `params.yaml` that has run here.
Output: the same two (attack -> scope -> share -> figures; attack -> share -> detector
-> figures), tables and plots in `metrics/studies/`. With `--needs` a line of JSON
instead: poisoning -> the stages that its missing figures need.

    python -m stages.report.potency --commit <revision>
"""

import hashlib
import json
import logging
import sys
from collections.abc import Sequence
from typing import Any

from stages.common.params import PARAMS_FILE, ParamsError, find_block, read_params
from stages.common.volume import write_text
from stages.report.bootstrap import Bootstrap
from stages.report.detection import figures_of, summarise_detection
from stages.report.detection_rows import DetectionPlan, read_detection_plan
from stages.report.potency_cells import study_cells
from stages.report.potency_detection import draw_detection, write_detection
from stages.report.potency_figures import measure_potency
from stages.report.potency_plot import draw_plot
from stages.report.potency_store import DETECTION, FOLDER, POTENCY, read_store
from stages.report.potency_views import scope_of, write_table
from stages.report.study_cells import (
    Key,
    Study,
    changed_stages,
    parse_args,
    tell_stale,
)
from stages.report.study_digests import Digests, code_digests
from stages.report.study_store import digests_of
from stages.report.values import Measures

log = logging.getLogger(__name__)


def read_study(params: dict[str, Any], plan: DetectionPlan) -> Study:
    """The study as it stands, before anything runs.

    Raises:
        ValueError: a committed file is damaged, or a block of params is missing.
    """
    cells = study_cells(params, plan, Digests(params, code_digests()))
    return Study(cells, read_store(digests_of(cells)))


def sum_up(
    study: Study, params: dict[str, Any], plan: DetectionPlan, *, commit: str
) -> dict[Key, Measures]:
    """All figures that are good or can be measured.

    Args:
        study: as it stood.
        params: the whole of `params.yaml`.
        plan: the detectors.
        commit: what the code is; a study runs in a copy that has no history.

    Raises:
        ValueError: a file of what has run is damaged, or DVC could not say what has.
    """
    found = study.kept
    todo = [cell for cell in study.cells if cell.key not in found]
    changed = changed_stages() if todo else set()
    bootstrap = Bootstrap(plan.bootstrap)
    detections = {(cell.poisoning, cell.detector): cell for cell in plan.cells}
    for cell in todo:
        if not cell.has_run(changed):
            continue
        if cell.item:
            detection = detections[cell.key]
            summary = summarise_detection(plan._replace(cells=(detection,)))
            figures = figures_of(summary, detection)
        else:
            row = find_block(params, "poisonings")[cell.part]
            figures = measure_potency(cell.part, row, bootstrap)
            figures = {"poisoning": cell.part, **figures}
        found[cell.key] = {**figures, "digest": cell.digest, "commit": commit}
    return found


def potency_tree(
    poisonings: dict[str, Any], figures: dict[Key, Measures]
) -> dict[str, Any]:
    """Attack -> scope -> share -> figures.

    The poisoning's name stands beside the share where another one before it has the
    same attack, scope and share, whether that one has run or not.
    """
    tree: dict[str, Any] = {}
    taken = set()
    for name, row in poisonings.items():
        attack, scope, share = row["attack"], scope_of(row), f"{row['share']:g}"
        key = f"{share} ({name})" if (attack, scope, share) in taken else share
        taken.add((attack, scope, share))
        if (name, "") in figures:
            scopes = tree.setdefault(attack, {})
            scopes.setdefault(scope, {})[key] = figures[name, ""]
    return tree


def detection_tree(plan: DetectionPlan, figures: dict[Key, Measures]) -> dict[str, Any]:
    """Attack -> share -> detector -> figures, as in `metrics/detection.json`."""
    tree: dict[str, Any] = {}
    for cell in plan.cells:
        key = (cell.poisoning, cell.detector)
        if key in figures:
            shares = tree.setdefault(cell.attack, {})
            shares.setdefault(cell.share_key, {})[cell.detector] = figures[key]
    return tree


def write_results(
    study: Study,
    params: dict[str, Any],
    plan: DetectionPlan,
    figures: dict[Key, Measures],
    *,
    commit: str,
) -> None:
    """Write both results with their tables and plots."""
    run = {
        "command": "make potency",
        "commit": commit,
        "params_sha256": hashlib.sha256(PARAMS_FILE.read_bytes()).hexdigest(),
    }
    missing = [cell.key for cell in study.cells if cell.key not in figures]
    poisonings = find_block(params, "poisonings")
    potency = potency_tree(poisonings, figures)
    names = [name for name, detector in missing if not detector]
    potency["_run"] = {**run, "missing": names}
    write_text(POTENCY, json.dumps(potency, indent=1, allow_nan=False) + "\n")
    write_table(FOLDER / "potency.md", potency)
    draw_plot(FOLDER / "potency.png", potency)
    detection = detection_tree(plan, figures)
    cells = [f"{name} {detector}" for name, detector in missing if detector]
    detection["_run"] = {**run, "missing": cells}
    write_text(DETECTION, json.dumps(detection, indent=1, allow_nan=False) + "\n")
    write_detection(FOLDER / "detection.md", detection, plan, poisonings)
    draw_detection(FOLDER / "detection.png", detection, plan, poisonings)
    log.info("%s: %d poisonings are still missing", POTENCY, len(names))
    log.info("%s: %d detections are still missing", DETECTION, len(cells))


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args("stages.report.potency", argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        params = read_params()
        plan = read_detection_plan(params)
        study = read_study(params, plan)
        if args.needs:
            tell_stale(study)
            sys.stdout.write(json.dumps(study.needs) + "\n")
            return
        figures = sum_up(study, params, plan, commit=args.commit)
    except (ParamsError, ValueError) as error:
        log.error("%s", error)
        raise SystemExit(2) from None
    write_results(study, params, plan, figures, commit=args.commit)


if __name__ == "__main__":
    main()
