"""Run DVC stages one by one, as their names come in on standard input.

Each is what `dvc repro --wait-for-lock --single-item <stage>` does, without the seconds
that a new DVC process takes to start. DVC keeps its locks: any number of workers, and
DVC commands beside them, may be at work in one project.

    echo report | python -m stages.check.worker
"""

import gc
import logging
import os
import sys
import time
from typing import Any, TextIO

from dvc.exceptions import DvcException
from dvc.lock import LockError
from dvc.repo import Repo

from stages.check import lockfile

# Starts the line that ends a stage's output.
END = "\x1e"
RAN, SAME, FAILED = "ran", "same", "failed"
# Between two looks at files that are in use: every look locks the project.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 15.0  # seconds
# DVC makes many objects of dvc.lock, and few cycles: Python's default of 700 looks for
# those so often that it takes a tenth of the time, for some megabytes.
GARBAGE_AFTER = 100_000  # objects

log = logging.getLogger("dvc.mendmri")


def reproduce(name: str) -> str:
    """Run a stage if it has changed.

    Waits while another process is at work on its files.

    Returns:
        RAN, or SAME when there was nothing to do.

    Raises:
        DvcException: the command failed, or DVC could not read or write something.
    """
    pause = FIRST_PAUSE
    while True:
        try:
            # As `--wait-for-lock`: every process locks the project for seconds, and a
            # result would be lost if DVC gave up before it could be recorded.
            with Repo(_wait_for_lock=True) as repo:
                repo.scm_context.quiet = True
                ran = repo.reproduce([name], single_item=True)
                for stage in ran:
                    _remember(repo, stage)
            return RAN if ran else SAME
        except DvcException as error:
            if not isinstance(error.__cause__, LockError):
                raise
            if pause == FIRST_PAUSE:
                log.info("%s", error.__cause__)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def _remember(repo: Repo, stage: Any) -> None:
    """Enter a stage that has run into DVC's cache of runs.

    DVC itself leaves out every stage with an output that git keeps and that is neither
    metrics nor a plot (its pull request 8738), such as the scores of slices here: then
    a former value of a parameter, or another clone with this cache, would train anew.
    """
    if all(out.use_cache or out.is_metric or out.is_plot for out in stage.outs):
        return
    with repo.lock:
        repo.stage_cache.save(stage)


def serve(names: TextIO, answers: TextIO) -> None:
    """Run every stage that is named, and answer each with `<END><outcome>`."""
    for line in names:
        try:
            outcome = reproduce(line.strip())
        except DvcException as error:
            log.error("%s", _reasons(error))
            outcome = FAILED
        # What a killed command left is ended first.
        answers.write(f"\n{END}{outcome}\n")
        answers.flush()


def _reasons(error: BaseException | None) -> str:
    """An error and what it came from, as DVC's own command line shows them."""
    reasons = []
    while error is not None:
        reasons.append(str(error))
        error = error.__cause__
    return ": ".join(reasons)


def main() -> None:
    gc.set_threshold(GARBAGE_AFTER)
    lockfile.install()
    # Commands inherit standard input: the names are not theirs to read.
    names = os.fdopen(os.dup(sys.stdin.fileno()), encoding="utf-8")
    with open(os.devnull, encoding="utf-8") as nothing:  # noqa: PTH123
        os.dup2(nothing.fileno(), sys.stdin.fileno())
    serve(names, sys.stdout)


if __name__ == "__main__":
    main()
