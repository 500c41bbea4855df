"""Run one trial as a user would: stage `unlearn`, in a folder of its own.

The folder has a `params.yaml` with the trial's values, and of the data the training
k-space and the case without what is held out. Validation, test and truth are not there.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, NoReturn

import yaml

from stages.common import paths
from stages.common.manifest import write_manifest, write_slices
from stages.common.params import PARAMS_FILE
from stages.common.runtime import FULL_DISK
from stages.common.volume import write_text
from stages.tune.data import TuneData

REFUSED = 2  # exit code of a stage that says in one line what is wrong
LOG = "unlearn.log"


class TrialError(ValueError):
    """A trial could not be run, and neither could the next."""


class Ended(NamedTuple):
    """How a trial ended.

    Attributes:
        checkpoint: the corrected model; None where the method refused.
        cost: what it cost, as `unlearn` counts.
        error: the method's last line where it refused, such as a loss that is not
            finite.
    """

    checkpoint: Path | None
    cost: dict[str, int]
    error: str


def prepare(
    folder: Path,
    params: Mapping[str, Any],
    scenario: str,
    data: TuneData,
) -> None:
    """Lay out what `unlearn` reads, below `folder`; what is there stays."""
    write_text(folder / PARAMS_FILE, yaml.safe_dump(dict(params), sort_keys=False))
    write_manifest(folder / paths.manifest("train"), data.manifest)
    write_slices(folder / paths.case(scenario) / "forget.json", data.forget)
    case = paths.case(scenario)
    for path in (paths.kspace("train"), case / "model.safetensors", case / "targets"):
        link = folder / path
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())


def run(folder: Path, scenario: str, method: str) -> Ended:
    """Run `unlearn` in a prepared folder.

    Raises:
        TrialError: it ended as no method ends: killed, a defect, a full disk.
    """
    command = [sys.executable, "-m", "stages.unlearn"]
    command += ["--scenario", scenario, "--method", method]
    found = [str(Path.cwd()), os.environ.get("PYTHONPATH", "")]
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
        raise TrialError(
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
