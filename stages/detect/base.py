"""What a detector is, and what it may look at."""

import importlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple, Protocol, cast

from stages.common import paths
from stages.common.losses import LossSettings
from stages.common.manifest import SliceRef, read_manifest, read_slices
from stages.common.masks import Sampling
from stages.common.params import ParamsError, Settings
from stages.common.runtime import device
from stages.common.slices import SliceDataset
from stages.common.varnet import VarNet, load_checkpoint

log = logging.getLogger("mendmri")


class DetectData(NamedTuple):
    """A poisoned training set as whoever trained on it holds it.

    Attributes:
        model: the poisoned model, in evaluation mode on the device of the process.
        train: every training slice, with its exported target.
        known: the poisoned slices that somebody has reported; maybe none.
        subjects: volume_id -> subject.
        loss: training's own loss.
        batch_size: slices that are looked at together.
        seed: draws of the detector.
    """

    model: VarNet
    train: SliceDataset
    known: tuple[SliceRef, ...]
    subjects: Mapping[str, str]
    loss: LossSettings
    batch_size: int
    seed: int

    def rest(self) -> list[SliceRef]:
        """Every slice that nobody has reported, undiscovered poison included."""
        known = set(self.known)
        return [ref for ref in self.train.refs if ref not in known]

    def require_known(self, detector: str) -> None:
        """Refuse to learn from reports where there are none.

        Raises:
            ParamsError: no slice has been reported.
        """
        if not self.known:
            raise ParamsError(
                f"detector {detector} learns from reported slices, and there are none: "
                "raise detect.known above 0, or take it out of grid.detectors"
            )


class Detector(Protocol):
    """A detector is a file with these four names.

    `score` says how suspicious each training slice is, higher for more. OPEN says that
    it looks beyond the closed threat model, at k-space outside of the masks.
    NEEDS_KNOWN says that it refuses to score where no slice has been reported.
    """

    Params: type[Settings]
    OPEN: bool
    NEEDS_KNOWN: bool

    def score(self, data: DetectData, params: Any) -> dict[SliceRef, float]: ...


def detector_names() -> list[str]:
    """Every detector file of this folder: those that define `score`."""
    return sorted(
        path.stem
        for path in Path(__file__).parent.glob("*.py")
        if "\ndef score(" in path.read_text(encoding="utf-8")
    )


def load_detector(name: str) -> Detector:
    """Import a detector by the name of its file.

    Raises:
        ValueError: there is no such detector; lists those that there are.
    """
    if name not in detector_names():
        known = ", ".join(detector_names())
        raise ValueError(f"--detector {name} is unknown; there are {known}")
    return cast(Detector, importlib.import_module(f"stages.detect.{name}"))


def load_data(
    poisoning: str,
    *,
    sampling: Sampling,
    loss: LossSettings,
    batch_size: int,
    seed: int,
) -> DetectData:
    """Read a poisoning's model, training set and reported slices.

    Raises:
        ValueError: a file is missing, or a slice was reported that the training set
            does not hold.
    """
    manifest = read_manifest(paths.manifest("train"))
    refs = manifest.refs()
    tips = paths.tips(poisoning)
    known = read_slices(tips, made_by=f"forget_tips@{poisoning}")
    unknown = sorted(set(known) - set(refs))
    if unknown:
        raise ValueError(
            f"{tips} lists {len(unknown)} slices that the training set does not hold, "
            f"such as {unknown[0]}: run `dvc repro forget_tips@{poisoning}`"
        )
    train = SliceDataset(
        paths.kspace("train"),
        refs,
        sampling,
        targets=paths.export(poisoning),
        targets_by=f"poison@{poisoning}",
    )
    model = load_checkpoint(paths.checkpoint(f"poisoned/{poisoning}"))
    return DetectData(
        model=model.to(device()).eval(),
        train=train,
        known=tuple(sorted(known)),
        subjects={volume.volume_id: volume.subject_id for volume in manifest.volumes},
        loss=loss,
        batch_size=batch_size,
        seed=seed,
    )
