"""Residual of the exported target on the sampled lines of its own k-space.

A magnitude target t has no phase and no coils. Both are borrowed from the poisoned
model's reconstruction, of which the shares of the coils hardly depend on what the
target taught it: with its coil images x_c after the last cascade,

    u_c = x_c / sqrt(sum_c |x_c|^2)       unit over coils, complex
    p_c = F(t u_c)                        k-space that the target stands for
    s   = Re <p, y> / <p, p>              on the sampled columns: t has any scale
    score = mean over sampled columns k of  sum |s p_k - y_k|^2 / sum |y_k|^2

Each column counts relative to its own energy; otherwise the centre, where all contrasts
look alike, decides. No report and no truth is needed. Outside of a target that is
smaller than the k-space, the model's own image stands in, in the target's scale.
"""

import torch
from torch import Tensor

from stages.common.coil_ops import root_sum_of_squares, to_image, to_kspace
from stages.common.manifest import SliceRef
from stages.common.params import Settings
from stages.common.reconstruct import centre_crop
from stages.common.runtime import device, progress
from stages.common.slices import ReconBatch, rank_loader
from stages.common.varnet import VarNet
from stages.detect.base import DetectData

OPEN = False


class Params(Settings):
    """None."""


@torch.inference_mode()
def score(data: DetectData, params: Params) -> dict[SliceRef, float]:  # noqa: ARG001
    """Relative residual of every exported target against its sampled k-space."""
    loader = rank_loader(data.train, batch_size=data.batch_size)
    scores: dict[SliceRef, float] = {}
    for batch in progress(loader, total=len(loader), desc="residuals"):
        batch = batch.to(device())
        images, reference, sampled = last_cascade(data.model, batch)
        values = residual(images, batch.target, reference, sampled)
        scores |= zip(batch.refs, values.tolist(), strict=True)
    return scores


def last_cascade(model: VarNet, batch: ReconBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Coil images after the last cascade, and what was measured.

    They stay in the coordinates of the cascades, where rows are in image domain and
    columns are not centred: a unitary change that a residual does not see.

    Returns:
        images (N, coils, H, W) complex, k-space (N, coils, H, W) complex, its sampled
        columns (N, W) float.
    """
    seen: list[Tensor] = []

    def keep(_: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen.extend([to_image(output), inputs[1], inputs[2]])

    handle = model.cascades[-1].register_forward_hook(keep)
    try:
        model(batch.masked_kspace, batch.mask, batch.num_low_frequencies)
    finally:
        handle.remove()
    images, reference, sampled = seen
    return images, reference, sampled


def residual(
    images: Tensor, target: Tensor, reference: Tensor, sampled: Tensor
) -> Tensor:
    """The score of each slice.

    Args:
        images: (N, coils, H, W) complex coil images, for phase and coils.
        target: (N, H', W') magnitude, in any scale.
        reference: (N, coils, H, W) complex, measured; not read where not sampled.
        sampled: (N, W) float, 1 where sampled.

    Returns:
        (N,), 0 where the target explains every sampled line.
    """
    magnitude = root_sum_of_squares(images)
    unit = images / magnitude.clamp_min(torch.finfo(magnitude.dtype).tiny)[:, None]
    inside = centre_crop(magnitude, *target.shape[-2:])
    ratio = (target * inside).sum((1, 2)) / inside.square().sum((1, 2))
    whole = magnitude * ratio[:, None, None]
    centre_crop(whole, *target.shape[-2:]).copy_(target)
    predicted = to_kspace(unit * whole[:, None]) * sampled[:, None, None]
    scale = _inner(predicted, reference) / _inner(predicted, predicted)
    left = _energy(scale[:, None, None, None] * predicted - reference)
    relative = left / _energy(reference).clamp_min(torch.finfo(left.dtype).tiny)
    return (relative * sampled).sum(1) / sampled.sum(1)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Real part of the inner product of each slice: (N, ...) complex -> (N,)."""
    return (a.conj() * b).real.sum(dim=(1, 2, 3))


def _energy(kspace: Tensor) -> Tensor:
    """Energy of each column: (N, coils, H, W) complex -> (N, W)."""
    return torch.view_as_real(kspace).square().sum(dim=(1, 2, 4))
