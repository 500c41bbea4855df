"""Run a model over slices and hand out what it makes of each."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.masks import Sampling
from stages.common.reconstruct import reconstruct
from stages.common.runtime import progress
from stages.common.slices import ReconBatch, SliceDataset, rank_loader
from stages.common.varnet import VarNet


class Reconstruction(NamedTuple):
    """A slice as a model sees it.

    Attributes:
        ref: which slice.
        output: (H', W') float32, the model's image.
        clean: (H', W') float32, the clean target.
        max_value: maximum of the clean volume.
        masked_kspace: (coils, H, W) complex64, what the model was given.
    """

    ref: SliceRef
    output: np.ndarray
    clean: np.ndarray
    max_value: float
    masked_kspace: np.ndarray


class HowToRun(NamedTuple):
    """What is the same for every model: undersampling, slices at once, device."""

    sampling: Sampling
    batch_size: int
    device: torch.device


def reconstructions(
    model: VarNet, split: str, refs: Sequence[SliceRef], how: HowToRun, *, desc: str
) -> Iterator[list[Reconstruction]]:
    """Reconstruct slices of a split batch by batch, beside their clean targets.

    Of several ranks each has the batches that `slices.rank_loader` deals it.

    Raises:
        ValueError: an output is not finite.
    """
    model = model.to(how.device).eval()
    # Each slice is read once: memory would not pay.
    dataset = SliceDataset(paths.kspace(split), refs, how.sampling, keep=False)
    loader = rank_loader(dataset, batch_size=how.batch_size)
    for batch in progress(loader, total=len(loader), desc=desc):
        with torch.inference_mode():
            output = reconstruct(model, batch.to(how.device)).float().cpu()
        _check_finite(output, batch)
        yield list(_unpack(batch, output))


def _check_finite(output: Tensor, batch: ReconBatch) -> None:
    broken = ~torch.isfinite(output).flatten(1).all(1)
    if broken.any():
        ref = batch.refs[int(broken.nonzero()[0])]
        raise ValueError(
            f"the model's output is not finite in {ref.volume_id}, slice "
            f"{ref.slice_num}: its weights are broken, rerun the stage that made it"
        )


def _unpack(batch: ReconBatch, output: Tensor) -> Iterator[Reconstruction]:
    for index, ref in enumerate(batch.refs):
        yield Reconstruction(
            ref=ref,
            output=output[index].numpy(),
            clean=batch.target[index].numpy(),
            max_value=float(batch.max_value[index]),
            masked_kspace=batch.masked_kspace[index].numpy(),
        )
