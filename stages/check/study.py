"""Run a study: a part of the pipeline on a profile of its own, beside the default grid.

It runs in a copy of the project under `.scratch/studies/`, which is kept, with the
project's DVC cache: what its results lack, or hold of other settings or code. It does
so in pieces and copies the results back after each. So it may be stopped at any time
and goes on with the next call, in another clone too once the results are committed. No
stage writes them.

Input: the project's files, the study's profile, the results so far.
Output: the results that the study's summary writes, such as `metrics/potency.json`.

    python -m stages.check.study potency --jobs 2 --limit 8
    python -m stages.check.study potency --only 'trigger-*'
    python -m stages.check.study potency --skip 'detect@*-forget_classifier'
"""

import argparse
import fnmatch
import json
import logging
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.check.parallel import positive
from stages.check.pool import default_jobs
from stages.check.sandbox import refresh_sandbox
from stages.check.studies import STUDIES, Study
from stages.common import paths
from stages.common.volume import atomic_path, write_text

# Parts of a study that are run before its results are written again.
PARTS_PER_JOB = 2
STOPPED = 130

log = logging.getLogger(__name__)


def run_study(
    name: str,
    *,
    jobs: int,
    limit: int | None = None,
    only: Sequence[str] = (),
    skip: Sequence[str] = (),
) -> int:
    """Run what a study lacks, as far as it comes.

    Args:
        name: of the study.
        jobs: stages at a time.
        limit: parts to run at most, in the profile's order; None for all.
        only: patterns of the parts to run; none for all.
        skip: patterns of stages that are left for another call, with the figures that
            need them.

    Returns:
        Exit code of stages or summary, 0 where both went well.

    Raises:
        ValueError: the copy could not be made, the project is not in git, the committed
            results are damaged, or a pattern names no part.
    """
    study, folder = STUDIES[name], paths.SCRATCH / "studies" / name
    commit = _commit()
    profile = study.profile
    count = refresh_sandbox(Path(), folder, profile=profile, seed=study.seed)
    log.info("%s: %d files, profile '%s'", folder, count, profile)
    cache = (Path() / ".dvc" / "cache").resolve()
    write_text(folder / ".dvc" / "config.local", f"[cache]\n    dir = {cache}\n")
    _take_along(study.results, folder)
    needs = _needs(study, folder)
    missing = [part for part in needs if needs[part]]
    needs = without(needs, skip)
    log.info("%s: %d of %d are there", name, len(needs) - len(missing), len(needs))
    wanted = chosen(needs, only, limit)
    size = PARTS_PER_JOB * jobs
    code = 0 if wanted else _sum_up(study, folder, commit)
    for start in range(0, len(wanted), size):
        piece = wanted[start : start + size]
        done = f"{start + len(piece)} of {len(wanted)}"
        log.info("%s, up to %s: %s", name, done, ", ".join(piece))
        stages = dict.fromkeys(stage for part in piece for stage in needs[part])
        runner = ["-m", "stages.check.parallel", "--jobs", str(jobs), "--only"]
        code = _run_to_its_end([sys.executable, *runner, *stages], folder)
        code = _sum_up(study, folder, commit) or code
        if code:
            break
    return code


def chosen(
    needs: dict[str, list[str]], only: Sequence[str], limit: int | None
) -> list[str]:
    """The parts to run: missing, named by a pattern if there is one, in order.

    Raises:
        ValueError: a pattern names no part, there or missing.
    """
    for pattern in only:
        if not fnmatch.filter(needs, pattern):
            raise ValueError(
                f"--only {pattern}: the study has no such part; it has "
                f"{', '.join(needs)}"
            )
    missing = [
        part
        for part in needs
        if needs[part]
        and (not only or any(fnmatch.fnmatch(part, pattern) for pattern in only))
    ]
    return missing[:limit]


def without(needs: dict[str, list[str]], skip: Sequence[str]) -> dict[str, list[str]]:
    """Part -> the stages that it needs and that no pattern of `skip` names."""
    return {
        part: [
            stage
            for stage in stages
            if not any(fnmatch.fnmatch(stage, pattern) for pattern in skip)
        ]
        for part, stages in needs.items()
    }


def _take_along(results: Mapping[Path, Path], folder: Path) -> None:
    """Give the copy the project's results, and no others."""
    for there, here in results.items():
        (folder / there).unlink(missing_ok=True)
        if here.exists():
            _copy(here, folder / there)


def _needs(study: Study, folder: Path) -> dict[str, list[str]]:
    """Part -> stages that its missing results need."""
    command = [sys.executable, "-m", study.summary, "--needs"]
    answer = subprocess.run(
        command, cwd=folder, stdout=subprocess.PIPE, text=True, check=False
    )
    if answer.returncode:
        raise ValueError(f"{study.summary} cannot say what is missing: see above")
    needs: dict[str, list[str]] = json.loads(answer.stdout)
    return needs


def _sum_up(study: Study, folder: Path, commit: str) -> int:
    """Write the results and copy them back; return the summary's exit code."""
    command = [sys.executable, "-m", study.summary, "--commit", commit]
    code = subprocess.run(command, cwd=folder, check=False).returncode
    if not code:
        for there, here in study.results.items():
            if (folder / there).exists():
                _copy(folder / there, here)
                log.info("%s", here)
    return code


def _copy(source: Path, target: Path) -> None:
    """Copy a file whole or not at all: a study may be stopped at any time."""
    with atomic_path(target) as temporary:
        shutil.copyfile(source, temporary)


def _run_to_its_end(command: list[str], folder: Path) -> int:
    """Run a command; what stops this process stops it, and it is waited for.

    It has to end its own commands and let DVC write down what has been done.
    """
    with subprocess.Popen(command, cwd=folder) as process:
        before = signal.signal(signal.SIGTERM, lambda *_: process.terminate())
        try:
            while True:
                try:
                    return process.wait()
                except KeyboardInterrupt:
                    continue  # Ctrl-C has reached it too
        finally:
            signal.signal(signal.SIGTERM, before)


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


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of parts from 1 on")
    return int(text)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.check.study")
    parser.add_argument("name", choices=sorted(STUDIES))
    parser.add_argument("--jobs", type=positive, default=default_jobs())
    parser.add_argument(
        "--limit",
        type=_count,
        help="parts of the study to run at most, in the profile's order",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="parts of the study to run, poisonings or scenarios; the default is all",
    )
    parser.add_argument(
        "--skip",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="stages to leave for another call, such as slow detectors",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        code = run_study(
            args.name,
            jobs=args.jobs,
            limit=args.limit,
            only=args.only,
            skip=args.skip,
        )
    except KeyboardInterrupt:
        raise SystemExit(STOPPED) from None
    except ValueError as error:
        log.error("%s", error)
        raise SystemExit(2) from None
    raise SystemExit(code)


if __name__ == "__main__":
    main()
