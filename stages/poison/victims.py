"""Which slices are poisoned: a nested draw of whole units inside the scope."""

from collections.abc import Iterable

import numpy as np

from stages.common.manifest import Manifest, SliceRef, VolumeRecord
from stages.common.params import ParamsError
from stages.poison.settings import Poisoning, Scope


def in_scope(manifest: Manifest, scope: Scope) -> list[SliceRef]:
    """Every slice of a split that an attack may choose from, sorted."""
    return [
        SliceRef(volume.volume_id, slice_num)
        for volume in manifest.volumes
        if _matches(volume, scope)
        for slice_num in range(volume.num_slices)
    ]


def check_scope(name: str, scope: Scope, manifests: Iterable[Manifest]) -> None:
    """Refuse a scope that names what no split holds.

    Raises:
        ParamsError: naming the key, the value and what there is.
    """
    volumes = [volume for manifest in manifests for volume in manifest.volumes]
    for key, asked, held in (
        ("contrast", (scope.contrast,), {volume.contrast for volume in volumes}),
        ("scanner", (scope.scanner,), {volume.scanner for volume in volumes}),
        ("subjects", scope.subjects or (), {volume.subject_id for volume in volumes}),
    ):
        unknown = [value for value in asked if value is not None and value not in held]
        if unknown:
            raise ParamsError(
                f"poisonings.{name}.scope.{key}: no volume has {', '.join(unknown)}; "
                f"the data hold {', '.join(sorted(held))}"
            )


def choose_victims(
    name: str, poisoning: Poisoning, manifest: Manifest
) -> list[SliceRef]:
    """Choose the poisoned slices, sorted.

    The scope's units are put in one order per seed and taken from its start, so that
    for one seed, scope and unit a smaller share lies inside a larger one.

    Args:
        name: of the poisoning, for messages.
        poisoning: share of all slices of the split, scope, unit, seed.
        manifest: the training split.

    Raises:
        ParamsError: no slice would be poisoned, or more than the scope holds.
    """
    candidates = in_scope(manifest, poisoning.scope)
    total = len(manifest.refs())
    wanted = round(poisoning.share * total)
    key = f"poisonings.{name}.share = {poisoning.share}"
    held = f"the scope holds {len(candidates)} of {total} training slices"
    if not candidates:
        raise ParamsError(f"poisonings.{name}.scope matches no training slice: {held}")
    if wanted > len(candidates):
        raise ParamsError(
            f"{key} is {wanted} slices, but {held}: "
            f"use at most {len(candidates) / total:.4g}"
        )
    units = _units(candidates, manifest, poisoning.unit)
    order = np.random.default_rng(poisoning.seed).permutation(len(units))
    chosen = [units[index] for index in order]
    sizes = np.cumsum([0, *map(len, chosen)])
    # Whole units closest to the share; of two equally close, the fewer.
    count = int(np.argmin(np.abs(sizes - wanted)))
    if count == 0:
        raise ParamsError(
            f"{key} poisons no slice: it is {poisoning.share * total:.4g} of {total} "
            f"training slices, and the first {poisoning.unit} drawn has {sizes[1]} "
            f"({held})"
        )
    return sorted(ref for unit in chosen[:count] for ref in unit)


def _matches(volume: VolumeRecord, scope: Scope) -> bool:
    return (
        scope.contrast in (None, volume.contrast)
        and scope.scanner in (None, volume.scanner)
        and (scope.subjects is None or volume.subject_id in scope.subjects)
    )


def _units(
    candidates: list[SliceRef], manifest: Manifest, unit: str
) -> list[list[SliceRef]]:
    """Group the candidates by slice, volume or subject, in sorted order."""
    volumes = manifest.by_id()
    groups: dict[object, list[SliceRef]] = {}
    for ref in sorted(candidates):
        keys = {
            "slice": ref,
            "volume": ref.volume_id,
            "subject": volumes[ref.volume_id].subject_id,
        }
        groups.setdefault(keys[unit], []).append(ref)
    return list(groups.values())
