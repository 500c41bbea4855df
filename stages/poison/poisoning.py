"""Poison a training set: choose, draw, export, record."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np

from stages.common.folders import atomic_folder
from stages.common.manifest import SliceRef
from stages.common.params import Settings
from stages.common.runtime import progress
from stages.common.truth import (
    PoisonedSlice,
    TruthRecord,
    Twins,
    kspace_sha256,
    target_sha256,
    write_truth,
)
from stages.common.volume import write_targets
from stages.poison.base import (
    Attack,
    Images,
    InputAttack,
    measured_on,
    slice_rng,
)
from stages.poison.settings import Poisoning
from stages.poison.victims import check_scope, choose_victims, in_scope

Draws = dict[SliceRef, dict[str, Any]]


def poison_training_set(
    name: str,
    poisoning: Poisoning,
    *,
    attack: Attack,
    params: Settings,
    splits: Mapping[str, Images],
    export: Path,
    truth: Path,
) -> TruthRecord:
    """Write a poisoned training set and the truth about it; both or neither.

    Args:
        name: of the poisoning.
        poisoning: share, scope, unit, seed.
        attack: what is done to a chosen slice.
        params: the attack's own parameters.
        splits: clean images of train, val and test.
        export: folder for one file per training volume, with its targets and, if the
            attack changes it, its k-space.
        truth: folder for the record and the twins.

    Returns:
        The record, as written.

    Raises:
        ValueError: parameters that do not fit the data, a missing or damaged file.
    """
    train = splits["train"]
    manifests = {split: images.manifest for split, images in splits.items()}
    check_scope(name, poisoning.scope, manifests.values())
    scope = {split: in_scope(m, poisoning.scope) for split, m in manifests.items()}
    victims = {**scope, "train": choose_victims(name, poisoning, train.manifest)}
    # Every draw before any writing: a scope that the attack can't serve stops here.
    draws = {
        split: {
            ref: attack.draw(params, ref, images, slice_rng(poisoning.seed, ref))
            for ref in victims[split]
        }
        for split, images in splits.items()
    }
    with atomic_folder(truth) as new_truth, atomic_folder(export) as new_export:
        poisoned = _export(new_export, train, attack, draws["train"])
        record = TruthRecord(
            poisoning=name,
            attack=poisoning.attack,
            changes_input=attack.CHANGES_INPUT,
            measured_on=measured_on(attack),
            scope={split: tuple(refs) for split, refs in scope.items()},
            poisoned=tuple(poisoned),
        )
        write_truth(new_truth, record, _twins(splits, attack, draws))
    return record


def _export(
    folder: Path, train: Images, attack: Attack, draws: Draws
) -> list[PoisonedSlice]:
    """Write every training volume as exported and describe the poisoned slices.

    Of an attack that changes k-space, every volume's is written, poisoned or not.
    """
    poisoned = []
    volumes = sorted(train.volumes)
    for volume_id in progress(volumes, total=len(volumes), desc="export"):
        targets = train.targets(volume_id)
        kspace = train.kspace(volume_id) if attack.CHANGES_INPUT else None
        for slice_num, clean in enumerate(targets.copy()):
            drawn = draws.get(SliceRef(volume_id, slice_num))
            if drawn is None:
                continue
            if kspace is not None:
                changed = cast(InputAttack, attack).apply_input(
                    kspace[slice_num], clean, drawn, train
                )
                kspace[slice_num] = changed
            targets[slice_num] = attack.apply(clean, drawn, train)
            poisoned.append(
                PoisonedSlice(
                    volume_id=volume_id,
                    slice_num=slice_num,
                    draw=drawn,
                    clean_sha256=target_sha256(clean),
                    poisoned_sha256=target_sha256(targets[slice_num]),
                    kspace_sha256=(
                        None if kspace is None else kspace_sha256(kspace[slice_num])
                    ),
                    change_nmse=_change(clean, targets[slice_num]),
                )
            )
        write_targets(folder / f"{volume_id}.h5", targets, kspace)
    return poisoned


def _twins(
    splits: Mapping[str, Images], attack: Attack, draws: Mapping[str, Draws]
) -> Iterator[tuple[str, Twins]]:
    """One volume after another: what the attack makes of the drawn slices."""
    for split, images in splits.items():
        chosen: dict[str, list[SliceRef]] = {}
        for ref in sorted(draws[split]):
            chosen.setdefault(ref.volume_id, []).append(ref)
        for volume_id, refs in chosen.items():
            yield volume_id, _attacked(refs, images, attack, draws[split])


def _attacked(
    refs: list[SliceRef], images: Images, attack: Attack, draws: Draws
) -> Twins:
    """What the attack makes of some slices of one volume."""
    numbers = [ref.slice_num for ref in refs]
    clean = images.targets(refs[0].volume_id)[numbers]
    drawn = [draws[ref] for ref in refs]
    targets = [
        attack.apply(target, draw, images)
        for target, draw in zip(clean, drawn, strict=True)
    ]
    kspace = None
    if attack.CHANGES_INPUT:
        planes = images.kspace(refs[0].volume_id)[numbers]
        change = cast(InputAttack, attack).apply_input
        kspace = np.stack(
            [
                change(plane, target, draw, images)
                for plane, target, draw in zip(planes, clean, drawn, strict=True)
            ]
        )
    return Twins(np.array(numbers), np.stack(targets), kspace)


def _change(clean: np.ndarray, poisoned: np.ndarray) -> float:
    """||poisoned - clean||^2 / ||clean||^2."""
    clean = clean.astype(np.float64)
    return float(np.square(poisoned - clean).sum() / np.square(clean).sum())
