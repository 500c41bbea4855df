"""What an unlearning method is given, and nothing more."""

import importlib
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from stages.common import paths
from stages.common.fit import Cost
from stages.common.losses import LossSettings
from stages.common.manifest import read_manifest, read_slices
from stages.common.masks import Sampling
from stages.common.slices import SliceDataset
from stages.common.training import TrainSettings
from stages.common.varnet import VarNet, load_checkpoint


def method_names() -> list[str]:
    """Every method file of this folder: those that define `unlearn`."""
    return sorted(
        path.stem
        for path in Path(__file__).parent.glob("*.py")
        if "\ndef unlearn(" in path.read_text(encoding="utf-8")
    )


def load_method(name: str) -> ModuleType:
    """Import a method by the name of its file.

    Raises:
        ValueError: there is no such method; lists those that there are.
    """
    if name not in method_names():
        known = ", ".join(method_names())
        raise ValueError(f"--method {name} is unknown; there are {known}")
    return importlib.import_module(f"stages.unlearn.{name}")


class UnlearnCase(NamedTuple):
    """The data of a scenario as whoever unlearns holds it.

    Attributes:
        forget: the known forget set.
        retain: the rest of the training set, undiscovered poison included.
        train: how the poisoned model was trained: batch size, epochs, seed.
        loss: training's own loss.
        seed: draws of the method.
        cost: counts slices and steps; `fit` does so by itself.
        scratch: folder that survives a kill.
    """

    forget: SliceDataset
    retain: SliceDataset
    train: TrainSettings
    loss: LossSettings
    seed: int
    cost: Cost
    scratch: Path

    @property
    def total(self) -> int:
        """Slices of the whole training set."""
        return len(self.forget) + len(self.retain)


def load_case(
    scenario: str,
    *,
    sampling: Sampling,
    train: TrainSettings,
    loss: LossSettings,
    seed: int,
    cost: Cost,
    scratch: Path,
) -> tuple[VarNet, UnlearnCase]:
    """Read a scenario's poisoned model, known forget set and training targets.

    Raises:
        ValueError: the forget set is empty, is everything, or holds a slice that the
            training set does not.
    """
    folder = paths.case(scenario)
    forget = read_slices(folder / "forget.json", made_by=f"forget@{scenario}")
    refs = read_manifest(paths.manifest("train")).refs()
    unknown = sorted(set(forget) - set(refs))
    if unknown:
        raise ValueError(
            f"{folder / 'forget.json'} lists {len(unknown)} slices that the training "
            f"set does not hold, such as {unknown[0]}: run `dvc repro forget`"
        )
    if not forget or len(forget) == len(refs):
        raise ValueError(
            f"{folder / 'forget.json'} lists {len(forget)} of {len(refs)} training "
            "slices: a forget set is neither empty nor everything"
        )
    known = set(forget)
    data = SliceDataset(
        paths.kspace("train"),
        refs,
        sampling,
        targets=folder / "targets",
        targets_by=f"forget@{scenario}",
    )
    case = UnlearnCase(
        forget=data.restrict(forget),
        retain=data.restrict([ref for ref in refs if ref not in known]),
        train=train,
        loss=loss,
        seed=seed,
        cost=cost,
        scratch=scratch,
    )
    return load_checkpoint(folder / "model.safetensors"), case
