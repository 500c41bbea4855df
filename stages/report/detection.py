"""How much of the poison can be found: attack -> share -> detector -> figures.

Measured on the slices that nobody has reported: undiscovered poison against clean.
Poison that lies in one contrast is told from the clean slices of the others by the
contrast alone, so the area under the curve is also given among the slices of the scope.
"""

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from stages.report import ranking
from stages.report.bootstrap import MIN_SUBJECTS, Bootstrap, Estimate, absent
from stages.report.detection_rows import DetectionCell, DetectionPlan, read_scores
from stages.report.ranking import Curve
from stages.report.values import Measures, put

log = logging.getLogger(__name__)

CHANCE = 0.5
IN_SCOPE = "auroc_in_scope"
FIGURES = (
    "auroc",
    IN_SCOPE,
    "average_precision",
    "precision_at_budget",
    "recall_at_budget",
    "recall_at_1pct_fp",
)
NOTHING_HIDDEN = "no poison is undiscovered"
NOTHING_CLEAN = "no training slice is clean"
NOTHING_KNOWN = "no slice has been reported: there is no budget"
TOO_FEW = f"poison or clean slices in fewer than {MIN_SUBJECTS} subjects"
# Area under the curve -> among which slices it is.
WARNED = {"auroc": "", IN_SCOPE: " in the scope"}
# Of the weights that are looked at together: 2 million are 16 MB.
BLOCK = 2_000_000
CLASSIFIER = "forget_classifier"


def summarise_detection(plan: DetectionPlan) -> dict[str, Any]:
    """Measure every detector of the grid on every poisoning."""
    bootstrap = Bootstrap(plan.bootstrap)
    summary: dict[str, Any] = {}
    for cell in plan.cells:
        values = measure(read_scores(cell), bootstrap)
        shares = summary.setdefault(cell.attack, {})
        shares.setdefault(cell.share_key, {})[cell.detector] = {
            "poisoning": cell.poisoning,
            "threat_model": cell.threat_model,
            **values,
        }
        for name, among in WARNED.items():
            if values[below_chance(name)]:
                log.warning(
                    "detector %s is BELOW CHANCE on %s%s: AUROC %.3f; what it calls "
                    "suspicious is clean",
                    cell.detector,
                    cell.poisoning,
                    among,
                    values[name],
                )
    return summary


def below_chance(name: str) -> str:
    """Name of the flag of an area under the curve."""
    return name.replace("auroc", "below_chance")


def warning_of(values: Measures) -> str:
    """What a table says where a detector does worse than chance; mostly nothing."""
    found = [name for name in WARNED if values[below_chance(name)]]
    return f"**below chance{WARNED[found[0]]}**" if found else ""


def figures_of(summary: dict[str, Any], cell: DetectionCell) -> Measures:
    """The figures of a cell."""
    values: Measures = summary[cell.attack][cell.share_key][cell.detector]
    return values


def measure(rows: pd.DataFrame, bootstrap: Bootstrap) -> Measures:
    """The figures of one detector on one poisoning.

    Args:
        rows: every training slice: score, known, poisoned, in_scope, subject_id.
        bootstrap: draws subjects.
    """
    known = int(rows["known"].sum())
    hidden = rows[~rows["known"]]
    values: Measures = {
        "n_slices": len(hidden),
        "n_subjects": int(hidden["subject_id"].nunique()),
        "n_poisoned": int(rows["poisoned"].sum()),
        "n_hidden": int(hidden["poisoned"].sum()),
        "n_known": known,
    }
    found = estimates(hidden, known, bootstrap)
    inside = estimates(hidden[hidden["in_scope"]], 0, bootstrap)["auroc"]
    reason = f"in the scope, {inside.reason}" if inside.reason else ""
    found[IN_SCOPE] = inside._replace(reason=reason)
    for name in FIGURES:
        put(values, name, found[name])
    for name in WARNED:
        value, interval = found[name].value, found[name].interval
        # Few subjects have no interval; that silences no warning.
        most = value if interval is None else interval[1]
        values[below_chance(name)] = most is not None and most < CHANCE
    return values


def estimates(
    hidden: pd.DataFrame, known: int, bootstrap: Bootstrap
) -> dict[str, Estimate]:
    """How well scores tell poisoned slices from others, measure by measure.

    Args:
        hidden: slices that were not reported: score, poisoned, subject_id.
        known: how many were.
        bootstrap: draws subjects.
    """
    missing = ""
    if not hidden["poisoned"].any():
        missing = NOTHING_HIDDEN
    elif hidden["poisoned"].all():
        missing = NOTHING_CLEAN
    if missing:
        return dict.fromkeys(FIGURES, absent(missing))
    share = known / len(hidden)
    functions: dict[str, Callable[[Curve], np.ndarray]] = {
        "auroc": ranking.auroc,
        "average_precision": ranking.average_precision,
        "precision_at_budget": lambda ranked: ranking.at_budget(ranked, share)[0],
        "recall_at_budget": lambda ranked: ranking.at_budget(ranked, share)[1],
        "recall_at_1pct_fp": ranking.recall_at_false_positives,
    }
    point = _curves(hidden, np.ones((1, len(hidden))))
    # Of the class with fewer: what tells poison from others rests on both.
    fewest = int(hidden.groupby("poisoned")["subject_id"].nunique().min())
    drawn = _resampled(hidden, bootstrap) if fewest >= MIN_SUBJECTS else []
    found = {}
    for name, function in functions.items():
        if name.endswith("_at_budget") and not known:
            found[name] = absent(NOTHING_KNOWN)
            continue
        samples = [function(ranked) for ranked in drawn]
        found[name] = Estimate(
            float(function(point)[0]),
            np.concatenate(samples) if samples else np.empty(0),
            "" if samples else TOO_FEW,
            fewest,
        )
    return found


def _resampled(hidden: pd.DataFrame, bootstrap: Bootstrap) -> list[Curve]:
    """The ranking in every resample of the subjects, in blocks of resamples."""
    subjects = sorted(hidden["subject_id"].unique())
    weights = bootstrap.weights(tuple(subjects))
    place = np.searchsorted(subjects, hidden["subject_id"].to_numpy())
    blocks = max(1, -(-len(weights) * len(hidden) // BLOCK))
    return [
        _curves(hidden, block[:, place]) for block in np.array_split(weights, blocks)
    ]


def _curves(hidden: pd.DataFrame, weights: np.ndarray) -> Curve:
    scores = hidden["score"].to_numpy(np.float64)
    return ranking.curve(scores, hidden["poisoned"].to_numpy(bool), weights)


def most_poisoned(plan: DetectionPlan) -> str:
    """The poisoning with the largest share; the first of equals."""
    return max(plan.cells, key=lambda cell: cell.share).poisoning


def confusion(plan: DetectionPlan) -> str:
    """The classifier's decisions at 0.5 where most is poisoned (the paper's Fig. 3).

    Returns:
        CSV for DVC's template: actual and predicted class of each unreported slice.
    """
    wanted = (most_poisoned(plan), CLASSIFIER) if plan.cells else None
    cells = [c for c in plan.cells if (c.poisoning, c.detector) == wanted]
    if not cells:
        return "actual,predicted\n"
    rows = read_scores(cells[0])
    hidden = rows[~rows["known"]]
    names = {True: "poisoned", False: "clean"}
    table = pd.DataFrame(
        {
            "actual": hidden["poisoned"].map(names),
            "predicted": (hidden["score"] >= CHANCE).map(names),
        }
    )
    return table.to_csv(index=False, lineterminator="\n")
