"""What the sampled lines of a slice say about an image of it.

Columns of k-space that were sampled are all that whoever trains has measured: beside
them, a target is somebody's claim.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from stages.common.coil_ops import root_sum_of_squares, to_image, to_kspace
from stages.common.reconstruct import centre_crop
from stages.common.slices import ReconBatch
from stages.common.varnet import VarNet, hybrid_kspace


def claimed_residual(model: VarNet, batch: ReconBatch) -> Tensor:
    """How far each target is from explaining the sampled lines of its own slice.

    A magnitude target t has no phase and no coils. Both are borrowed from the model's
    reconstruction, of which the shares of the coils hardly depend on what the target
    taught it: with its coil images x_c after the last cascade,

        u_c = x_c / sqrt(sum_c |x_c|^2)       unit over coils, complex
        p_c = F(t u_c)                        k-space that the target stands for
        s   = Re <p, y> / <p, p>              on the sampled columns: t has any scale
        residual = mean over sampled columns k of  sum |s p_k - y_k|^2 / sum |y_k|^2

    Each column counts relative to its own energy; otherwise the centre, where all
    contrasts look alike, decides. Outside of a target that is smaller than the k-space,
    the model's own image stands in, in the target's scale.

    Args:
        model: any network that reconstructs such slices, a poisoned one too.
        batch: slices on the model's device.

    Returns:
        (N,), 0 where the target explains every sampled line.
    """
    with last_cascade(model) as seen:
        model(batch.masked_kspace, batch.mask, batch.num_low_frequencies)
    output, reference, sampled = seen
    return residual(to_image(output), batch.target, reference, sampled)


@contextmanager
def last_cascade(model: VarNet) -> Iterator[list[Tensor]]:
    """Look at what a forward pass has in its last cascade.

    Everything is in the coordinates of the cascades, where rows are in image domain and
    columns, those that a mask samples, are in k-space: a unitary change, which no
    residual sees.

    Yields:
        A list that a pass fills with the k-space (N, coils, H, W) complex that comes
        out, what was measured (N, coils, H, W) complex, its sampled columns (N, W).
    """
    seen: list[Tensor] = []

    def keep(_: object, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        seen[:] = [output, inputs[1], inputs[2]]

    # Of many ranks each has the network inside of another module.
    inside: VarNet = getattr(model, "module", model)
    handle = inside.cascades[-1].register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()


def residual(
    images: Tensor, target: Tensor, reference: Tensor, sampled: Tensor
) -> Tensor:
    """The residual of `claimed_residual`, from what a forward pass had.

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


def lines_error(
    model: VarNet, batch: ReconBatch, held: Tensor, *, centre: float
) -> Tensor:
    """How far a reconstruction is from sampled columns, the target not looked at.

    For a column k, e_k = ||p_k - y_k|| / ||y_k|| over rows and coils, p the k-space
    after the last cascade. The mean of e_k over the columns that the model was not
    shown, plus `centre` times its mean over the fully sampled centre, which it was.

    Args:
        model: the network; gradients flow.
        batch: slices on the model's device, with all their sampled columns.
        held: (N, W) bool, sampled columns outside of the centre that are held out.
        centre: weight of the centre, >= 0.

    Returns:
        (N,), 0 where these columns are predicted, or empty.
    """
    hidden = held[:, None, None]
    kspace = batch.masked_kspace.masked_fill(hidden, 0)
    with last_cascade(model) as seen:
        model(kspace, batch.mask & ~held, batch.num_low_frequencies)
    measured = hybrid_kspace(batch.masked_kspace)
    middle = torch.zeros_like(held)
    middle[:, low_frequencies(held.shape[-1], batch.num_low_frequencies)] = True
    energy = _energy(measured)
    # An empty column says nothing, and has no relative error.
    counted = ((held | middle) if centre else held) & (energy > 0)
    left = _energy((seen[0] - measured).masked_fill(~counted[:, None, None], 0))
    # The root has no slope at 0.
    relative = torch.where(counted, left / torch.where(counted, energy, 1), 1)
    errors = relative.clamp_min(1e-12).sqrt()
    return _mean(errors, held & counted) + centre * _mean(errors, middle & counted)


def low_frequencies(width: int, count: int) -> slice:
    """The columns of the centre that every mask samples."""
    start = (width - count + 1) // 2
    return slice(start, start + count)


def _mean(values: Tensor, chosen: Tensor) -> Tensor:
    """Mean over the chosen columns of each row, 0 of none: (N, W) -> (N,)."""
    return (values * chosen).sum(1) / chosen.sum(1).clamp_min(1)


def _inner(a: Tensor, b: Tensor) -> Tensor:
    """Real part of the inner product of each slice: (N, ...) complex -> (N,)."""
    return (a.conj() * b).real.sum(dim=(1, 2, 3))


def _energy(kspace: Tensor) -> Tensor:
    """Energy of each column: (N, coils, H, W) complex -> (N, W)."""
    return torch.view_as_real(kspace).square().sum(dim=(1, 2, 4))
