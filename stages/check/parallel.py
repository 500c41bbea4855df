"""Run the pipeline with independent stages side by side (`make repro`).

DVC runs stages one after another. Here workers (`worker.py`) run them as
`dvc repro --single-item` does, each with its share of the cores or a GPU of its own,
as soon as what they depend on is there. A plain `dvc repro` at the end is the proof
that nothing is left to do; `--jobs 1` is that alone.

Input: the stages of dvc.yaml; seconds of former runs, for the order.
Output: whatever the stages write; seconds of this run.

    python -m stages.check.parallel --jobs 2
    python -m stages.check.parallel --only 'evaluate@mislabel-30-*'
"""

import argparse
import fnmatch
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from dvc.exceptions import DvcException
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from stages.check import processor, schedule
from stages.check.dag import Pipeline
from stages.check.pool import Pool, default_jobs, environments
from stages.check.run import Report, Run
from stages.common.params import ParamsError, read_params

REPRO = (sys.executable, "-m", "dvc", "--wait-for-lock", "repro")

log = logging.getLogger(__name__)


class NoStageError(ValueError):
    """A pattern names no stage."""


def chosen(upstream: schedule.Upstream, patterns: Sequence[str]) -> list[str]:
    """Stages whose names match one of some patterns (`*` stands for anything).

    Raises:
        NoStageError: a pattern matches none.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        names = fnmatch.filter(upstream, pattern)
        if not names:
            raise NoStageError(f"--only {pattern}: no stage of dvc.yaml is called so")
        found |= dict.fromkeys(sorted(names))
    return list(found)


def with_upstream(
    upstream: schedule.Upstream, names: Sequence[str]
) -> dict[str, set[str]]:
    """The part of a graph that some stages need, themselves included."""
    part: dict[str, set[str]] = {}
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in part:
            part[name] = set(upstream[name])
            todo += part[name]
    return part


def run_side_by_side(jobs: int, only: Sequence[str] = ()) -> Report:
    """Bring the pipeline up to date with a number of workers.

    Args:
        jobs: stages at a time.
        only: patterns of the stages that are wanted; what they need runs too. Empty
            for the whole pipeline.

    Raises:
        NoStageError: a pattern matches no stage.
        KeyboardInterrupt: Ctrl-C or SIGTERM; every command has been ended.
    """
    pipeline = Pipeline()
    upstream: schedule.Upstream = pipeline.upstream
    if only:
        upstream = with_upstream(upstream, chosen(upstream, only))
    history = schedule.read_history()
    seconds = schedule.estimate(upstream, history)
    pool = Pool(environments(jobs))
    with (
        logging_redirect_tqdm(),
        tqdm(total=len(upstream), unit="stage", disable=None, leave=False) as bar,
    ):
        run = Run(upstream, pool, seconds=seconds, bar=bar)
        try:
            run.all(pipeline.changed)
        except KeyboardInterrupt:
            log.warning("stopping: what has ended is kept")
            pool.interrupt()
            raise
        finally:
            pool.close()
            pipeline.drop_broken_lock()
            if run.report.ran:
                seconds = history | run.report.ran
                schedule.write_history(seconds, pipeline.upstream)
    return run.report


def tell_failures(report: Report) -> None:
    """Repeat what the failed stages said last: much may have been said since."""
    for name, result in report.failed.items():
        log.error("\n'%s' failed. The last lines of it:", name)
        for line in result.last_lines:
            log.error("  %s", line)
    log.error(
        "\n%d stages had ended well and are kept: mend it and run this again",
        len(report.ran),
    )


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of jobs from 1 on")
    return int(text)


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m stages.check.parallel")
    parser.add_argument(
        "--jobs",
        type=positive,
        default=default_jobs(),
        help="stages at a time; the default is one per GPU, or per core without one",
    )
    parser.add_argument(
        "--only",
        nargs="+",
        default=[],
        metavar="PATTERN",
        help="stages that are wanted, with what they need; the default is all",
    )
    return parser.parse_args(argv)


def _refuse_slow_processor() -> None:
    """End before hours are spent; what params.yaml lacks is for `check` to say."""
    try:
        found = processor.problems(read_params())
    except ParamsError:
        return
    if found:
        log.error("%s", "\n".join(found))
        raise SystemExit(2)


def _stop(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    jobs: int = args.jobs
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    _refuse_slow_processor()
    if jobs > 1:
        signal.signal(signal.SIGTERM, _stop)
        started = time.monotonic()
        try:
            report = run_side_by_side(jobs, args.only)
        except KeyboardInterrupt:
            raise SystemExit(130) from None
        except (DvcException, NoStageError) as error:
            log.error("%s", error)
            raise SystemExit(1) from None
        if report.failed:
            tell_failures(report)
            raise SystemExit(1)
        if not report.ran:
            log.info("No stage has changed: data and pipelines are up to date.")
            return
        minutes = (time.monotonic() - started) / 60
        log.info(
            "%d stages ran in %.1f minutes, %d at a time. `dvc repro` must find "
            "nothing to do:",
            *(len(report.ran), minutes, jobs),
        )
    try:
        names = chosen(Pipeline().upstream, args.only) if args.only else []
    except (DvcException, NoStageError) as error:
        log.error("%s", error)
        raise SystemExit(1) from None
    os.execv(REPRO[0], (*REPRO, *names))


if __name__ == "__main__":
    main()
