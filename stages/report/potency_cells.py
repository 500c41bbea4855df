"""The cells of the potency study: which figures are there, and what the others need.

A cell is a poisoning, or a detector on one. Its figures are good while their digest is
the present tree's; what has run here but is not summed up yet, DVC knows.
"""

import json
import subprocess
import sys
from typing import Any, NamedTuple

from stages.common.params import find_block
from stages.report.detection_rows import DetectionPlan
from stages.report.potency_store import Key
from stages.report.study_digests import Digests
from stages.report.values import Measures

# Stages whose results all cells share, and those that potency is held against.
SHARED = frozenset(
    ("code", "check", "download", "synthesize", "synthesize_artefacts", "classify")
)
ORACLES = frozenset(("train_oracle", "train_oracle_continue", "evaluate_oracle"))


class StudyCell(NamedTuple):
    """One set of figures of the study.

    Attributes:
        poisoning: its name.
        detector: its name, or nothing for the poisoning's potency.
        digest: of all that shapes the figures.
        targets: stages to ask the runner for.
        through: stages of its poisoning that they need.
        shared: stages that other cells need too, without what follows `@`.
    """

    poisoning: str
    detector: str
    digest: str
    targets: tuple[str, ...]
    through: tuple[str, ...]
    shared: frozenset[str]

    @property
    def key(self) -> Key:
        return self.poisoning, self.detector

    def has_run(self, changed: set[str]) -> bool:
        """Whether nothing that it needs is among the stages that DVC would run."""
        own = {*self.targets, *self.through}
        return not any(
            stage in own or stage.partition("@")[0] in self.shared for stage in changed
        )


class Study(NamedTuple):
    """All cells, and the figures that earlier runs have left."""

    cells: tuple[StudyCell, ...]
    stored: dict[Key, Measures]

    @property
    def kept(self) -> dict[Key, Measures]:
        """Figures that are those of the present tree."""
        return {
            cell.key: self.stored[cell.key]
            for cell in self.cells
            if self.stored.get(cell.key, {}).get("digest") == cell.digest
        }

    @property
    def stale(self) -> list[Key]:
        """Committed figures that are not: other settings, other code, or no row."""
        kept = self.kept
        return [key for key in self.stored if key not in kept]

    @property
    def needs(self) -> dict[str, list[str]]:
        """Poisoning -> the stages that its missing figures need; none: all are there.

        In the order of `params.yaml`.
        """
        kept = self.kept
        found: dict[str, dict[str, None]] = {}
        for cell in self.cells:
            wanted = found.setdefault(cell.poisoning, {})
            if cell.key not in kept:
                wanted |= dict.fromkeys(cell.targets)
        return {name: list(stages) for name, stages in found.items()}


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


def changed_stages() -> set[str]:
    """Stages that DVC would run: never run here, or with other settings or code.

    Raises:
        ValueError: DVC could not say.
    """
    # Without targets each stage is looked at once; with them, once for each target.
    command = [sys.executable, "-m", "dvc", "status", "--json"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise ValueError(f"`dvc status` failed: {answer.stderr.strip()}")
    return set(json.loads(answer.stdout))
