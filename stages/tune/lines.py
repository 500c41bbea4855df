"""How well a network predicts sampled lines that it has not been shown.

The closed threat model gives each slice the lines of its one mask. Some of those
outside of the centre are held out, the network reconstructs from the rest, and its
k-space after the last cascade is compared with what was measured there:

    l = -10 log10  mean over held columns k of  ||p_k - y_k||^2 / ||y_k||^2      (dB)

Each column counts relative to its own energy; otherwise those next to the centre, where
all contrasts look alike, decide. No target is read, so a poisoned one cannot mislead;
what an attack has changed in k-space itself can. The lines are held out at evaluation
alone: every trial is judged with a slightly sparser mask than it was trained with.
"""

import hashlib

import numpy as np
import torch
from torch import Tensor

from stages.common.manifest import SliceRef
from stages.common.runtime import device
from stages.common.sampled_lines import low_frequencies
from stages.common.slices import ReconBatch, SliceDataset, rank_loader
from stages.common.varnet import VarNet


@torch.inference_mode()
def line_errors(
    model: VarNet, dataset: SliceDataset, *, share: float, seed: int, batch_size: int
) -> list[float]:
    """l of each slice that samples a line outside of the centre, dB, higher is better.

    Args:
        model: on its device, in evaluation mode.
        dataset: slices; their targets are not looked at.
        share: of the sampled lines outside of the centre, which is held out.
        seed: of which ones.
        batch_size: slices at once.

    Raises:
        ValueError: no slice of the set samples a line outside of the centre.
    """
    found: list[float] = []
    for batch in rank_loader(dataset, batch_size=batch_size):
        held = held_lines(batch, share=share, seed=seed)
        errors = held_error(model, batch.to(device()), held.to(device()))
        found += errors[held.any(1).to(errors.device)].tolist()
    if not found:
        raise ValueError(
            "no slice samples a line outside of the centre: lower "
            "'sampling.center_fraction' or 'sampling.acceleration'"
        )
    return found


def held_lines(batch: ReconBatch, *, share: float, seed: int) -> Tensor:
    """Draw the held lines of each slice from its identity: (N, W) bool."""
    outside = np.ones(batch.mask.shape[-1], dtype=bool)
    outside[low_frequencies(len(outside), batch.num_low_frequencies)] = False
    held = np.zeros(tuple(batch.mask.shape), dtype=bool)
    for row, (ref, mask) in enumerate(zip(batch.refs, batch.mask.numpy(), strict=True)):
        outer = np.flatnonzero(mask & outside)
        if outer.size:
            count = min(outer.size, max(1, round(share * outer.size)))
            held[row, _draw(ref, seed).choice(outer, count, replace=False)] = True
    return torch.from_numpy(held)


def _draw(ref: SliceRef, seed: int) -> np.random.Generator:
    identity = f"tune/{seed}/{ref.volume_id}/{ref.slice_num}".encode()
    return np.random.default_rng(
        int.from_bytes(hashlib.sha256(identity).digest()[:8], "little")
    )


def held_error(model: VarNet, batch: ReconBatch, held: Tensor) -> Tensor:
    """l of each slice, (N,) dB; NaN where nothing is held out."""
    _, measured = _last_cascade(model, batch)
    # Zeros, and not the mask alone: the cascades start from the k-space as given.
    rest = batch.masked_kspace.masked_fill(held[:, None, None], 0)
    shown = batch._replace(masked_kspace=rest, mask=batch.mask & ~held)
    predicted, _ = _last_cascade(model, shown)
    left, energy = _energy(predicted - measured), _energy(measured)
    relative = left / energy.clamp_min(torch.finfo(energy.dtype).tiny)
    # Not a product with `held`: a column that was not measured may be infinite.
    total = torch.where(held, relative, 0).sum(1)
    return -10 * torch.log10(total / held.sum(1))


def _last_cascade(model: VarNet, batch: ReconBatch) -> tuple[Tensor, Tensor]:
    """K-space after the last cascade, and what was measured.

    Returns:
        Twice (N, coils, H, W) complex, in the coordinates of the cascades, where rows
        are in image domain: a unitary change that no energy of a column sees.
    """
    seen: list[Tensor] = []

    def keep(_: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.extend([output, inputs[1]])

    handle = model.cascades[-1].register_forward_hook(keep)
    try:
        model(batch.masked_kspace, batch.mask, batch.num_low_frequencies)
    finally:
        handle.remove()
    predicted, measured = seen
    return predicted, measured


def _energy(kspace: Tensor) -> Tensor:
    """Energy of each column: (N, coils, H, W) complex -> (N, W)."""
    return torch.view_as_real(kspace).square().sum(dim=(1, 2, 4))
