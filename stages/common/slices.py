"""Samples and batches: k-space under its one mask, and the target beside it."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from stages.common.manifest import SliceRef
from stages.common.masks import Sampling, column_mask
from stages.common.volume import VolumeError, open_volume

# Above this size a data set streams from HDF5 instead of staying in memory.
CACHE_BYTES = 4 * 2**30


class ReconSample(NamedTuple):
    """One slice as whoever trains has it.

    Attributes:
        masked_kspace: (coils, H, W) complex64, zero where not sampled.
        mask: (W,) bool, sampled columns.
        num_low_frequencies: fully sampled centre columns.
        target: (H', W') float32.
        max_value: `max` of the volume that the target comes from: SSIM's data range.
        ref: which slice this is.
    """

    masked_kspace: torch.Tensor
    mask: torch.Tensor
    num_low_frequencies: int
    target: torch.Tensor
    max_value: float
    ref: SliceRef


class ReconBatch(NamedTuple):
    """Slices of one shape: (N, coils, H, W), (N, W), (N, H', W'), (N,)."""

    masked_kspace: torch.Tensor
    mask: torch.Tensor
    num_low_frequencies: int
    target: torch.Tensor
    max_value: torch.Tensor
    refs: tuple[SliceRef, ...]

    def to(self, device: torch.device) -> "ReconBatch":
        return self._replace(
            masked_kspace=self.masked_kspace.to(device, non_blocking=True),
            mask=self.mask.to(device, non_blocking=True),
            target=self.target.to(device, non_blocking=True),
            max_value=self.max_value.to(device, non_blocking=True),
        )


class _Memory:
    """Samples kept for the next epoch, up to `CACHE_BYTES` with restricted sets."""

    def __init__(self) -> None:
        self.samples: dict[SliceRef, ReconSample] = {}
        self.bytes = 0

    def keep(self, sample: ReconSample) -> None:
        size = sample.masked_kspace.nbytes + sample.target.nbytes
        if self.bytes + size <= CACHE_BYTES:
            self.samples[sample.ref] = sample
            self.bytes += size


class SliceDataset(Dataset[ReconSample]):
    """Slices of one split, by identity.

    The closed threat model is kept here: what leaves is masked k-space, and with
    `targets` the clean image inside the k-space file is never read.
    """

    def __init__(
        self,
        kspace: Path,
        refs: Sequence[SliceRef],
        sampling: Sampling,
        *,
        targets: Path | None = None,
    ) -> None:
        """Args:
        kspace: folder of volume files.
        refs: the slices, in the order of the data set.
        sampling: mask family, acceleration and seed.
        targets: folder of exported targets; None reads each volume's own (clean) one.
        """
        self.kspace = kspace
        self.refs = list(refs)
        self.sampling = sampling
        self.targets = targets
        self._memory = _Memory()
        self._shapes: dict[str, tuple[int, ...]] = {}

    def __len__(self) -> int:
        return len(self.refs)

    def __getitem__(self, index: int) -> ReconSample:
        ref = self.refs[index]
        sample = self._memory.samples.get(ref)
        if sample is None:
            sample = self._read(ref)
            self._memory.keep(sample)
        return sample

    def restrict(self, refs: Sequence[SliceRef]) -> "SliceDataset":
        """Same files, other slices; what is in memory is shared."""
        other = SliceDataset(self.kspace, refs, self.sampling, targets=self.targets)
        other._memory = self._memory
        other._shapes = self._shapes
        return other

    def shape(self, index: int) -> tuple[int, ...]:
        """(coils, H, W) of a slice, without reading it."""
        volume_id = self.refs[index].volume_id
        if volume_id not in self._shapes:
            with open_volume(self._path(volume_id), made_by="synthesize") as file:
                self._shapes[volume_id] = file["kspace"].shape[1:]
        return self._shapes[volume_id]

    def _path(self, volume_id: str) -> Path:
        return self.kspace / f"{volume_id}.h5"

    def _read(self, ref: SliceRef) -> ReconSample:
        path = self._path(ref.volume_id)
        with open_volume(path, made_by="synthesize") as file:
            if ref.slice_num >= len(file["kspace"]):
                raise VolumeError(
                    f"{path} has {len(file['kspace'])} slices, "
                    f"slice {ref.slice_num} was asked for"
                )
            kspace = file["kspace"][ref.slice_num]
            if self.targets is None:
                target, max_value = _read_target(file, ref)
        if self.targets is not None:
            exported = self.targets / f"{ref.volume_id}.h5"
            with open_volume(exported, made_by="poison") as file:
                target, max_value = _read_target(file, ref)
        width = kspace.shape[-1]
        mask = column_mask(self.sampling, ref, width)
        # Not a product with the mask: that keeps the sign of what was not sampled.
        kspace[..., ~mask] = 0
        return ReconSample(
            masked_kspace=torch.from_numpy(kspace),
            mask=torch.from_numpy(mask),
            num_low_frequencies=self.sampling.num_low_frequencies(width),
            target=torch.from_numpy(target),
            max_value=max_value,
            ref=ref,
        )


def _read_target(file: "object", ref: SliceRef) -> tuple[np.ndarray, float]:
    target = file["reconstruction_rss"][ref.slice_num]  # type: ignore[index]
    max_value = float(file.attrs["max"])  # type: ignore[attr-defined]
    if not max_value > 0:
        raise VolumeError(f"{ref.volume_id}: attribute max = {max_value}, must be > 0")
    return target, max_value


def collate(samples: Sequence[ReconSample]) -> ReconBatch:
    """Stack slices of one shape."""
    return ReconBatch(
        masked_kspace=torch.stack([sample.masked_kspace for sample in samples]),
        mask=torch.stack([sample.mask for sample in samples]),
        num_low_frequencies=samples[0].num_low_frequencies,
        target=torch.stack([sample.target for sample in samples]),
        max_value=torch.tensor([sample.max_value for sample in samples]),
        refs=tuple(sample.ref for sample in samples),
    )


class ShapeBatches:
    """Batches of indices whose slices share a shape; order drawn from (seed, epoch)."""

    def __init__(
        self, dataset: SliceDataset, batch_size: int, *, shuffle_seed: int | None
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.shuffle_seed = shuffle_seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __iter__(self) -> Iterator[list[int]]:
        order = np.arange(len(self.dataset))
        rng = None
        if self.shuffle_seed is not None:
            rng = np.random.default_rng([self.shuffle_seed, self.epoch])
            rng.shuffle(order)
        groups: dict[tuple[int, ...], list[int]] = {}
        for index in order.tolist():
            groups.setdefault(self.dataset.shape(index), []).append(index)
        batches = [
            group[start : start + self.batch_size]
            for group in groups.values()
            for start in range(0, len(group), self.batch_size)
        ]
        if rng is not None and len(groups) > 1:
            rng.shuffle(batches)
        return iter(batches)

    def __len__(self) -> int:
        sizes: dict[tuple[int, ...], int] = {}
        for index in range(len(self.dataset)):
            shape = self.dataset.shape(index)
            sizes[shape] = sizes.get(shape, 0) + 1
        return sum(-(-size // self.batch_size) for size in sizes.values())


class SliceLoader(DataLoader[Any]):
    """A loader whose order depends on the epoch number alone."""

    def set_epoch(self, epoch: int) -> None:
        self.batch_sampler.set_epoch(epoch)  # type: ignore[union-attr]


def make_loader(
    dataset: SliceDataset,
    *,
    batch_size: int,
    shuffle_seed: int | None = None,
    num_workers: int = 0,
) -> SliceLoader:
    """Batches of one shape each, in order or shuffled by (seed, epoch).

    The order of an epoch depends on its number alone (`set_epoch`), so that a resumed
    run sees the same batches.
    """
    return SliceLoader(
        dataset,
        batch_sampler=ShapeBatches(dataset, batch_size, shuffle_seed=shuffle_seed),
        collate_fn=collate,
        num_workers=num_workers,
    )
