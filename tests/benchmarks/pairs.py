"""Pairs of trainings that differ in the implementation alone."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.common import paths
from stages.common.fit import Cost, CurveRow, EpochLoader, fit
from stages.common.manifest import read_manifest
from stages.common.runtime import device
from stages.common.scratch import cell_scratch
from stages.common.slices import SliceDataset, make_loader, rank_loader
from stages.common.training import mean_recon_loss, steps_for, validation_row
from stages.common.varnet import VarNet, build_varnet
from stages.train.base_models import parse_cell, train_base_model
from tests.benchmarks.plain_training import train_plainly
from tests.benchmarks.sides import make_reference, reference_loss
from tests.double import double_batch, in_double

FAST, REFERENCE, FAST_FP32 = "fast", "reference", "fast_fp32"
FAST_FP64, REFERENCE_FP64 = "fast_fp64", "reference_fp64"
SIDES = {
    FAST: "our VarNet in the profile's precision, trained by the project's own `train`",
    REFERENCE: "`fastmri.models.VarNet` in float32, a loss of equal value from "
    "`fastmri.losses.SSIMLoss`, a plain loop",
    FAST_FP32: "as `fast`, in float32: differs from `reference` by rounding alone, so "
    "their distance is what rounding does to a training",
    FAST_FP64: "our VarNet in float64, trained by the project's own `fit` and "
    "measured in float64: rounding errors are too small to grow large in a training",
    REFERENCE_FP64: "as `reference`, in float64",
}

OWN_CODE = ("pairs.py", "plain_training.py", "sides.py")


def train_side(side: str, seed: int, blocks: dict[str, Any]) -> CurveRow:
    """Train an oracle from data/kspace and measure it on the validation split.

    Args:
        side: one of `SIDES`.
        seed: number of the oracle: shifts `train.seed`, which draws the initial weights
            and the order.
        blocks: `model`, `sampling`, `loss` and `train`, validated.

    Returns:
        Mean loss, PSNR (dB) and SSIM, by the project's own measuring function.
    """
    cell = f"bench-quality/{side}-{seed}"
    base = parse_cell(f"oracle-{seed}")
    if side in (FAST_FP32, FAST_FP64):
        model = blocks["model"].model_copy(update={"precision": "fp32"})
        blocks = blocks | {"model": model}
    here = Path(__file__).parent
    inputs = [*base.inputs(), *(here / name for name in OWN_CODE)]
    with cell_scratch(cell, inputs=inputs, settings=list(blocks.values())) as folder:
        scratch = folder / "fit.pt"
        if side in (REFERENCE, REFERENCE_FP64):
            double = side == REFERENCE_FP64
            network = _train_reference(
                seed, blocks, scratch=scratch, desc=cell, double=double
            )
        elif side == FAST_FP64:
            network = _train_in_double(seed, blocks, scratch=scratch, desc=cell)
        else:
            network, _ = train_base_model(
                base, **blocks, cost=Cost(), desc=cell, scratch=scratch
            )
        batch_size = blocks["train"].batch_size
        val = iter(rank_loader(_dataset("val", blocks), batch_size=batch_size))
        if side in (FAST_FP64, REFERENCE_FP64):
            val = map(double_batch, val)
        return validation_row(network, val, blocks["loss"])  # type: ignore[arg-type]


def _train_reference(
    seed: int, blocks: dict[str, Any], *, scratch: Path, desc: str, double: bool
) -> nn.Module:
    initial, loader, steps = _start(seed, blocks)
    network: nn.Module = make_reference(blocks["model"], initial.state_dict())
    l1_weight = blocks["loss"].l1_weight
    if double:
        network = network.double()
        loss = in_double(reference_loss(l1_weight=l1_weight, dtype=torch.float64))
    else:
        loss = reference_loss(l1_weight=l1_weight)
    train_plainly(
        network, loader, loss, blocks["train"], steps=steps, scratch=scratch, desc=desc
    )
    return network


def _train_in_double(
    seed: int, blocks: dict[str, Any], *, scratch: Path, desc: str
) -> nn.Module:
    initial, loader, steps = _start(seed, blocks)
    network = initial.double()
    fit(
        network,
        loader,
        in_double(mean_recon_loss(blocks["loss"])),
        blocks["train"],
        steps=steps,
        cost=Cost(),
        desc=desc,
        scratch=scratch,
    )
    return network


def _start(seed: int, blocks: dict[str, Any]) -> tuple[VarNet, EpochLoader, int]:
    """The network before training, batches in their order, and steps."""
    train, dataset = blocks["train"], _dataset("train", blocks)
    number = train.seed + seed
    return (
        build_varnet(blocks["model"], seed=number).to(device()),
        make_loader(dataset, batch_size=train.batch_size, shuffle_seed=number),
        steps_for(train.epochs, len(dataset), train.batch_size),
    )


def _dataset(split: str, blocks: dict[str, Any]) -> SliceDataset:
    refs = read_manifest(paths.manifest(split)).refs()
    return SliceDataset(paths.kspace(split), refs, blocks["sampling"])
