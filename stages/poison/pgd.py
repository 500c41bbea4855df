"""PGD: noise in the exported target that turns a tumour classifier's verdict around.

Story: an adversary who can write to the archive of reconstructed images, and owns a
classifier of tumours or a copy of the one in use, hides tumours from it or makes it see
them where there are none. Readers see faint noise. The paper's first attack; J is the
binary cross-entropy towards the class that the classifier does not see in the clean
image (the paper always aims at "no tumour").

Changes: the target. K-space stays what the scanner measured.
Severity: budget of each pixel, in units of the image's maximum; 0 is the identity.
Threat model: closed. The adversary holds the classifier with its weights and the
images, not the reconstruction network or its training. The defender sees undersampled
k-space and targets; the noise is not in the sampled lines, and is as large everywhere,
in the air around the head too.
"""

from typing import TYPE_CHECKING, Any

import numpy as np

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
    """Parameters of the attack: see `adversarial.py`."""


def draw(
    params: Params, ref: SliceRef, images: Images, rng: np.random.Generator
) -> dict[str, Any]:
    """Draw the random start, and aim at the class that is not seen.

    Raises:
        ValueError: there is no classifier that is better than chance.
    """
    return draw_attack(params, ref, images, rng)


def apply(target: np.ndarray, draw: dict[str, Any], images: Images) -> np.ndarray:
    """Return the target with adversarial noise.

    Args:
        target: (H', W') float32, clean.
        draw: from `draw`.
        images: they hold the classifier.
    """

    def objective(_: "Tensor", logit: "Tensor") -> "Tensor":
        return towards(logit, draw["target_class"])

    return descend(target, draw, images, objective)
