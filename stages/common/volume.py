"""Read and write one volume in fastMRI's HDF5 layout."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

# Attribute of a volume that was not acquired in its whole width.
COLUMNS = "acquired_columns"


class Volume(NamedTuple):
    """One contrast of one subject.

    Attributes:
        kspace: (slices, coils, H, W) complex64, centred, orthonormal FFT.
        target: (slices, H', W') float32, root-sum-of-squares image.
        header: ISMRMRD header, XML.
        acquisition: contrast as fastMRI names it, such as `AXFLAIR`.
        patient_id: subject.
        columns: first and one past the last k-space column that was acquired, where
            the others are filled with zeros; None if all were.
        lesion: (slices, H', W') uint8, labels of a segmentation; None without one.
    """

    kspace: np.ndarray
    target: np.ndarray
    header: str
    acquisition: str
    patient_id: str
    columns: tuple[int, int] | None = None
    lesion: np.ndarray | None = None


class VolumeError(ValueError):
    """A volume file is missing, truncated, or breaks the contract."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path` that replaces it only on success.

    Raises:
        OSError: it could not be written; names the file, as Python does not for a full
            disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(
        dir=path.parent, prefix=f".{path.name}.", suffix=".part"
    )
    os.close(handle)
    temporary = Path(name)
    # mkstemp makes files that only their owner reads; outputs are shared.
    umask = os.umask(0)
    os.umask(umask)
    temporary.chmod(0o666 & ~umask)
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def new_hdf5(path: Path) -> Iterator[h5py.File]:
    """Yield an HDF5 file that is written whole or not at all.

    It is made in memory: where the disk is full, HDF5 ends the process with a
    segmentation fault, and Python raises an error.
    """
    with h5py.File.in_memory() as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    with atomic_path(path) as temporary:
        temporary.write_bytes(image)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def check_volume(volume: Volume, name: str) -> None:
    """Refuse what would train to NaN or mislead.

    Raises:
        VolumeError: shapes disagree, a value is not finite, a slice is empty or a
            coil is dead.
    """
    kspace, target = volume.kspace, volume.target
    if kspace.ndim != 4 or kspace.dtype != np.complex64:
        raise VolumeError(
            f"{name}: kspace is {kspace.dtype} {kspace.shape}, "
            "expected complex64 (slices, coils, H, W)"
        )
    if target.ndim != 3 or target.dtype != np.float32:
        raise VolumeError(
            f"{name}: reconstruction_rss is {target.dtype} {target.shape}, "
            "expected float32 (slices, H, W)"
        )
    if len(kspace) != len(target):
        raise VolumeError(
            f"{name}: {len(kspace)} k-space slices, {len(target)} target slices"
        )
    if target.shape[1] > kspace.shape[2] or target.shape[2] > kspace.shape[3]:
        raise VolumeError(
            f"{name}: target {target.shape[1:]} is larger than k-space "
            f"{kspace.shape[2:]}"
        )
    if volume.lesion is not None and volume.lesion.shape != target.shape:
        raise VolumeError(
            f"{name}: lesion is {volume.lesion.shape}, reconstruction_rss "
            f"{target.shape}"
        )
    if not (np.isfinite(kspace).all() and np.isfinite(target).all()):
        raise VolumeError(f"{name}: holds values that are not finite")
    empty = np.flatnonzero(~target.any(axis=(1, 2)))
    if empty.size:
        raise VolumeError(f"{name}: empty target in slices {empty.tolist()}")
    dead = np.argwhere(~kspace.any(axis=(2, 3)))
    if dead.size:
        raise VolumeError(f"{name}: dead (slice, coil) pairs {dead.tolist()}")


def write_volume(path: Path, volume: Volume) -> None:
    """Check a volume and write it, chunked by slice, whole or not at all."""
    check_volume(volume, path.name)
    with new_hdf5(path) as file:
        # track_times off: the same volume gives the same bytes.
        for key, array in (
            ("kspace", volume.kspace),
            ("reconstruction_rss", volume.target),
            ("lesion", volume.lesion),
        ):
            if array is not None:
                file.create_dataset(
                    key, data=array, chunks=(1, *array.shape[1:]), track_times=False
                )
        file.create_dataset(
            "ismrmrd_header", data=volume.header.encode(), track_times=False
        )
        file.attrs["max"] = float(volume.target.max())
        file.attrs["norm"] = float(np.linalg.norm(volume.target))
        file.attrs["acquisition"] = volume.acquisition
        file.attrs["patient_id"] = volume.patient_id
        if volume.columns is not None:
            file.attrs[COLUMNS] = volume.columns


@contextmanager
def open_volume(path: Path, *, made_by: str) -> Iterator[h5py.File]:
    """Open an HDF5 file of the pipeline for reading.

    Args:
        path: the file.
        made_by: stage that writes it, named in the error.

    Raises:
        VolumeError: the file is missing, truncated or lacks what is read from it.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        raise VolumeError(f"{path} is missing: run `dvc repro {made_by}`") from None
    except (OSError, KeyError) as error:
        raise VolumeError(
            f"{path} cannot be read ({error}): delete it and run "
            f"`dvc repro --force --single-item {made_by}`"
        ) from error


def write_targets(
    path: Path, target: np.ndarray, kspace: np.ndarray | None = None
) -> None:
    """Write a volume as it was exported: its targets with their `max`, maybe k-space.

    Args:
        path: the file.
        target: (slices, H', W') float32.
        kspace: (slices, coils, H, W) complex64, where it is not the scanner's own.
    """
    with new_hdf5(path) as file:
        for key, array in (("reconstruction_rss", target), ("kspace", kspace)):
            if array is not None:
                kind = np.complex64 if key == "kspace" else np.float32
                file.create_dataset(
                    key,
                    data=array.astype(kind, copy=False),
                    chunks=(1, *array.shape[1:]),
                    track_times=False,
                )
        file.attrs["max"] = float(target.max())
