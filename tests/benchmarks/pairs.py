"""Pairs of trainings that differ in the implementation alone."""

from pathlib import Path
from typing import Any

from torch import nn

from stages.common import paths
from stages.common.fit import Cost, CurveRow
from stages.common.manifest import read_manifest
from stages.common.scratch import cell_scratch
from stages.common.slices import SliceDataset, make_loader, rank_loader
from stages.common.training import steps_for, validation_row
from stages.common.varnet import build_varnet
from stages.train.base_models import parse_cell, train_base_model
from tests.benchmarks.plain_training import train_plainly
from tests.benchmarks.sides import make_reference, reference_loss

FAST, REFERENCE, FAST_FP32 = "fast", "reference", "fast_fp32"
SIDES = {
    FAST: "our VarNet in the profile's precision, trained by the project's own `train`",
    REFERENCE: "`fastmri.models.VarNet` in float32, a loss of equal value from "
    "`fastmri.losses.SSIMLoss`, a plain loop",
    FAST_FP32: "as `fast`, in float32: differs from `reference` by rounding alone, so "
    "their distance is what rounding does to a training",
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
    if side == FAST_FP32:
        model = blocks["model"].model_copy(update={"precision": "fp32"})
        blocks = blocks | {"model": model}
    here = Path(__file__).parent
    inputs = [*base.inputs(), *(here / name for name in OWN_CODE)]
    with cell_scratch(cell, inputs=inputs, settings=list(blocks.values())) as folder:
        scratch = folder / "fit.pt"
        if side == REFERENCE:
            network = _train_reference(seed, blocks, scratch=scratch, desc=cell)
        else:
            network, _ = train_base_model(
                base, **blocks, cost=Cost(), desc=cell, scratch=scratch
            )
        batch_size = blocks["train"].batch_size
        val = rank_loader(_dataset("val", blocks), batch_size=batch_size)
        return validation_row(network, val, blocks["loss"])  # type: ignore[arg-type]


def _train_reference(
    seed: int, blocks: dict[str, Any], *, scratch: Path, desc: str
) -> nn.Module:
    train = blocks["train"]
    initial = build_varnet(blocks["model"], seed=train.seed + seed)
    network = make_reference(blocks["model"], initial.state_dict())
    dataset = _dataset("train", blocks)
    train_plainly(
        network,
        make_loader(
            dataset, batch_size=train.batch_size, shuffle_seed=train.seed + seed
        ),
        reference_loss(l1_weight=blocks["loss"].l1_weight),
        train,
        steps=steps_for(train.epochs, len(dataset), train.batch_size),
        scratch=scratch,
        desc=desc,
    )
    return network


def _dataset(split: str, blocks: dict[str, Any]) -> SliceDataset:
    refs = read_manifest(paths.manifest(split)).refs()
    return SliceDataset(paths.kspace(split), refs, blocks["sampling"])
