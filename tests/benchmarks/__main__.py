"""Measure how fast MendMRI is beside fastMRI's own code.

Inputs: the sizes in stages/check/profiles/; for `repro`, metrics/timing/.
Outputs: metrics/benchmarks.json, group by group, and metrics/benchmarks.md.

    python -m tests.benchmarks
    python -m tests.benchmarks --only train_step/paper
    python -m tests.benchmarks --only repro --wall-seconds 1500
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stages.common import paths
from tests.benchmarks.importance_pass import importance_pass
from tests.benchmarks.loading import load_epoch
from tests.benchmarks.overhead import dag, start
from tests.benchmarks.pipeline import repro
from tests.benchmarks.results import Entries, merge, read_results
from tests.benchmarks.sizes import PLANS, Size, read_size
from tests.benchmarks.steps import infer, train_step

log = logging.getLogger("mendmri")

# Group -> what measures it, at which profile's size.
GROUPS: dict[str, tuple[Callable[[Size, Path], Entries], str]] = {
    "train_step/default": (train_step, "default"),
    "infer/default": (infer, "default"),
    "importance/default": (importance_pass, "default"),
    "load_epoch": (load_epoch, "default"),
    "train_step/paper": (train_step, "paper"),
    "infer/paper": (infer, "paper"),
    "importance/paper": (importance_pass, "paper"),
}
# Of the DAG and of starting a stage, in an empty folder.
OVERHEAD: dict[str, Callable[[Path], Entries]] = {
    "start": lambda _: start(),
    "dag": dag,
}
REPRO = "repro"


def choose(only: str) -> list[str]:
    """Groups whose name begins with `only`, or that a longer key belongs to.

    Raises:
        ValueError: there is none.
    """
    known = (*GROUPS, *OVERHEAD, REPRO)
    chosen = [
        group
        for group in known
        if group.startswith(only) or only.startswith(f"{group}/")
    ]
    if not chosen:
        raise ValueError(
            f"--only {only} names no benchmark; there are: {', '.join(known)}"
        )
    return chosen


def run(
    groups: Sequence[str],
    sizes: Mapping[str, Size],
    output: Path,
    *,
    wall_seconds: float | None = None,
    options: str = "",
) -> None:
    """Measure groups one after another; each is written when it is done.

    Raises:
        ValueError: ours and the reference do not compute the same.
    """
    for group in groups:
        log.info("%s ...", group)
        settings = None
        with tempfile.TemporaryDirectory() as folder:
            if group == REPRO:
                previous = read_results(output).get(REPRO, {})
                entries = {"": repro(previous, wall_seconds=wall_seconds)}
            elif group in OVERHEAD:
                entries = OVERHEAD[group](Path(folder))
            else:
                measure, profile = GROUPS[group]
                settings = sizes[profile].describe()
                entries = measure(sizes[profile], Path(folder))
        merge(
            output,
            group,
            _replacement(entries),
            command=f"python -m tests.benchmarks --only {group}{options}",
            settings=settings,
        )
        for key, entry in entries.items():
            name = f"{group}/{key}".rstrip("/")
            log.info("%s: %s %s", name, entry["ours"], entry["unit"])
            if entry["ratio"] is not None:
                log.info("%s: ratio %.2f", name, entry["ratio"])


def _replacement(entries: Entries) -> Callable[[Entries], Entries]:
    return lambda _: entries


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks")
    parser.add_argument("--only", default="", help="a group, or how groups begin")
    parser.add_argument("--rounds", type=int, help="instead of each size's own number")
    parser.add_argument("--wall-seconds", type=float, help="of the last `make repro`")
    parser.add_argument("--output", type=Path, default=paths.METRICS, help="folder")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    logging.basicConfig(
        level=logging.INFO,
        format="%(asctime)s %(message)s",
        datefmt="%H:%M:%S",
        stream=sys.stderr,
    )
    sizes, options = {}, ""
    for profile, plan in PLANS.items():
        if args.rounds:
            plan = plan.with_rounds(args.rounds)
            options = f" --rounds {args.rounds}"
        sizes[profile] = read_size(profile, plan)
    try:
        run(
            choose(args.only),
            sizes,
            args.output,
            wall_seconds=args.wall_seconds,
            options=options,
        )
    except ValueError as error:
        log.error("%s", error)
        raise SystemExit(2) from error


if __name__ == "__main__":
    main()
