"""The search log: one row per trial, and what each objective chooses from it."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from stages.common import paths
from stages.common.volume import write_text
from stages.tune.objectives import OBJECTIVES

FOLDER = paths.METRICS / "tuning"
COSTS = ("slices_forward_backward", "slices_forward", "gradient_steps")
DONE, FAILED = "done", "failed"


class Trial(NamedTuple):
    """A trial that has ended.

    Attributes:
        study: digest of all that shapes a trial's result.
        number: place in the plan; 0 has the values of `params.yaml`.
        values: parameter -> value.
        objectives: objective -> value; empty where the trial failed.
        cost: as `unlearn` counts it; empty where the trial failed.
        error: why it failed.
    """

    study: str
    number: int
    values: dict[str, Any]
    objectives: dict[str, float]
    cost: dict[str, int]
    error: str

    @property
    def status(self) -> str:
        return FAILED if self.error else DONE


def log_path(scenario: str, method: str) -> Path:
    return FOLDER / scenario / f"{method}.csv"


def choices_path(scenario: str, method: str) -> Path:
    return FOLDER / scenario / f"{method}.json"


def checkpoint_path(scenario: str, method: str, study: str, number: int) -> Path:
    """The model of a trial, kept for whoever knows the truth."""
    folder = paths.scratch(f"tune/{scenario}/{method}") / study
    return folder / f"trial-{number:03d}.safetensors"


def write_log(path: Path, trials: Sequence[Trial]) -> None:
    """Write all trials, in the order of the plan, numbers to six digits."""
    names = sorted({name for trial in trials for name in trial.values})
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    parameters = [f"parameter.{name}" for name in names]
    writer.writerow(
        ["study", "trial", "status", *parameters, *OBJECTIVES, *COSTS, "error"]
    )
    for trial in sorted(trials, key=lambda trial: trial.number):
        writer.writerow(
            [
                trial.study,
                trial.number,
                trial.status,
                *(json.dumps(trial.values[name]) for name in names),
                *(_as_text(trial.objectives.get(name)) for name in OBJECTIVES),
                *(trial.cost.get(name, "") for name in COSTS),
                trial.error,
            ]
        )
    write_text(path, text.getvalue())


def read_log(path: Path) -> list[Trial]:
    """Read a search log.

    Raises:
        ValueError: it is missing or damaged.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
        return [_trial(row) for row in rows]
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: run `make tune`") from None
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged ({error}): delete it and run `make tune`, which "
            "repeats no trial"
        ) from None


def _trial(row: Mapping[str, str]) -> Trial:
    done = row["status"] == DONE
    return Trial(
        study=row["study"],
        number=int(row["trial"]),
        values={
            key.removeprefix("parameter."): json.loads(text)
            for key, text in row.items()
            if key.startswith("parameter.")
        },
        objectives={name: float(row[name]) for name in OBJECTIVES} if done else {},
        cost={name: int(row[name]) for name in COSTS} if done else {},
        error=row["error"],
    )


def chosen(trials: Sequence[Trial]) -> dict[str, Trial]:
    """The trial that each objective prefers, the earlier one of two that are equal.

    Returns:
        Objective -> trial; empty where no trial went well.
    """
    done = sorted((t for t in trials if t.objectives), key=lambda trial: trial.number)
    if not done:
        return {}
    return {
        name: max(done, key=lambda trial: trial.objectives[name]) for name in OBJECTIVES
    }


def write_choices(path: Path, trials: Sequence[Trial]) -> None:
    """Write what each objective chooses: values to copy into `params.yaml`."""
    content = {
        name: {
            "trial": trial.number,
            "value": float(_as_text(trial.objectives[name])),
            "parameters": trial.values,
        }
        for name, trial in chosen(trials).items()
    }
    write_text(path, json.dumps(content, indent=1) + "\n")


def _as_text(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
