"""The cells of the potency study: a poisoning, or a detector on one."""

from typing import Any

from stages.common.params import find_block
from stages.report.detection_rows import DetectionPlan
from stages.report.study_cells import ORACLES, SHARED, StudyCell
from stages.report.study_digests import Digests


def study_cells(
    params: dict[str, Any], plan: DetectionPlan, digests: Digests
) -> tuple[StudyCell, ...]:
    """Every cell of the study, potency first.

    Raises:
        ValueError: a block of params is missing.
    """
    cells = [_potency(name, digests) for name in find_block(params, "poisonings")]
    for cell in plan.cells:
        stage = "detect" if cell.threat_model == "closed" else "detect_open"
        name = cell.poisoning
        cells.append(
            StudyCell(
                name,
                cell.detector,
                digests.detection(name, cell.detector),
                # Its rows say which subject a slice is of.
                (_evaluate(name), f"{stage}@{name}-{cell.detector}"),
                (*_train(name), f"forget_tips@{name}"),
                SHARED,
            )
        )
    return tuple(cells)


def _potency(name: str, digests: Digests) -> StudyCell:
    oracles = ("evaluate_oracle@0", "evaluate_oracle@1")
    targets = (*oracles, f"evaluate_references@{name}", _evaluate(name))
    digest = digests.potency(name)
    return StudyCell(name, "", digest, targets, _train(name), SHARED | ORACLES)


def _train(name: str) -> tuple[str, ...]:
    return f"poison@{name}", f"train_poisoned@{name}"


def _evaluate(name: str) -> str:
    return f"evaluate_poisoned@poisoned-{name}"
