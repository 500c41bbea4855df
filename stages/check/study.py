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
    """Run a study as far as it comes; return the exit code of its stages.

    Raises:
        ValueError: the copy could not be made.
        subprocess.CalledProcessError: the summary failed.
    """
    study, folder = STUDIES[name], paths.SCRATCH / "studies" / name
    count = refresh_sandbox(Path(), folder, profile=name)
    log.info("%s: %d files, profile '%s'", folder, count, name)
    cache = (Path() / ".dvc" / "cache").resolve()
    write_text(folder / ".dvc" / "config.local", f"[cache]\n    dir = {cache}\n")
    command = [
        "-m",
        "stages.check.parallel",
        "--jobs",
        str(jobs),
        "--only",
        *study.only,
    ]
    code = subprocess.run(
        [sys.executable, *command], cwd=folder, check=False
    ).returncode
    subprocess.run([sys.executable, "-m", study.summary], cwd=folder, check=True)
    for path in study.results:
        if (folder / path).exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(folder / path, path)
            log.info("%s", path)
    return code


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
