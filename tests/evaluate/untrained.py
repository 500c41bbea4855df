"""A tiny untrained network as a cell, the parameters to evaluate it, and its rows."""

import csv
import json
from pathlib import Path

from stages.common import paths
from stages.common.varnet import ModelSettings, VarNet, build_varnet, save_checkpoint

PARAMS = {
    "evaluate": {"batch_size": 4},
    "sampling": {
        "seed": 7,
        "mask_type": "random",
        "acceleration": 4,
        "center_fraction": 0.16,
    },
}
MODEL = ModelSettings(
    num_cascades=1, chans=2, pools=1, sens_chans=2, sens_pools=1, precision="fp32"
)


def write_cell(cell: str, seed: int) -> VarNet:
    """Write a cell's checkpoint and cost; return the network, ready to be run."""
    model = build_varnet(MODEL, seed=seed)
    save_checkpoint(paths.checkpoint(cell), model)
    cost = {"slices_forward_backward": 60, "slices_forward": 30, "gradient_steps": 9}
    paths.cost(cell).write_text(json.dumps(cost))
    return model.eval()


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))
