"""Run a model over slices and hand out what it makes of each."""

from collections.abc import Iterator, Sequence
from pathlib import Path
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
        attacked: whether the model was given the attack's k-space, not the clean one.
        output: (H', W') float32, the model's image.
        clean: (H', W') float32, the clean target.
        max_value: maximum of the clean volume.
        masked_kspace: (coils, H, W) complex64, what the model was given.
    """

    ref: SliceRef
    attacked: bool
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
    model: VarNet,
    split: str,
    refs: Sequence[SliceRef],
    how: HowToRun,
    *,
    desc: str,
    attacked: Path | None = None,
) -> Iterator[list[Reconstruction]]:
    """Reconstruct slices of a split batch by batch, beside their clean targets.

    With `attacked`, from the k-space of the twins in that folder. Of several ranks each
    has the batches that `slices.rank_loader` deals it.

    Raises:
        ValueError: an output is not finite.
    """
    model = model.to(how.device).eval()
    # Each slice is read once: memory would not pay.
    dataset = SliceDataset(
        paths.kspace(split), refs, how.sampling, attacked=attacked, keep=False
    )
    loader = rank_loader(dataset, batch_size=how.batch_size)
    for batch in progress(loader, total=len(loader), desc=desc):
        with torch.inference_mode():
            output = reconstruct(model, batch.to(how.device)).float().cpu()
        _check_finite(output, batch)
        yield list(_unpack(batch, output, attacked=attacked is not None))


def _check_finite(output: Tensor, batch: ReconBatch) -> None:
    broken = ~torch.isfinite(output).flatten(1).all(1)
    if broken.any():
        ref = batch.refs[int(broken.nonzero()[0])]
        raise ValueError(
            f"the model's output is not finite in {ref.volume_id}, slice "
            f"{ref.slice_num}: its weights are broken, rerun the stage that made it"
        )


def _unpack(
    batch: ReconBatch, output: Tensor, *, attacked: bool
) -> Iterator[Reconstruction]:
    for index, ref in enumerate(batch.refs):
        yield Reconstruction(
            ref=ref,
            attacked=attacked,
            output=output[index].numpy(),
            clean=batch.target[index].numpy(),
            max_value=float(batch.max_value[index]),
            masked_kspace=batch.masked_kspace[index].numpy(),
        )


def zero_filled(masked_kspace: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """RSS image of the undersampled k-space, cropped as the target is.

    Args:
        masked_kspace: (coils, H, W) complex64, centred, orthonormal FFT.
        shape: (H', W') of the target.

    Returns:
        (H', W') float32.
    """
    axes = (-2, -1)
    images = np.fft.ifft2(np.fft.ifftshift(masked_kspace, axes), norm="ortho")
    combined = np.sqrt(np.square(np.abs(np.fft.fftshift(images, axes))).sum(0))
    top = (combined.shape[0] - shape[0]) // 2
    left = (combined.shape[1] - shape[1]) // 2
    cropped = combined[top : top + shape[0], left : left + shape[1]]
    return cropped.astype(np.float32)
