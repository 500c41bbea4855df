"""Training a reconstruction network: what `train`, `retrain` and `finetune` share."""

import json
from collections.abc import Iterable
from pathlib import Path

import torch
from pydantic import Field
from torch import Tensor

from stages.common.devices import gathered
from stages.common.fit import BatchLoss, Cost, CurveRow, OptimSettings, fit
from stages.common.losses import LossSettings, psnr, recon_loss, ssim
from stages.common.reconstruct import reconstruct
from stages.common.runtime import device
from stages.common.slices import ReconBatch, SliceDataset, make_loader, rank_loader
from stages.common.varnet import VarNet
from stages.common.volume import write_text


class TrainSettings(OptimSettings):
    """Training from scratch; the seed draws the initial weights and the order."""

    seed: int = Field(ge=0)
    epochs: float = Field(gt=0)
    batch_size: int = Field(ge=1)
    validate_every: int = Field(ge=1)


class FinetuneSettings(OptimSettings):
    """A short training from a checkpoint.

    Attributes:
        epochs: passes over the whole training set, whatever part is used: fine-tuning
            on a subset and continuing on everything then take the same steps.
    """

    epochs: float = Field(gt=0)


def mean_recon_loss(settings: LossSettings) -> BatchLoss:
    """The training loss of a batch, averaged over its slices."""

    def batch_loss(model: VarNet, batch: ReconBatch) -> Tensor:
        output = reconstruct(model, batch)
        losses = recon_loss(output, batch.target, batch.max_value, settings)
        return batch.mean(losses)

    return batch_loss


def steps_for(epochs: float, slices: int, batch_size: int) -> int:
    """Optimizer steps of a number of passes over `slices` slices, at least one."""
    return max(1, round(epochs * -(-slices // batch_size)))


def train_reconstruction(
    model: VarNet,
    dataset: SliceDataset,
    optim: OptimSettings,
    loss: LossSettings,
    *,
    steps: int,
    batch_size: int,
    seed: int,
    cost: Cost,
    desc: str,
    val: SliceDataset | None = None,
    validate_every: int = 1,
    scratch: Path | None = None,
) -> list[CurveRow]:
    """Train `model` in place on a data set with the reconstruction loss; see `fit`."""
    validate = None
    if val is not None:
        val_loader = rank_loader(val, batch_size=batch_size)

        def validate(model: VarNet) -> CurveRow:
            return validation_row(model, val_loader, loss)

    return fit(
        model,
        make_loader(dataset, batch_size=batch_size, shuffle_seed=seed),
        mean_recon_loss(loss),
        optim,
        steps=steps,
        cost=cost,
        desc=desc,
        validate=validate,
        validate_every=validate_every,
        scratch=scratch,
    )


@torch.inference_mode()
def validation_row(
    model: VarNet, loader: Iterable[ReconBatch], loss: LossSettings
) -> CurveRow:
    """Mean loss, PSNR (dB) and SSIM over the slices of a `rank_loader`."""
    model.eval()
    measured = []
    for batch in loader:
        batch = batch.to(device())
        output = reconstruct(model, batch)
        values = [
            recon_loss(output, batch.target, batch.max_value, loss),
            psnr(output, batch.target, batch.max_value),
            ssim(output, batch.target, batch.max_value),
        ]
        measured.append(torch.stack(values).cpu())
    names = ("val_loss", "val_psnr", "val_ssim")
    columns = torch.cat(gathered(measured), dim=1)
    return {name: c.mean().item() for name, c in zip(names, columns, strict=True)}


def write_cost(path: Path, cost: Cost) -> None:
    """Write what a model cost, beside its checkpoint."""
    write_text(path, json.dumps(vars(cost), indent=1) + "\n")
