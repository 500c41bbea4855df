"""Train one base model: oracle, poisoned, drop-all, or one of them continued.

Reads data/kspace/{train,val}, the export of the poisoning and, for `drop_all`, its list
of poisoned slices. Writes data/models/<cell>/ and metrics/curves/<cell>.csv.

    python -m stages.train --cell poisoned/mislabel-30
"""

import argparse
import logging
from collections.abc import Sequence
from typing import Any

from stages.common import paths
from stages.common.devices import on_rank_zero
from stages.common.fit import Cost, write_curve
from stages.common.launch import relaunch
from stages.common.params import load_block
from stages.common.runtime import stage_run
from stages.common.scratch import cell_scratch
from stages.common.training import FinetuneSettings, write_cost
from stages.common.varnet import save_checkpoint
from stages.train.base_models import parse_cell, train_base_model
from stages.train.settings import BLOCKS

log = logging.getLogger("mendmri")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="stages.train", description=__doc__)
    parser.add_argument("--cell", required=True, help="key of the model")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    cell = parse_args(argv).cell
    with stage_run("train", cell, many_devices=True):
        base = parse_cell(cell)
        blocks: dict[str, Any] = {
            key: load_block(key, schema) for key, schema in BLOCKS.items()
        }
        if base.start is not None:
            # Continuing takes the steps and the rate of the method it is a control of.
            blocks["finetune"] = load_block("unlearn.finetune", FinetuneSettings)
        cost = Cost()
        with cell_scratch(
            cell, inputs=base.inputs(), settings=list(blocks.values())
        ) as scratch:
            model, curve = train_base_model(
                base,
                **blocks,
                cost=cost,
                desc=cell,
                scratch=scratch / "fit.pt",
            )

            def write() -> None:
                save_checkpoint(paths.checkpoint(cell), model)
                write_cost(paths.cost(cell), cost)
                write_curve(paths.curve(cell), curve)

            on_rank_zero(write)
        log.info("%s after %d steps", paths.checkpoint(cell), cost.gradient_steps)


if __name__ == "__main__":
    relaunch("stages.train")
    main()
