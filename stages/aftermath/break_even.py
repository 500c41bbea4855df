"""At which cost retraining from scratch heals as much as a method.

Retraining on what is not known to be bad, for more and more epochs, each length a
training of its own with the whole schedule of `train`. A method that a shorter
retraining equals is not worth its cost; one that no retraining equals has no price.
"""

import shutil
from collections.abc import Mapping
from typing import Any

from stages.aftermath.measure import Level, Truth, measure
from stages.aftermath.workspace import lay_out
from stages.common import paths, substage
from stages.common.manifest import read_manifest, read_slices
from stages.common.varnet import load_checkpoint

RETRAIN = "retrain"


def retrain_for(
    epochs: float, scenario: str, params: Mapping[str, Any], truth: Truth
) -> tuple[Level, float]:
    """Retrain from scratch on the retain set for some epochs.

    Args:
        epochs: passes over the retain set.
        scenario: whose retain set, undiscovered poison included.
        params: the whole of `params.yaml`.
        truth: what the result is measured on.

    Returns:
        The level, and the cost as `share_of_retraining` has it.

    Raises:
        ValueError: the stage refused, or was killed.
    """
    case = paths.case(scenario)
    told = read_slices(case / "forget.json", made_by=f"forget@{scenario}")
    shorter = {**params, "train": {**params["train"], "epochs": epochs}}
    folder = paths.SCRATCH / "aftermath" / scenario / RETRAIN / f"{epochs:g}"
    shutil.rmtree(folder, ignore_errors=True)
    lay_out(folder, scenario, shorter, told, case / "model.safetensors")
    ended = substage.run_unlearn(folder, scenario, RETRAIN)
    if ended.checkpoint is None:
        raise ValueError(
            f"{RETRAIN} refused {epochs:g} epochs on {scenario}: {ended.error}; see "
            f"{folder / substage.LOG}"
        )
    level = measure(load_checkpoint(ended.checkpoint), truth)
    shutil.rmtree(folder)
    return level, share_of_retraining(ended.cost, scenario, params)


def share_of_retraining(
    cost: Mapping[str, int], scenario: str, params: Mapping[str, Any]
) -> float:
    """A cost over that of a whole retraining on the retain set.

    Args:
        cost: as `unlearn` counts; a forward pass alone is a third of a slice.
        scenario: whose retain set.
        params: the whole of `params.yaml`.
    """
    case = paths.case(scenario)
    told = read_slices(case / "forget.json", made_by=f"forget@{scenario}")
    slices = len(read_manifest(paths.manifest("train")).refs()) - len(told)
    whole: float = params["train"]["epochs"] * slices
    return (cost["slices_forward_backward"] + cost["slices_forward"] / 3) / whole


def break_even(healed: float, retrained: Mapping[float, float]) -> float | None:
    """The lowest cost at which retraining heals as much; None: at none of them.

    Args:
        healed: by a method; where it is not above 0, to do nothing is as good.
        retrained: cost -> healing, one for each length of retraining.
    """
    if healed <= 0:
        return 0.0
    enough = [cost for cost, value in retrained.items() if value >= healed]
    return min(enough, default=None)
