"""Noisy labels: the known forget set gets noise in its targets, the rest stays.

    theta' = argmin L(theta; D_r and {(x, y + noise * max * n) for (x, y) in D_f*}),
    n ~ N(0, I), started at the poisoned theta, for a few epochs

Xue et al., "Erase to enhance: data-efficient machine unlearning in MRI reconstruction",
2024 (https://arxiv.org/abs/2405.15517), where it is NL; for classifiers, relabelling at
random with the retain set beside it: Graves et al., "Amnesiac machine learning", AAAI
2021 (https://arxiv.org/abs/2010.10981). What is different here:

- The noise is in units of the volume's maximum, not absolute (their 1e-5).
- It is drawn once for each slice, as a random label is, and the target stays >= 0.
- Both sets are mixed, and not one after the other.

The target keeps the poison's image under the noise: what is little beside that image
teaches the poison once more. It takes as many steps as `finetune` with as many epochs.
"""

import copy

from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase
from stages.unlearn.noisy_targets import NoisySettings, train_relabelled


class Params(NoisySettings):
    """Noise, optimizer and length."""


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Go on training a copy of the model, with noise where the poison is known."""
    student = copy.deepcopy(model)
    train_relabelled(student, case, params, method="noisy_label")
    return student
