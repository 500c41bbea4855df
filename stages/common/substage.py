"""Run stage `unlearn` in a folder of its own, as a user would: for what tries it out.

The folder has a `params.yaml` of its own, and of the data what whoever lays it out
wants the method to see.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

from stages.common import paths
from stages.common.runtime import FULL_DISK

# The copy of the code that runs.
ROOT = Path(__file__).resolve().parents[2]
REFUSED = 2  # exit code of a stage that says in one line what is wrong
LOG = "unlearn.log"


class SubstageError(ValueError):
    """The stage could not be run, and neither could the next."""


class Ended(NamedTuple):
    """How it ended.

    Attributes:
        checkpoint: the corrected model; None where the method refused.
        cost: what it cost, as `unlearn` counts.
        error: the method's last line where it refused, such as a loss that is not
            finite.
    """

    checkpoint: Path | None
    cost: dict[str, int]
    error: str


def run_unlearn(folder: Path, scenario: str, method: str) -> Ended:
    """Run `unlearn` in a prepared folder.

    Raises:
        SubstageError: it ended as no method ends: killed, a defect, a full disk.
    """
    command = [sys.executable, "-m", "stages.unlearn"]
    command += ["--scenario", scenario, "--method", method]
    found = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, found))}
    log = folder / LOG
    with log.open("w", encoding="utf-8") as output:
        code = _run_and_stop(command, folder, environment, output)
    lines = log.read_text(encoding="utf-8").strip().splitlines() or ["it said nothing"]
    if code == 0:
        cell = f"unlearned/{scenario}/{method}"
        cost = json.loads((folder / paths.cost(cell)).read_text(encoding="utf-8"))
        return Ended(folder / paths.checkpoint(cell), cost, "")
    if code != REFUSED or FULL_DISK in lines[-1]:
        raise SubstageError(
            f"{method} on {scenario} ended with {code}: {lines[-1]} (all of it: {log})"
        )
    return Ended(None, {}, lines[-1])


def _run_and_stop(
    command: list[str], folder: Path, environment: dict[str, str], output: Any
) -> int:
    """Run a command; what stops this process stops it too."""
    with (
        _stopped_by(signal.SIGTERM),
        subprocess.Popen(
            command,
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        ) as process,
    ):
        try:
            return process.wait()
        except BaseException:
            process.terminate()
            raise


@contextmanager
def _stopped_by(number: signal.Signals) -> Iterator[None]:
    """Turn a signal into an exception, as Ctrl-C is one."""

    def stop(received: int, _: FrameType | None) -> NoReturn:
        raise SystemExit(128 + received)

    before = signal.signal(number, stop)
    try:
        yield
    finally:
        signal.signal(number, before)
