"""Samples in memory, and batches of them: for one process, or its part of them."""

import copy
import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from stages.common.launch import launch
from stages.common.manifest import SliceRef
from stages.common.masks import Sampling
from stages.common.order import BatchOrder, Part
from stages.common.samples import ReconSample, SliceFiles

log = logging.getLogger("mendmri")

# Above this size a data set streams from HDF5 instead of staying in memory.
CACHE_BYTES = 4 * 2**30


class ReconBatch(NamedTuple):
    """Slices of one shape: (N, coils, H, W), (N, W), (N, H', W'), (N,).

    Of several ranks each has its part of a batch: `total` and `share` are those of
    `order.Part`.
    """

    masked_kspace: Tensor
    mask: Tensor
    num_low_frequencies: int
    target: Tensor
    max_value: Tensor
    refs: tuple[SliceRef, ...]
    total: int
    share: float

    def to(self, device: torch.device) -> "ReconBatch":
        return self._replace(
            masked_kspace=self.masked_kspace.to(device, non_blocking=True),
            mask=self.mask.to(device, non_blocking=True),
            target=self.target.to(device, non_blocking=True),
            max_value=self.max_value.to(device, non_blocking=True),
        )

    def mean(self, values: Tensor) -> Tensor:
        """Average over the whole batch: what a loss function returns.

        Args:
            values: (N,) one value per slice.

        Returns:
            Scalar. Its mean over the ranks is the mean over the whole batch; in a
            process of its own it is the plain mean.
        """
        return values.mean() * self.share


class _Memory:
    """Samples kept for the next epoch, up to a limit shared with restricted sets."""

    def __init__(self, limit: int) -> None:
        self.samples: dict[SliceRef, ReconSample] = {}
        self.limit = limit
        self.bytes = 0

    def keep(self, sample: ReconSample) -> None:
        size = sample.masked_kspace.nbytes + sample.target.nbytes
        if self.bytes + size <= self.limit:
            self.samples[sample.ref] = sample
            self.bytes += size


class SliceDataset(Dataset[ReconSample]):
    """Slices of one split, by identity, under their one mask; see `SliceFiles`."""

    def __init__(
        self,
        kspace: Path,
        refs: Sequence[SliceRef],
        sampling: Sampling,
        *,
        targets: Path | None = None,
        targets_by: str = "poison",
        attacked: Path | None = None,
        keep: bool = True,
    ) -> None:
        """Args:
        kspace: folder of volume files.
        refs: the slices, in the order of the data set.
        sampling: mask family, acceleration and seed.
        targets: folder of exported targets; None reads each volume's own (clean) one.
        targets_by: DVC stage that writes `targets`, named in errors.
        attacked: folder of twins whose k-space takes the place of the clean one.
        keep: hold what was read in memory for the next epoch, if it fits.
        """
        self.files = SliceFiles(kspace, targets, targets_by, attacked)
        self.refs = list(refs)
        self.sampling = sampling
        self._memory = _Memory(cache_bytes() if keep else 0)
        self._shapes: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self.refs)

    def __getitem__(self, index: int) -> ReconSample:
        ref = self.refs[index]
        sample = self._memory.samples.get(ref)
        if sample is None:
            sample = self.files.read(ref, self.sampling)
            self._memory.keep(sample)
        return sample

    def restrict(self, refs: Sequence[SliceRef]) -> "SliceDataset":
        """Same files, other slices; what is in memory is shared."""
        other = copy.copy(self)
        other.refs = list(refs)
        return other

    def streamed(self) -> "SliceDataset":
        """The same slices, each read whenever it is asked for."""
        other = copy.copy(self)
        other._memory = _Memory(0)
        return other

    def shapes(self) -> list[tuple[int, ...]]:
        """(coils, H, W, H', W') of each slice, without reading it."""
        for volume_id in dict.fromkeys(ref.volume_id for ref in self.refs):
            if volume_id not in self._shapes:
                self._shapes[volume_id] = self.files.shape(volume_id)
        return [self._shapes[ref.volume_id] for ref in self.refs]

    def fits(self) -> bool:
        """Whether memory holds all of it, so that files are read once."""
        size = sum(
            8 * coils * height * width + 4 * math.prod(target)
            for coils, height, width, *target in self.shapes()
        )
        return size <= self._memory.limit

    @property
    def kspace(self) -> Path:
        return self.files.kspace


