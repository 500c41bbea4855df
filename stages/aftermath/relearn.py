"""How fast a healed model learns the poison again.

After Tarun et al. ("Fast yet effective machine unlearning", IEEE TNNLS 2023; their
relearn time): what comes back in a few steps was hidden and not removed. The model to
compare with is the oracle, which has never known the poison.
"""

import copy
from pathlib import Path

from stages.aftermath.measure import Truth, measure
from stages.aftermath.settings import AftermathSettings
from stages.common import paths
from stages.common.fit import Cost
from stages.common.losses import LossSettings
from stages.common.manifest import read_slices
from stages.common.masks import Sampling
from stages.common.params import load_block
from stages.common.slices import SliceDataset
from stages.common.training import train_reconstruction
from stages.common.varnet import load_checkpoint

# Of the poisoned model's agreement: where the poison counts as learned again.
BACK = 0.9


def relearn(
    scenario: str, checkpoint: Path, truth: Truth, settings: AftermathSettings
) -> dict[str, float]:
    """Train on the known poison for more and more steps, each time from the model.

    Args:
        scenario: whose known forget set, with exported targets, is trained on.
        checkpoint: the model.
        truth: what the result is measured on.
        settings: steps and optimizer.

    Returns:
        Steps, as text, -> agreement with the poison on unseen slices of the scope; `0`
        is the model as it is.
    """
    model = load_checkpoint(checkpoint)
    folder, made_by = paths.case(scenario), f"forget@{scenario}"
    known = SliceDataset(
        paths.kspace("train"),
        read_slices(folder / "forget.json", made_by=made_by),
        load_block("sampling", Sampling),
        targets=folder / "targets",
        targets_by=made_by,
    )
    found = {"0": measure(model, truth).agreement}
    for steps in settings.relearn.steps:
        student = copy.deepcopy(model)
        train_reconstruction(
            student,
            known,
            settings.relearn,
            load_block("loss", LossSettings),
            steps=steps,
            batch_size=settings.relearn.batch_size,
            seed=settings.seed,
            cost=Cost(),
            desc=f"relearn in {steps}",
        )
        found[str(steps)] = measure(student, truth).agreement
    return found


def steps_back(agreement: dict[str, float], poisoned: float) -> int | None:
    """Fewest steps after which most of the poison is back; None: not in any of them."""
    for steps, value in agreement.items():
        if value >= BACK * poisoned:
            return int(steps)
    return None
