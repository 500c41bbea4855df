"""Run a study: a part of the pipeline on a profile of its own, beside the default grid.

It runs in a copy of the project under `.scratch/studies/`, which is kept: what has run
does not run again, so that a study may be stopped at any time and goes on with the next
call. It shares the DVC cache of the project. Its results are copied back; they are
committed and no stage writes them.

Input: the project's files, the profile of the same name.
Output: the results that the study's summary writes, such as `metrics/potency.json`.

    python -m stages.check.study potency --jobs 2
"""

import argparse
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from stages.check.parallel import positive
from stages.check.pool import default_jobs
from stages.check.sandbox import refresh_sandbox
from stages.common import paths
from stages.common.volume import write_text

log = logging.getLogger(__name__)


class Study(NamedTuple):
    """What a study runs.

    Attributes:
        only: patterns of the stages that are wanted.
        summary: module that sums up what has been run, finished or not.
        results: files that it writes.
    """

    only: tuple[str, ...]
    summary: str
    results: tuple[Path, ...]


STUDIES = {
    "potency": Study(
        only=(
            "evaluate_oracle@*",
            "evaluate_references@*",
            "evaluate_poisoned@poison*",
        ),
        summary="stages.report.potency",
        results=(
            paths.METRICS / "potency.json",
            paths.METRICS / "studies" / "potency.md",
            paths.METRICS / "studies" / "potency.png",
        ),
    ),
}


def run_study(name: str, *, jobs: int) -> int:
    """Run a study as far as it comes; return the exit code of stages or summary.

    Raises:
        ValueError: the copy could not be made, or the project is not in git.
    """
    study, folder = STUDIES[name], paths.SCRATCH / "studies" / name
    commit = _commit()
    count = refresh_sandbox(Path(), folder, profile=name)
    log.info("%s: %d files, profile '%s'", folder, count, name)
    cache = (Path() / ".dvc" / "cache").resolve()
    write_text(folder / ".dvc" / "config.local", f"[cache]\n    dir = {cache}\n")
    runner = ["-m", "stages.check.parallel", "--jobs", str(jobs), "--only", *study.only]
    code = _run_to_its_end([sys.executable, *runner], folder)
    summary = [sys.executable, "-m", study.summary, "--commit", commit]
    code = subprocess.run(summary, cwd=folder, check=False).returncode or code
    for path in study.results:
        if (folder / path).exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / path, path)
            log.info("%s", path)
    return code


def _run_to_its_end(command: list[str], folder: Path) -> int:
    """Run a command; what stops this process stops it, and it is waited for.

    It has to end its own commands and let DVC write down what has been done.
    """
    with subprocess.Popen(command, cwd=folder) as process:
        signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue  # Ctrl-C has reached it too


def _commit() -> str:
    """The project's revision, with a mark where its code differs from it.

    Raises:
        ValueError: the project has no revision.
    """
    head = _git("rev-parse", "--verify", "HEAD")
    changed = _git("status", "--porcelain", "--", "stages")
    return f"{head}+changes" if changed else head


def _git(*arguments: str) -> str:
    answer = subprocess.run(
        ["git", *arguments], capture_output=True, text=True, check=False
    )
    if answer.returncode:
        raise ValueError(f"git {arguments[0]} failed: {answer.stderr.strip()}")
    return answer.stdout.strip()


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.check.study")
    parser.add_argument("name", choices=sorted(STUDIES))
    parser.add_argument("--jobs", type=positive, default=default_jobs())
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        code = run_study(args.name, jobs=args.jobs)
    except ValueError as error:
        log.error("%s", error)
        raise SystemExit(2) from None
    raise SystemExit(code)


if __name__ == "__main__":
    main()
