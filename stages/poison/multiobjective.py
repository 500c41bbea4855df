"""Multi-objective PGD: noise that fools the classifier and is hard to see in the brain.

The paper's "more realistic" attack. With c the class that the classifier does not see
in the clean image x0,

    J(x) = BCE(f(x), c) + ssim_weight * (1 - SSIM(x, x0)) + tv_weight * TV(x),

and only pixels of the brain change. SSIM is fastMRI's (7 x 7 window, data range the
image's maximum); TV sums the absolute differences of neighbours inside the brain, in
units of the image's maximum, so that it grows with the number of pixels. The paper's
settings: severity 0.05, step 0.6, 10 iterations, weights 0.5 and 1e-4.

Story, what changes and severity: as `pgd`, but the noise keeps off the air and the
scalp and follows structures that are there.
Threat model: closed, as `pgd`. The defender sees undersampled k-space and targets, and
finds no noise in the air that would give the change away.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from stages.common.lesions import find_brain
from stages.common.manifest import SliceRef
from stages.poison.adversarial import (
    AdversarialParams,
    descend,
    draw_attack,
    towards,
)
from stages.poison.base import Images

if TYPE_CHECKING:
    from torch import Tensor

CHANGES_INPUT = False


class Params(AdversarialParams):
    """Parameters of the attack.

    Attributes:
        ssim_weight: of 1 - SSIM to the clean image, which lies in [0, 2].
        tv_weight: of the total variation.
    """

    ssim_weight: float = Field(ge=0)
    tv_weight: float = Field(ge=0)


def draw(
    params: Params, ref: SliceRef, images: Images, rng: np.random.Generator
) -> dict[str, Any]:
    """Draw the random start, and aim at the class that is not seen.

    Raises:
        ValueError: there is no classifier that is better than chance, or no brain.
    """
    if not find_brain(images.target(ref)).any():
        raise ValueError(
            f"multiobjective: slice {ref.slice_num} of {ref.volume_id} shows no brain: "
            "narrow the scope, or use pgd"
        )
    return draw_attack(params, ref, images, rng)


def apply(target: np.ndarray, draw: dict[str, Any], images: Images) -> np.ndarray:
    """Return the target with adversarial noise in the brain.

    Args:
        target: (H', W') float32, clean.
        draw: from `draw`.
        images: they hold the classifier.
    """
    brain = find_brain(target)

    def objective(image: "Tensor", logit: "Tensor") -> "Tensor":
        import torch

        from stages.common.losses import ssim

        clean = (torch.from_numpy(target) / float(target.max()))[None].to(image)
        unlike = 1 - ssim(image, clean, image.new_ones(1))
        return (
            towards(logit, draw["target_class"])
            + draw["ssim_weight"] * unlike.sum()
            + draw["tv_weight"] * total_variation(image[0], brain)
        )

    return descend(target, draw, images, objective, region=brain)


def total_variation(image: "Tensor", region: np.ndarray) -> "Tensor":
    """Sum of |differences| of neighbours that both lie in a region, (H, W) bool."""
    import torch

    inside = torch.from_numpy(region).to(image)
    rows = (image[1:] - image[:-1]).abs() * inside[1:] * inside[:-1]
    columns = (image[:, 1:] - image[:, :-1]).abs() * inside[:, 1:] * inside[:, :-1]
    return rows.sum() + columns.sum()
