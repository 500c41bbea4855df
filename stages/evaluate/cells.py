"""Evaluate one model on every split, or the references on a poisoning's twins."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.common import paths
from stages.common.manifest import Manifest, SliceRef, VolumeRecord, read_manifest
from stages.common.truth import TruthRecord, read_record, read_twins
from stages.common.varnet import load_checkpoint
from stages.evaluate import headline, panels, rows
from stages.evaluate.outputs import HowToRun, Reconstruction, reconstructions

log = logging.getLogger(__name__)

REFERENCES = ("oracle-0", "oracle-1", "oracle_continue")

Twins = dict[SliceRef, np.ndarray]


class Measured(NamedTuple):
    """One slice through one model, and its poisoned twin if it has one."""

    split: str
    volume: VolumeRecord
    result: Reconstruction
    twin: np.ndarray | None


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
    shown = _panel_refs(manifests, record)
    slice_rows: list[rows.Row] = []
    twin_rows: list[rows.Row] = []
    images: dict[str, panels.Images] = {}
    for item in _measure(cell, manifests, refs, twins, how):
        slice_rows.append(rows.slice_row(item.split, item.volume, item.result))
        if item.twin is not None:
            twin_rows.append(
                rows.twin_row(item.split, item.volume, item.result, item.twin)
            )
        if item.result.ref in shown:
            images[panels.group_of(item.result.ref)] = _images(item)
    summary = headline.read_cost(paths.cost(cell))
    if record is None:
        summary = headline.split_headline(slice_rows) | summary
    else:
        rows.write_rows(paths.twin_rows(cell), twin_rows, rows.TWIN_COLUMNS)
        summary = headline.poisoning_headline(slice_rows, twin_rows, record) | summary
    rows.write_rows(paths.slice_rows(cell), slice_rows, rows.SLICE_COLUMNS)
    headline.write_headline(paths.cell_metrics(cell), summary)
    panels.write_panels(paths.panels(cell), images)
    counts = len(slice_rows), len(twin_rows), len(images)
    log.info("%s: %d slices, %d twins, %d panels", cell, *counts)


def evaluate_references(poisoning: str, *, how: HowToRun) -> None:
    """Measure the oracles on the twinned slices of one poisoning.

    Their rows against the clean truth come from their own cells.
    """
    manifests = _manifests()
    record, twins = _read_truth(paths.truth(poisoning))
    shown = _panel_refs(manifests, record)
    refs = {
        split: [ref for ref in manifest.refs() if ref in twins or ref in shown]
        for split, manifest in manifests.items()
    }
    twin_rows: list[rows.Row] = []
    images: dict[str, panels.Images] = {}
    for cell in REFERENCES:
        for item in _measure(cell, manifests, refs, twins, how):
            if item.twin is not None:
                row = rows.twin_row(item.split, item.volume, item.result, item.twin)
                twin_rows.append({"cell": cell, **row})
            if item.result.ref in shown:
                images[panels.group_of(item.result.ref, [cell])] = _images(item)
    key = f"references/{poisoning}"
    rows.write_rows(paths.twin_rows(key), twin_rows, ("cell", *rows.TWIN_COLUMNS))
    panels.write_panels(paths.panels(key), images)
    log.info("%s: %d twins, %d panels", key, len(twin_rows), len(images))


def _measure(
    cell: str,
    manifests: dict[str, Manifest],
    refs: dict[str, list[SliceRef]],
    twins: Twins,
    how: HowToRun,
) -> Iterator[Measured]:
    """Run a cell's model over slices of every split."""
    model = load_checkpoint(paths.checkpoint(cell))
    for split, manifest in manifests.items():
        if not refs[split]:
            continue
        volumes = manifest.by_id()
        desc = f"{cell} {split}"
        for result in reconstructions(model, split, refs[split], how, desc=desc):
            volume = volumes[result.ref.volume_id]
            yield Measured(split, volume, result, twins.get(result.ref))


def _manifests() -> dict[str, Manifest]:
    return {split: read_manifest(paths.manifest(split)) for split in paths.SPLITS}


def _read_truth(folder: Path | None) -> tuple[TruthRecord | None, Twins]:
    if folder is None:
        return None, {}
    record = read_record(folder)
    if record.changes_input:
        raise ValueError(
            f"{folder}: the attack '{record.attack}' changes the k-space, and attacked "
            "inputs are not evaluated: only attacks on targets can be measured"
        )
    twins = read_twins(folder)
    log.info(
        "%s: %d poisoned slices, %d twins", folder, len(record.poisoned), len(twins)
    )
    return record, twins


def _panel_refs(
    manifests: dict[str, Manifest], record: TruthRecord | None
) -> set[SliceRef]:
    shown = panels.test_panels(manifests["test"])
    if record is not None:
        shown += panels.poisoned_panels(record)
    return set(shown)


def _images(item: Measured) -> panels.Images:
    images = panels.panel_images(item.result)
    if item.twin is not None:
        images["exported" if item.split == "train" else "twin"] = item.twin
    return images
