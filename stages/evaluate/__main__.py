"""Measure a model on every slice: rows, headline numbers and a few images.

Inputs: `data/kspace/`, `data/models/<cell>/`, the truth of the cell's poisoning.
Outputs: `metrics/slices/`, `metrics/twins/`, `metrics/cells/`, `data/panels/`.

    python -m stages.evaluate --cell unlearned/mislabel-30/ssd --scenario mislabel-30
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from stages.common import paths
from stages.common.launch import relaunch
from stages.common.masks import Sampling
from stages.common.params import load_block
from stages.common.runtime import device, stage_run
from stages.evaluate.settings import EvaluateSettings


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m stages.evaluate", description=__doc__.splitlines()[0]
    )
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--cell", help="key of the model, such as poisoned/mislabel-30")
    what.add_argument(
        "--references",
        action="store_true",
        help="the oracles, on the twinned slices of --poisoning",
    )
    truth = parser.add_mutually_exclusive_group()
    truth.add_argument("--poisoning", help="whose truth a base model is held against")
    truth.add_argument("--scenario", help="the same, for an unlearned model")
    args = parser.parse_args(argv)
    problem = _mismatch(args)
    if problem:
        parser.error(problem)
    return args


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    cell = args.cell or f"references/{args.poisoning}"
    with stage_run("evaluate", cell, many_devices=True):
        settings = load_block("evaluate", EvaluateSettings)
        sampling = load_block("sampling", Sampling)
        # Imported late: a misspelt parameter should not wait for torch.
        from stages.evaluate.cells import evaluate_cell, evaluate_references
        from stages.evaluate.outputs import HowToRun

        how = HowToRun(sampling, settings.batch_size, device())
        if args.references:
            evaluate_references(args.poisoning, how=how)
        else:
            evaluate_cell(args.cell, truth=_truth(args), how=how)


def _truth(args: argparse.Namespace) -> Path | None:
    if args.scenario:
        return paths.answers(args.scenario)
    return paths.truth(args.poisoning) if args.poisoning else None


def _mismatch(args: argparse.Namespace) -> str | None:
    """Say which option the cell needs and does not have."""
    if args.references:
        return None if args.poisoning else "--references needs --poisoning"
    family, _, rest = args.cell.partition("/")
    if family == "unlearned" and not args.scenario:
        return f"--cell {args.cell} needs --scenario"
    if family in ("poisoned", "continue", "drop_all") and args.poisoning != rest:
        return f"--cell {args.cell} needs --poisoning {rest}"
    if not rest and (args.poisoning or args.scenario):
        return f"--cell {args.cell} has no poisoning: use --references for its twins"
    return None


if __name__ == "__main__":
    relaunch("stages.evaluate")
    main()
