"""An epoch from our loader against one from fastMRI's data set and transform."""

import statistics
from collections import deque
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import fastmri.data
import torch
from fastmri.data.subsample import create_mask_for_mask_type
from fastmri.data.transforms import VarNetDataTransform
from torch.utils.data import DataLoader

from stages.common.samples import ReconSample
from stages.common.slices import SliceDataset, SliceLoader, make_loader
from tests.benchmarks.agreement import require_same
from tests.benchmarks.cohort import make_dataset
from tests.benchmarks.sizes import Size
from tests.benchmarks.timing import Entry, compare, in_turns, per_slice

SHUFFLE_SEED = 0


def load_epoch(size: Size, folder: Path) -> dict[str, Entry]:
    """Loading a training set as large as the profile's; ms per slice.

    The files are in the system's cache throughout, so that no disk is measured. Both
    sides shuffle and batch alike, in this process.

    Returns:
        `first`: an epoch of a new data set, its construction included. "", the group's
        own key: a later epoch. `training`: the mean epoch of the profile's training,
        one first and the others later ones.
    """
    slices = _training_slices(size)
    dataset = make_dataset(size, folder, slices=slices)
    samples = [dataset[index] for index in range(slices)]
    _check(samples, _reference_data(size, folder))
    batch, rounds = size.train.batch_size, size.plan.load_rounds

    def per_epoch(ours: Any, reference: Any) -> dict[str, list[float]]:
        seconds = in_turns({"ours": ours, "reference": reference}, rounds=rounds)
        return {name: per_slice(values, slices) for name, values in seconds.items()}

    first = per_epoch(
        lambda: _drain(_our_loader(size, folder, dataset.refs)),
        lambda: _drain(_reference_loader(size, folder)),
    )
    kept = _our_loader(size, folder, dataset.refs)
    kept_reference = _reference_loader(size, folder)
    later = per_epoch(lambda: _drain(kept), lambda: _drain(kept_reference))
    epochs = size.train.epochs
    training = {
        name: [
            (a + (epochs - 1) * b) / epochs
            for a, b in zip(first[name], later[name], strict=True)
        ]
        for name in first
    }
    return {
        key: compare({batch: runs["ours"]}, {batch: runs["reference"]})
        | {"slices": slices}
        for key, runs in (("", later), ("first", first), ("training", training))
    }


def _training_slices(size: Size) -> int:
    synthesize = size.synthesize
    return synthesize.subjects.train * len(synthesize.contrasts) * synthesize.slices


def _our_loader(size: Size, folder: Path, refs: list[Any]) -> SliceLoader:
    dataset = SliceDataset(folder, refs, size.sampling)
    return make_loader(
        dataset, batch_size=size.train.batch_size, shuffle_seed=SHUFFLE_SEED
    )


def _reference_data(size: Size, folder: Path) -> fastmri.data.SliceDataset:
    mask_func = create_mask_for_mask_type(
        size.sampling.mask_type,
        [size.sampling.center_fraction],
        [size.sampling.acceleration],
    )
    return fastmri.data.SliceDataset(
        root=folder,
        challenge="multicoil",
        transform=VarNetDataTransform(mask_func=mask_func),
        use_dataset_cache=False,
    )


def _reference_loader(size: Size, folder: Path) -> "DataLoader[Any]":
    return DataLoader(
        _reference_data(size, folder),
        batch_size=size.train.batch_size,
        shuffle=True,
        generator=torch.Generator().manual_seed(SHUFFLE_SEED),
    )


def _drain(loader: Iterable[Any]) -> None:
    deque(loader, maxlen=0)


def _check(
    samples: Sequence[ReconSample], reference: fastmri.data.SliceDataset
) -> None:
    """Same slices, targets, scales, and k-space wherever both masks sample.

    The masks themselves differ: fastMRI draws them from the file's name.
    """
    different = abs(len(samples) - len(reference))
    columns = []
    for ours, theirs in zip(samples, reference, strict=False):
        both = ours.mask & theirs.mask.flatten()
        kspace = torch.view_as_complex(theirs.masked_kspace)
        same = (
            torch.equal(ours.target, theirs.target)
            and ours.max_value == float(theirs.max_value)
            and ours.num_low_frequencies == theirs.num_low_frequencies
            and torch.equal(ours.masked_kspace[..., both], kspace[..., both])
        )
        different += not same
        columns.append(ours.mask.sum().item() / theirs.mask.sum().item())
    require_same("the number of loaded slices that are alike", different, allowed=0)
    require_same(
        "the number of columns", abs(statistics.mean(columns) - 1), allowed=0.1
    )
