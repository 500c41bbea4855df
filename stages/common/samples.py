"""One slice as whoever trains has it, read from the pipeline's files."""

from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np
import torch

from stages.common.manifest import SliceRef
from stages.common.masks import Sampling, column_mask
from stages.common.volume import COLUMNS, VolumeError, open_volume


class ReconSample(NamedTuple):
    """One slice.

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


class SliceFiles(NamedTuple):
    """Where slices are read from: the closed threat model is kept here.

    What leaves is masked k-space, and with `targets` the clean image inside the k-space
    file is never read. An exported file that has k-space too replaces the scanner's.

    Attributes:
        kspace: folder of volume files.
        targets: folder of exported targets; None reads each volume's own (clean) one.
        targets_by: DVC stage that writes `targets`, named in errors.
        attacked: folder of twins (`truth.py`) whose k-space is read in place of the
            clean one; None reads the clean one.
    """

    kspace: Path
    targets: Path | None
    targets_by: str
    attacked: Path | None = None

    def shape(self, volume_id: str) -> tuple[int, ...]:
        """(coils, H, W, H', W') of a volume's slices, without reading them."""
        with self._open_kspace(volume_id) as file:
            kspace = file["kspace"].shape[1:]
        with self._open_target(volume_id) as file:
            return (*kspace, *file["reconstruction_rss"].shape[1:])

    def read(self, ref: SliceRef, sampling: Sampling) -> ReconSample:
        """Read a slice and undersample it.

        Raises:
            VolumeError: a file is missing or damaged, or lacks the slice.
        """
        with self._open_target(ref.volume_id) as file:
            target = _plane(file, "reconstruction_rss", ref)
            exported = "kspace" in file
            kspace = _plane(file, "kspace", ref) if exported else None
            max_value = float(file.attrs["max"])
            if not max_value > 0:
                raise VolumeError(
                    f"{file.filename}: attribute max = {max_value}, must be > 0"
                )
        with self._open_kspace(ref.volume_id) as file:
            columns = file.attrs.get(COLUMNS)
            if kspace is None:
                kspace = _plane(file, "kspace", ref)
        if self.attacked is not None:
            kspace = self._attacked_plane(ref)
        width = kspace.shape[-1]
        mask = torch.from_numpy(column_mask(sampling, ref, width))
        if columns is not None:
            # What was never acquired is no measurement of zero (fastMRI's padding).
            mask[: columns[0]] = False
            mask[columns[1] :] = False
        return ReconSample(
            # Not a product with the mask: that keeps the sign of what was not sampled.
            masked_kspace=torch.from_numpy(kspace).masked_fill_(~mask, 0),
            mask=mask,
            num_low_frequencies=sampling.num_low_frequencies(width),
            target=torch.from_numpy(target),
            max_value=max_value,
            ref=ref,
        )

    def _attacked_plane(self, ref: SliceRef) -> np.ndarray:
        path = Path(self.attacked or "") / f"{ref.volume_id}.h5"
        with open_volume(path, made_by="poison") as file:
            rows = np.flatnonzero(file["slice_num"][:] == ref.slice_num)
            if not rows.size:
                raise VolumeError(
                    f"{path} has no twin of slice {ref.slice_num}: run `dvc repro "
                    "--force --single-item poison`"
                )
            plane: np.ndarray = file["kspace"][int(rows[0])]
        return plane

    def _open_kspace(self, volume_id: str) -> AbstractContextManager[h5py.File]:
        return open_volume(self.kspace / f"{volume_id}.h5", made_by="synthesize")

    def _open_target(self, volume_id: str) -> AbstractContextManager[h5py.File]:
        if self.targets is None:
            return self._open_kspace(volume_id)
        return open_volume(self.targets / f"{volume_id}.h5", made_by=self.targets_by)


def _plane(file: h5py.File, key: str, ref: SliceRef) -> np.ndarray:
    """One slice of a data set: one chunk of the file."""
    planes = file[key]
    if ref.slice_num >= len(planes):
        raise VolumeError(
            f"{file.filename}: {key} has {len(planes)} slices, slice {ref.slice_num} "
            "was asked for"
        )
    plane: np.ndarray = planes[ref.slice_num]
    return plane
