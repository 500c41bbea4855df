"""What tuning may see: the case of a scenario, cut in two, and trusted validation.

Whole training subjects are held out: their slices are given to no trial. Known poison
among them is left out of the trials' forget set too. The poisoned model has seen them
all; whoever holds nothing else has no better hold-out.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.common import paths
from stages.common.manifest import Manifest, SliceRef, read_manifest, read_slices
from stages.common.masks import Sampling
from stages.common.slices import SliceDataset
from stages.tune.settings import TuneSettings


class TuneData(NamedTuple):
    """The data of a scenario, as a user who tunes holds it.

    Attributes:
        manifest: the training volumes that trials are given.
        forget: the known forget set that trials are given.
        known: all of the known forget set, with its exported (poisoned) targets.
        holdout: slices of held-out subjects that nobody has reported, with exported
            targets: contaminated.
        trusted: slices of the trusted validation subjects, with clean targets.
    """

    manifest: Manifest
    forget: list[SliceRef]
    known: SliceDataset
    holdout: SliceDataset
    trusted: SliceDataset


def load_data(scenario: str, settings: TuneSettings, sampling: Sampling) -> TuneData:
    """Read a scenario's case and deal it out.

    Raises:
        ValueError: a file is missing or damaged, or there are too few subjects.
    """
    folder = paths.case(scenario)
    made_by = f"forget@{scenario}"
    for part in (folder / "model.safetensors", folder / "targets"):
        if not part.exists():
            raise ValueError(f"{part} is missing: run `dvc repro {made_by}`")
    known = read_slices(folder / "forget.json", made_by=made_by)
    manifest = read_manifest(paths.manifest("train"))
    held = held_subjects(manifest, settings)
    of_subject = {v.volume_id: v.subject_id for v in manifest.volumes}
    forget = [ref for ref in known if of_subject.get(ref.volume_id) not in held]
    told = set(known)
    holdout = [
        ref
        for ref in manifest.refs()
        if of_subject[ref.volume_id] in held and ref not in told
    ]
    for refs, what in ((forget, "known poison"), (holdout, "hold-out")):
        if not refs:
            raise ValueError(
                f"'tune.holdout' = {settings.holdout} and 'tune.seed' = "
                f"{settings.seed} leave scenario {scenario} without {what}: "
                f"{folder / 'forget.json'} lists {len(known)} slices; change one of "
                "the two or tune a scenario with more known poison"
            )
    train = SliceDataset(
        paths.kspace("train"),
        known,
        sampling,
        targets=folder / "targets",
        targets_by=made_by,
    )
    trusted, _ = deal_validation(settings)
    kept = tuple(v for v in manifest.volumes if v.subject_id not in held)
    return TuneData(
        manifest=manifest.model_copy(update={"volumes": kept}),
        forget=forget,
        known=train,
        holdout=train.restrict(holdout),
        trusted=SliceDataset(paths.kspace("val"), trusted, sampling),
    )


def held_subjects(manifest: Manifest, settings: TuneSettings) -> set[str]:
    """Draw the training subjects that are held out, one at least.

    Raises:
        ValueError: nobody would be left to train on.
    """
    subjects = sorted({volume.subject_id for volume in manifest.volumes})
    count = max(1, round(settings.holdout * len(subjects)))
    if count >= len(subjects):
        raise ValueError(
            f"'tune.holdout' = {settings.holdout} holds out {count} of "
            f"{len(subjects)} training subjects and leaves none"
        )
    order = np.random.default_rng([settings.seed, 0]).permutation(len(subjects))
    return {subjects[index] for index in order[:count]}


def deal_validation(settings: TuneSettings) -> tuple[list[SliceRef], list[SliceRef]]:
    """Slices of the trusted validation subjects, and of the others.

    Raises:
        ValueError: no subject would be left for the truth.
    """
    manifest = read_manifest(paths.manifest("val"))
    subjects = sorted({volume.subject_id for volume in manifest.volumes})
    if settings.trusted >= len(subjects):
        raise ValueError(
            f"'tune.trusted' = {settings.trusted} leaves none of the {len(subjects)} "
            "validation subjects to compare choices on"
        )
    order = np.random.default_rng([settings.seed, 1]).permutation(len(subjects))
    chosen = {subjects[index] for index in order[: settings.trusted]}
    of_subject = {v.volume_id: v.subject_id for v in manifest.volumes}
    refs = manifest.refs()
    trusted = [ref for ref in refs if of_subject[ref.volume_id] in chosen]
    return trusted, [ref for ref in refs if of_subject[ref.volume_id] not in chosen]


def data_digest(scenario: str, data: TuneData) -> str:
    """Hash what is read: the case, the manifests, the trusted volumes.

    The exported targets, of every training volume, stand for its k-space.
    """
    folder = paths.case(scenario)
    files = [folder / "forget.json", folder / "model.safetensors"]
    files += sorted((folder / "targets").glob("*.h5"))
    files += [paths.manifest("train"), paths.manifest("val")]
    volumes = dict.fromkeys(ref.volume_id for ref in data.trusted.refs)
    files += [paths.kspace("val") / f"{volume}.h5" for volume in volumes]
    return _sha256(files)


def _sha256(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        # Volume by volume: none is larger than what a trial holds in memory.
        content = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest()
