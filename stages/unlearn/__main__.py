"""Run one unlearning method on one scenario.

Reads data/cases/<scenario>/ (poisoned model, known forget set, exported targets) and
data/kspace/train. Writes data/models/unlearned/<scenario>/<method>/.

    python -m stages.unlearn --scenario mislabel-30 --method ssd
"""

import argparse
import logging
from collections.abc import Sequence

from stages.common import paths
from stages.common.devices import on_rank_zero
from stages.common.fit import Cost
from stages.common.launch import relaunch
from stages.common.losses import LossSettings
from stages.common.masks import Sampling
from stages.common.params import load_block
from stages.common.runtime import stage_run
from stages.common.scratch import cell_scratch
from stages.common.training import TrainSettings, write_cost
from stages.common.varnet import save_checkpoint
from stages.unlearn.base import load_case, load_method
from stages.unlearn.settings import BLOCKS

log = logging.getLogger("mendmri")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="stages.unlearn", description=__doc__)
    parser.add_argument("--scenario", required=True, help="row of `scenarios`")
    parser.add_argument("--method", required=True, help="a method file of this stage")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    args = parse_args(argv)
    cell = f"unlearned/{args.scenario}/{args.method}"
    with stage_run("unlearn", cell, many_devices=True):
        # Only the file that runs is imported, so that only it is this cell's code.
        method = load_method(args.method)
        params = load_block(f"unlearn.{args.method}", method.Params)
        sampling = load_block("sampling", Sampling)
        train = load_block("train", TrainSettings)
        loss = load_block("loss", LossSettings)
        seed: int = load_block("unlearn.seed", BLOCKS["unlearn.seed"])
        split = [paths.kspace("train"), paths.manifest("train")]
        inputs = [paths.case(args.scenario), *split]
        cost = Cost()
        with cell_scratch(
            cell, inputs=inputs, settings=[params, sampling, train, loss, seed]
        ) as scratch:
            model, case = load_case(
                args.scenario,
                sampling=sampling,
                train=train,
                loss=loss,
                seed=seed,
                cost=cost,
                scratch=scratch,
            )
            corrected = method.unlearn(model, case, params)

            def write() -> None:
                save_checkpoint(paths.checkpoint(cell), corrected)
                write_cost(paths.cost(cell), cost)

            on_rank_zero(write)
        log.info(
            "%s: %d known of %d slices, %d gradient steps",
            paths.checkpoint(cell),
            len(case.forget),
            case.total,
            cost.gradient_steps,
        )


if __name__ == "__main__":
    relaunch("stages.unlearn")
    main()