def cache_bytes() -> int:
    """What one process may keep in memory: MENDMRI_CACHE_GB is for a machine."""
    given = os.environ.get("MENDMRI_CACHE_GB")
    try:
        limit = CACHE_BYTES if given is None else int(float(given) * 2**30)
    except ValueError:
        raise ValueError(f"MENDMRI_CACHE_GB = {given} is no number") from None
    return limit // launch().per_node


def collate(samples: Sequence[ReconSample]) -> ReconBatch:
    """Stack slices of one shape to a batch of their own."""
    return ReconBatch(
        masked_kspace=torch.stack([sample.masked_kspace for sample in samples]),
        mask=torch.stack([sample.mask for sample in samples]),
        num_low_frequencies=samples[0].num_low_frequencies,
        target=torch.stack([sample.target for sample in samples]),
        max_value=torch.tensor([sample.max_value for sample in samples]),
        refs=tuple(sample.ref for sample in samples),
        total=len(samples),
        share=1.0,
    )


class _Batches(Dataset[ReconBatch]):
    """A data set of whole batches, so that their parts know what they are parts of."""

    def __init__(self, samples: SliceDataset) -> None:
        self.samples = samples

    def __getitem__(self, part: Part) -> ReconBatch:
        batch = collate([self.samples[index] for index in part.indices])
        return batch._replace(total=part.total, share=part.share)


class SliceLoader(DataLoader[ReconBatch]):
    """A loader whose order depends on the epoch number alone."""

    def __init__(self, dataset: SliceDataset, order: BatchOrder) -> None:
        # Workers help where each epoch reads files again, and need no memory of theirs.
        workers = 0 if dataset.fits() else worker_count()
        super().__init__(
            _Batches(dataset.streamed() if workers else dataset),
            sampler=order,
            batch_size=None,
            collate_fn=_as_it_is,
            num_workers=workers,
            persistent_workers=workers > 0,
        )
        self.order = order

    def set_epoch(self, epoch: int) -> None:
        self.order.epoch = epoch


def make_loader(
    dataset: SliceDataset, *, batch_size: int, shuffle_seed: int | None = None
) -> SliceLoader:
    """Batches to train on: of several ranks each has its part of every batch.

    The order of an epoch depends on its number alone (`set_epoch`), so that a resumed
    run sees the same batches.

    Args:
        dataset: the slices.
        batch_size: slices of a step, over all ranks.
        shuffle_seed: draws the order of each epoch; None keeps that of the data set.
    """
    here = launch()
    if here.rank == 0 and here.world_size > batch_size:
        log.warning(
            "%d processes share the %d slices of a step: %d of them do nothing. Start "
            "no more than 'batch_size', or let `make repro` run a cell on each GPU",
            here.world_size,
            batch_size,
            here.world_size - batch_size,
        )
    order = BatchOrder(dataset.shapes(), batch_size, shuffle_seed=shuffle_seed)
    return SliceLoader(dataset, order)


def rank_loader(dataset: SliceDataset, *, batch_size: int) -> SliceLoader:
    """Batches, in order, to measure or sum over: each rank has whole ones of its own.

    Put the results together with `devices.gathered` or `devices.sum_over_ranks`. The
    batches are those of one process, and so is what a model makes of them, to the bit.
    """
    return SliceLoader(dataset, BatchOrder(dataset.shapes(), batch_size, whole=True))


def worker_count() -> int:
    """Processes that read ahead, MENDMRI_WORKERS; none where it is not set."""
    given = os.environ.get("MENDMRI_WORKERS") or "0"
    if not given.isdigit():
        raise ValueError(f"MENDMRI_WORKERS = {given} is no number of processes")
    return int(given)


def _as_it_is(batch: Any) -> Any:
    """Stand in for the loader's own collation: batches come collated."""
    return batch
