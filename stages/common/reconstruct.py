"""The one forward pass: a batch of slices in, images of the target's size out."""

from torch import Tensor

from stages.common.slices import ReconBatch
from stages.common.varnet import VarNet


def reconstruct(model: VarNet, batch: ReconBatch) -> Tensor:
    """Reconstruct a batch and cut it to its target's size, as fastMRI does.

    Args:
        model: the network, on the batch's device.
        batch: slices of one shape.

    Returns:
        (N, H', W') float32, in the scale of the k-space.
    """
    output = model(batch.masked_kspace, batch.mask, batch.num_low_frequencies)
    return centre_crop(output, batch.target.shape[-2], batch.target.shape[-1])


def centre_crop(image: Tensor, height: int, width: int) -> Tensor:
    """(..., H, W) -> (..., height, width) around the centre."""
    top = (image.shape[-2] - height) // 2
    left = (image.shape[-1] - width) // 2
    if top < 0 or left < 0:
        raise ValueError(
            f"target {height} x {width} is larger than the reconstruction "
            f"{image.shape[-2]} x {image.shape[-1]}"
        )
    return image[..., top : top + height, left : left + width]
