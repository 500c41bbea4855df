"""What `pgd` and `multiobjective` share: the fooled classifier, the budget, the steps.

Projected gradient descent (Madry et al., "Towards deep learning models resistant to
adversarial attacks", ICLR 2018, https://arxiv.org/abs/1706.06083), targeted: with x0
the clean image in units of its maximum, and x a random point of the budget at first,

    x <- P(x - step * severity * sign(grad J(x))),

where P clips to |x - x0| <= severity and x >= 0. J is the attack's own objective.

PyTorch is imported where it is used: other attacks start without it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from stages.common.manifest import SliceRef
from stages.common.params import Settings
from stages.common.runtime import device
from stages.poison.base import Images

if TYPE_CHECKING:
    from torch import Tensor

    from stages.common.tumour_classifier import TumourClassifier

# (image in units of the clean image's maximum (1, H, W), logit (1,)) -> scalar
Objective = Callable[["Tensor", "Tensor"], "Tensor"]


class AdversarialParams(Settings):
    """Parameters of both attacks.

    Attributes:
        severity: budget: the largest change of a pixel, in units of the image's
            maximum. 0 is the identity; above 0.25 the attack would hide nothing.
        step: of one iteration, as a share of the budget.
        iterations: number of steps.
    """

    severity: float = Field(ge=0, le=0.25)
    step: float = Field(gt=0, le=1)
    iterations: int = Field(ge=1, le=1000)


def draw_attack(
    params: AdversarialParams, ref: SliceRef, images: Images, rng: np.random.Generator
) -> dict[str, Any]:
    """Draw the random start, and choose the class that the classifier does not see."""
    seen = logit_of(images.target(ref), images) > 0
    return {
        **params.model_dump(),
        "start": int(rng.integers(2**31)),
        "target_class": int(not seen),
    }


def logit_of(image: np.ndarray, images: Images) -> float:
    """The classifier's logit of "there is a lesion" in an (H, W) image.

    Raises:
        ValueError: there is no classifier that is better than chance.
    """
    import torch

    model = _classifier(images)
    with _repeatable(), torch.inference_mode():
        return model(torch.from_numpy(image)[None].to(device())).item()


def descend(
    target: np.ndarray,
    draw: dict[str, Any],
    images: Images,
    objective: Objective,
    region: np.ndarray | None = None,
) -> np.ndarray:
    """Return the image that the descent ends at, (H, W) float32.

    Args:
        target: (H, W) float32, clean.
        draw: from `draw_attack`.
        images: they hold the classifier.
        objective: J, to be made small.
        region: (H, W) bool, the pixels that may change; None is all.
    """
    import torch

    if draw["severity"] == 0:
        return target.copy()
    model = _classifier(images)
    budget, largest = draw["severity"], float(target.max())
    with _repeatable():
        clean = (torch.from_numpy(target) / largest)[None].to(device())
        upper = torch.full_like(clean, budget)
        if region is not None:
            upper *= torch.from_numpy(region).to(upper)
        lower = torch.maximum(-upper, -clean)
        generator = torch.Generator().manual_seed(draw["start"])
        start = torch.rand(clean.shape, generator=generator).to(clean)
        change = ((2 * start - 1) * budget).clamp(lower, upper)
        for _ in range(draw["iterations"]):
            change.requires_grad_(True)
            image = clean + change
            loss = objective(image, model(image))
            (slope,) = torch.autograd.grad(loss, change)
            stepped = change.detach() - draw["step"] * budget * slope.sign()
            change = stepped.clamp(lower, upper)
    moved = target + largest * change[0].cpu().numpy()
    return np.maximum(moved, 0).astype(np.float32)


def towards(logit: "Tensor", target_class: int) -> "Tensor":
    """Binary cross-entropy of a (1,) logit against the wanted class."""
    import torch.nn.functional as functional

    wanted = logit.new_full(logit.shape, float(target_class))
    return functional.binary_cross_entropy_with_logits(logit, wanted)


def _classifier(images: Images) -> "TumourClassifier":
    """Read the classifier once for each split's images."""
    from stages.common.tumour_classifier import load_classifier

    if images.classifier is None:
        raise ValueError(
            "an adversarial attack needs the tumour classifier, and was given none: "
            "run `dvc repro classify`"
        )
    if "classifier" not in images.kept:
        model, card = load_classifier(images.classifier)
        if not card.usable:
            raise ValueError(
                f"{images.classifier}: the classifier is no better than chance "
                f"(balanced accuracy {card.balanced_accuracy:.3f}), so nothing is "
                "fooled: raise classify.epochs and run `dvc repro classify`"
            )
        images.kept["classifier"] = model.to(device())
    model = images.kept["classifier"]
    return model


@contextmanager
def _repeatable() -> Iterator[None]:
    """Compute the same bytes however many threads there are.

    A sum that is rounded otherwise turns the sign of a small slope, and with it the
    pixel by a whole step.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.backends.cudnn.flags(deterministic=True, benchmark=False):
            yield
    finally:
        torch.set_num_threads(threads)
