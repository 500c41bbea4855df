"""One number per slice from forward passes alone."""

from collections.abc import Callable

import torch
from torch import Tensor

from stages.common.devices import gathered
from stages.common.fit import Cost
from stages.common.losses import LossSettings, recon_loss
from stages.common.manifest import SliceRef
from stages.common.reconstruct import reconstruct
from stages.common.runtime import device
from stages.common.slices import ReconBatch, SliceDataset, rank_loader
from stages.common.varnet import VarNet

# (output, batch) -> (N,): output is the (N, H', W') reconstruction of the batch.
SliceValue = Callable[[Tensor, ReconBatch], Tensor]


def slice_values(
    model: VarNet,
    dataset: SliceDataset,
    value: SliceValue,
    *,
    batch_size: int,
    cost: Cost,
) -> dict[SliceRef, float]:
    """Reconstruct every slice once and measure it; the same on each rank.

    Args:
        model: what reconstructs.
        dataset: the slices.
        value: what is measured.
        batch_size: slices at a time.
        cost: counts one forward pass per slice.

    Returns:
        The value of each slice.
    """

    def measure(model: VarNet, batch: ReconBatch) -> Tensor:
        return value(reconstruct(model, batch), batch)

    return per_slice(model, dataset, measure, batch_size=batch_size, cost=cost)


def per_slice(
    model: VarNet,
    dataset: SliceDataset,
    measure: Callable[[VarNet, ReconBatch], Tensor],
    *,
    batch_size: int,
    cost: Cost,
) -> dict[SliceRef, float]:
    """The same with a measure, (model, batch) -> (N,), that makes its forward pass."""
    model = model.to(device()).eval()
    found = []
    with torch.inference_mode():
        for batch in rank_loader(dataset, batch_size=batch_size):
            batch = batch.to(device())
            values = measure(model, batch).tolist()
            found.append(list(zip(batch.refs, values, strict=True)))
    cost.slices_forward += len(dataset)
    return {ref: number for part in gathered(found) for ref, number in part}


def loss_value(settings: LossSettings) -> SliceValue:
    """Training's own loss of a slice, to its exported target."""

    def value(output: Tensor, batch: ReconBatch) -> Tensor:
        return recon_loss(output, batch.target, batch.max_value, settings)

    return value


def values_of(batch: ReconBatch, values: dict[SliceRef, float]) -> Tensor:
    """(N,) float32, those of a batch's slices, on its device."""
    return torch.tensor([values[ref] for ref in batch.refs], device=batch.target.device)
