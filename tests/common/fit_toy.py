"""A training of seconds on the tiny cohort, as the resume tests run it.

As a program it is killed at once, and without a trace, before a given step:

    python -m tests.common.fit_toy <scratch> <steps> <step to die at>
"""

import os
import signal
import sys
from pathlib import Path

from torch import Tensor

from stages.common import paths
from stages.common.fit import BatchLoss, Cost, CurveRow, OptimSettings, fit, sgd
from stages.common.losses import LossSettings
from stages.common.manifest import read_manifest
from stages.common.masks import Sampling
from stages.common.slices import ReconBatch, SliceDataset, make_loader, rank_loader
from stages.common.training import mean_recon_loss, validation_row
from stages.common.varnet import ModelSettings, VarNet, build_varnet

BATCH_SIZE = 4
PER_EPOCH = 5  # 18 slices
SAMPLING = Sampling(seed=7, mask_type="random", acceleration=2, center_fraction=0.2)
LOSS = LossSettings(l1_weight=1.0)
OPTIM = OptimSettings(lr=0.01, weight_decay=0.01, warmup=0.2, clip_norm=1.0)
MODEL = ModelSettings(
    num_cascades=1, chans=2, pools=1, sens_chans=2, sens_pools=1, precision="fp32"
)


def dataset_of(split: str) -> SliceDataset:
    refs = read_manifest(paths.manifest(split)).refs()
    return SliceDataset(paths.kspace(split), refs, SAMPLING)


def train(
    scratch: Path | None,
    steps: int,
    *,
    batch_loss: BatchLoss | None = None,
    cost: Cost | None = None,
) -> tuple[VarNet, list[CurveRow]]:
    """Train the toy; with `scratch`, go on from what is there."""
    model = build_varnet(MODEL, seed=1)
    val = rank_loader(dataset_of("val"), batch_size=BATCH_SIZE)
    curve = fit(
        model,
        make_loader(dataset_of("train"), batch_size=BATCH_SIZE, shuffle_seed=5),
        batch_loss or mean_recon_loss(LOSS),
        OPTIM,
        steps=steps,
        cost=cost or Cost(),
        desc="toy",
        validate=lambda model: validation_row(model, val, LOSS),
        validate_every=2,
        scratch=scratch,
    )
    return model, curve


def train_slowly(
    *,
    scratch: Path | None = None,
    batch_loss: BatchLoss | None = None,
    cost: Cost | None = None,
) -> tuple[VarNet, list[CurveRow]]:
    """Two epochs of seven slices, 3, 3 and 1 at a time, by plain gradient steps.

    Rounding stays small with them: Adam makes whole steps of gradients that are none.
    """
    model = build_varnet(MODEL, seed=1)
    data = dataset_of("train")
    val = rank_loader(dataset_of("val"), batch_size=2)
    curve = fit(
        model,
        make_loader(data.restrict(data.refs[:7]), batch_size=3, shuffle_seed=5),
        batch_loss or mean_recon_loss(LOSS),
        OPTIM,
        steps=6,
        cost=cost or Cost(),
        desc="toy",
        validate=lambda model: validation_row(model, val, LOSS),
        scratch=scratch,
        make_optimizer=sgd,
    )
    return model, curve


def deadly_loss(step: int) -> BatchLoss:
    """Training's loss, until the process kills itself before the given step."""
    descent, done = mean_recon_loss(LOSS), 0

    def batch_loss(model: VarNet, batch: ReconBatch) -> Tensor:
        nonlocal done
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)
        done += 1
        return descent(model, batch)

    return batch_loss


if __name__ == "__main__":
    where, total, last = sys.argv[1:]
    train(Path(where), int(total), batch_loss=deadly_loss(int(last)))
