"""Evaluate one model on every split, or the references on a poisoning's twins.

Of several ranks each measures other batches; rank 0 writes what all of them found.
"""

import itertools
import logging
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.common import paths
from stages.common.devices import gathered, on_rank_zero
from stages.common.manifest import Manifest, SliceRef, VolumeRecord, read_manifest
from stages.common.truth import TWINS, TruthRecord, read_record, read_twins
from stages.common.varnet import load_checkpoint
from stages.evaluate import headline, panels, rows
from stages.evaluate.outputs import HowToRun, Reconstruction, reconstructions

log = logging.getLogger(__name__)

REFERENCES = ("oracle-0", "oracle-1", "oracle_continue")

Twins = dict[SliceRef, np.ndarray]


class Slices(NamedTuple):
    """What is to be measured.

    Attributes:
        manifests: split -> its volumes.
        refs: split -> the slices to run a model on.
        twins: the poisoned twins of some of them.
        attacked: folder of the twins' k-space; None where the attack leaves it alone.
        shown: those whose images the report shows.
    """

    manifests: dict[str, Manifest]
    refs: dict[str, list[SliceRef]]
    twins: Twins
    attacked: Path | None
    shown: set[SliceRef]


class Found(NamedTuple):
    """What one slice gave: rows, and the images if it is shown."""

    ref: SliceRef
    row: rows.Row | None
    twin_row: rows.Row | None
    images: panels.Images | None


def evaluate_cell(cell: str, *, truth: Path | None, how: HowToRun) -> None:
    """Measure one model on all slices and write everything declared for its cell.

    Args:
        cell: key of the cell.
        truth: folder with the poisoning's record and twins; None for an oracle.
        how: undersampling, batch size and device.
    """
    manifests = _manifests()
    record, twins = _read_truth(truth)
    refs = {split: manifest.refs() for split, manifest in manifests.items()}
    attacked = _attacked(truth, record)
    slices = Slices(manifests, refs, twins, attacked, _panel_refs(manifests, record))
    found = _measure(cell, slices, how)
    on_rank_zero(partial(_write_cell, cell, found, record))


def evaluate_references(poisoning: str, *, how: HowToRun) -> None:
    """Measure the oracles on the twinned slices of one poisoning.

    Their rows against the clean truth come from their own cells.
    """
    manifests = _manifests()
    truth = paths.truth(poisoning)
    record, twins = _read_truth(truth)
    shown = _panel_refs(manifests, record)
    refs = {
        split: [ref for ref in manifest.refs() if ref in twins or ref in shown]
        for split, manifest in manifests.items()
    }
    slices = Slices(manifests, refs, twins, _attacked(truth, record), shown)
    found = {
        cell: _measure(cell, slices, how, against_clean=False) for cell in REFERENCES
    }
    on_rank_zero(partial(_write_references, f"references/{poisoning}", found))


def _measure(
    cell: str, slices: Slices, how: HowToRun, *, against_clean: bool = True
) -> list[Found]:
    """Run a cell's model over slices of every split, in order.

    Slices with attacked k-space are run on it too, after the clean ones.
    """
    model = load_checkpoint(paths.checkpoint(cell))
    found: list[Found] = []
    for split, all_refs in slices.refs.items():
        find = partial(_find, split, slices, slices.manifests[split].by_id())
        passes: list[tuple[list[SliceRef], Path | None]] = [(all_refs, None)]
        if slices.attacked is not None:
            attacked = [ref for ref in all_refs if ref in slices.twins]
            passes.append((attacked, slices.attacked))
        for refs, folder in passes:
            if not refs:
                continue
            desc = f"{cell} {split}" + (" attacked" if folder else "")
            batches = reconstructions(
                model, split, refs, how, desc=desc, attacked=folder
            )
            mine = [
                [find(result, against_clean=against_clean) for result in batch]
                for batch in batches
            ]
            found += itertools.chain.from_iterable(gathered(mine))
    return found


def _find(
    split: str,
    slices: Slices,
    volumes: dict[str, VolumeRecord],
    result: Reconstruction,
    *,
    against_clean: bool,
) -> Found:
    ref = result.ref
    volume = volumes[ref.volume_id]
    twin = slices.twins.get(ref)
    images = None
    if ref in slices.shown:
        images = panels.panel_images(result)
        if twin is not None:
            images["exported" if split == "train" else "twin"] = twin
    return Found(
        ref=ref,
        row=(
            rows.slice_row(split, volume, result)
            if against_clean and not result.attacked
            else None
        ),
        twin_row=None if twin is None else rows.twin_row(split, volume, result, twin),
        images=images,
    )


def _write_cell(cell: str, found: list[Found], record: TruthRecord | None) -> None:
    slice_rows = [item.row for item in found if item.row is not None]
    twin_rows = [item.twin_row for item in found if item.twin_row is not None]
    summary = headline.read_cost(paths.cost(cell))
    if record is None:
        summary = headline.split_headline(slice_rows) | summary
    else:
        rows.write_rows(paths.twin_rows(cell), twin_rows, rows.TWIN_COLUMNS)
        summary = headline.poisoning_headline(slice_rows, twin_rows, record) | summary
    rows.write_rows(paths.slice_rows(cell), slice_rows, rows.SLICE_COLUMNS)
    headline.write_headline(paths.cell_metrics(cell), summary)
    images = _images(found)
    panels.write_panels(paths.panels(cell), images)
    counts = len(slice_rows), len(twin_rows), len(images)
    log.info("%s: %d slices, %d twins, %d panels", cell, *counts)


def _write_references(key: str, found: dict[str, list[Found]]) -> None:
    twin_rows = [
        {"cell": cell, **item.twin_row}
        for cell, items in found.items()
        for item in items
        if item.twin_row is not None
    ]
    images: dict[str, panels.Images] = {}
    for cell, items in found.items():
        images |= _images(items, [cell])
    rows.write_rows(paths.twin_rows(key), twin_rows, ("cell", *rows.TWIN_COLUMNS))
    panels.write_panels(paths.panels(key), images)
    log.info("%s: %d twins, %d panels", key, len(twin_rows), len(images))


def _images(
    found: Iterable[Found], prefix: Iterable[str] = ()
) -> dict[str, panels.Images]:
    return {
        panels.group_of(item.ref, prefix): item.images
        for item in found
        if item.images is not None
    }


def _manifests() -> dict[str, Manifest]:
    return {split: read_manifest(paths.manifest(split)) for split in paths.SPLITS}


def _read_truth(folder: Path | None) -> tuple[TruthRecord | None, Twins]:
    if folder is None:
        return None, {}
    record = read_record(folder)
    twins = read_twins(folder)
    log.info(
        "%s: %d poisoned slices, %d twins", folder, len(record.poisoned), len(twins)
    )
    return record, twins


def _attacked(truth: Path | None, record: TruthRecord | None) -> Path | None:
    changes_input = record is not None and record.changes_input
    return truth / TWINS if truth is not None and changes_input else None


def _panel_refs(
    manifests: dict[str, Manifest], record: TruthRecord | None
) -> set[SliceRef]:
    shown = panels.test_panels(manifests["test"])
    if record is not None:
        shown += panels.poisoned_panels(record)
    return set(shown)
