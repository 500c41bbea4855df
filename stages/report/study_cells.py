"""What studies have in common: cells, which figures are there, what the others need.

A cell's figures are good while their digest is the present tree's; what has run here
but is not summed up yet, DVC knows.
"""

import argparse
import json
import logging
import subprocess
import sys
from collections.abc import Sequence
from typing import NamedTuple

from stages.report.values import Measures

log = logging.getLogger(__name__)

# The part of a study (a poisoning or a scenario), and what of it is measured: a
# detector, a model, or nothing for the part itself.
Key = tuple[str, str]

# Stages whose results all cells share, and those that potency is held against.
SHARED = frozenset(
    ("code", "check", "download", "synthesize", "synthesize_artefacts", "classify")
)
ORACLES = frozenset(("train_oracle", "train_oracle_continue", "evaluate_oracle"))


class StudyCell(NamedTuple):
    """One set of figures of a study.

    Attributes:
        part: name of the poisoning or scenario.
        item: what is measured of it.
        digest: of all that shapes the figures.
        targets: stages to ask the runner for.
        through: stages of its part that they need.
        shared: stages that other cells need too, without what follows `@`.
    """

    part: str
    item: str
    digest: str
    targets: tuple[str, ...]
    through: tuple[str, ...]
    shared: frozenset[str]

    @property
    def key(self) -> Key:
        return self.part, self.item

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
        """Part -> the stages that its missing figures need; none: all are there.

        In the order of `params.yaml`.
        """
        kept = self.kept
        found: dict[str, dict[str, None]] = {}
        for cell in self.cells:
            wanted = found.setdefault(cell.part, {})
            if cell.key not in kept:
                wanted |= dict.fromkeys(cell.targets)
        return {name: list(stages) for name, stages in found.items()}


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


def tell_stale(study: Study) -> None:
    """Name the parts and items whose committed figures are out of date."""
    if study.stale:
        log.warning(
            "%d committed figures are out of date, settings or code have changed: %s",
            len(study.stale),
            ", ".join(" ".join(key).strip() for key in study.stale),
        )


def parse_args(module: str, argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The two things that the summary of every study is asked for."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--commit", help="of the code that was run: sum up")
    what.add_argument("--needs", action="store_true", help="say what is missing")
    return parser.parse_args(argv)
