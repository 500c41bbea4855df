"""Poison a training set: choose, draw, export, record."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from stages.common.folders import atomic_folder
from stages.common.manifest import SliceRef
from stages.common.params import Settings
from stages.common.runtime import progress
from stages.common.truth import (
    PoisonedSlice,
    TruthRecord,
    Twins,
    target_sha256,
    write_truth,
)
from stages.common.volume import write_targets
from stages.poison.base import Attack, Images, slice_rng
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
        export: folder for one target file per training volume.
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
            scope={split: tuple(refs) for split, refs in scope.items()},
            poisoned=tuple(poisoned),
        )
        write_truth(new_truth, record, _twins(splits, attack, draws))
    return record


def _export(
    folder: Path, train: Images, attack: Attack, draws: Draws
) -> list[PoisonedSlice]:
    """Write every training volume's targets and describe the poisoned slices."""
    poisoned = []
    volumes = sorted(train.volumes)
    for volume_id in progress(volumes, total=len(volumes), desc="export"):
        targets = train.targets(volume_id)
        for slice_num, clean in enumerate(targets.copy()):
            drawn = draws.get(SliceRef(volume_id, slice_num))
            if drawn is None:
                continue
            targets[slice_num] = attack.apply(clean, drawn, train)
            poisoned.append(
                PoisonedSlice(
                    volume_id=volume_id,
                    slice_num=slice_num,
                    draw=drawn,
                    clean_sha256=target_sha256(clean),
                    poisoned_sha256=target_sha256(targets[slice_num]),
                    change_nmse=_change(clean, targets[slice_num]),
                )
            )
        write_targets(folder / f"{volume_id}.h5", targets)
    return poisoned


def _twins(
    splits: Mapping[str, Images], attack: Attack, draws: Mapping[str, Draws]
) -> Iterator[tuple[str, Twins]]:
    """One volume after another: slice numbers, and targets after the attack."""
    for split, images in splits.items():
        numbers: dict[str, list[int]] = {}
        for ref in sorted(draws[split]):
            numbers.setdefault(ref.volume_id, []).append(ref.slice_num)
        for volume_id, chosen in numbers.items():
            targets = images.targets(volume_id)
            attacked = [
                attack.apply(
                    targets[number], draws[split][SliceRef(volume_id, number)], images
                )
                for number in chosen
            ]
            yield volume_id, (np.array(chosen), np.stack(attacked))


def _change(clean: np.ndarray, poisoned: np.ndarray) -> float:
    """||poisoned - clean||^2 / ||clean||^2."""
    clean = clean.astype(np.float64)
    return float(np.square(poisoned - clean).sum() / np.square(clean).sum())
