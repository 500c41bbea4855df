"""Read HDF5 files of raw data, or say what is wrong with them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import h5py
import numpy as np

from stages.synthesize.scans import ScanError

SUFFIX = ".h5"
KSPACE = "kspace"
HEADER = "ismrmrd_header"
_CHANNELS = "{*}acquisitionSystemInformation/{*}receiverChannels"
_AGAIN = "download it again, or remove it"


def files_of(folder: Path) -> list[Path]:
    """Every HDF5 file directly in a folder, sorted; whatever else is there is none."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if is_hdf5(path))


def is_hdf5(path: Path) -> bool:
    """Whether a path names such a file: AppleDouble twins, `._name.h5`, are none."""
    hidden = path.name.startswith(".")
    return path.suffix == SUFFIX and not hidden and path.is_file()


@contextmanager
def open_scan(path: Path) -> Iterator[h5py.File]:
    """Open a file for reading.

    Raises:
        ScanError: it is missing, truncated, or damaged where it is read.
    """
    try:
        with h5py.File(path, "r") as file:
            yield file
    except FileNotFoundError:
        message = f"{path} is missing: download it again"
        raise ScanError(message, path=path) from None
    except (OSError, KeyError, RuntimeError) as error:
        message = f"{path} cannot be read ({error}): {_AGAIN}"
        raise ScanError(message, path=path) from None


def read_kspace(file: h5py.File, path: Path, *, ndims: tuple[int, ...]) -> np.ndarray:
    """Read complex k-space, as it lies there, in single precision.

    Args:
        file: opened.
        path: its name, for errors.
        ndims: numbers of axes that are allowed.

    Returns:
        The array, complex64.

    Raises:
        ScanError: there is none, or it has another type or number of axes.
    """
    data = _dataset(file, KSPACE, path)
    if data.dtype.kind != "c" or data.ndim not in ndims or 0 in data.shape:
        axes = " or ".join(map(str, ndims))
        raise ScanError(
            f"{path}: kspace is {data.dtype} {data.shape}, expected complex numbers "
            f"and {axes} axes: convert it, or remove the file",
            path=path,
        )
    kspace = np.empty(data.shape, np.complex64)
    # By slice: of double precision there is never a whole volume in memory.
    for number in range(len(data)):
        kspace[number] = data[number]
    return kspace


def read_interleaved(file: h5py.File, path: Path) -> np.ndarray:
    """Read k-space whose last axis has real and imaginary parts in turn.

    Returns:
        (slices, coils, H, W) complex64.

    Raises:
        ScanError: there is none, or it has another type or shape.
    """
    data = _dataset(file, KSPACE, path)
    if data.dtype.kind != "f" or data.ndim != 4 or 0 in data.shape:
        raise ScanError(
            f"{path}: kspace is {data.dtype} {data.shape}, expected real numbers and "
            "the axes x, ky, kz, 2 × coils: convert it, or remove the file",
            path=path,
        )
    slices, height, width, parts = data.shape
    if parts % 2 or parts > min(height, width):
        raise ScanError(
            f"{path}: kspace is {data.shape}, expected x, ky, kz and, last, two parts "
            "of each coil: its axes are in another order; transpose them, or remove "
            "the file",
            path=path,
        )
    kspace = np.empty((slices, parts // 2, height, width), np.complex64)
    for number in range(slices):
        plane = np.moveaxis(data[number], -1, 0)
        kspace[number].real, kspace[number].imag = plane[::2], plane[1::2]
    return kspace


def read_image(file: h5py.File, key: str, path: Path) -> np.ndarray:
    """Read magnitudes, float32.

    Raises:
        ScanError: there are none, or they are no real numbers.
    """
    data = _dataset(file, key, path)
    if data.dtype.kind != "f":
        raise ScanError(
            f"{path}: {key} is {data.dtype} {data.shape}, expected real numbers: "
            f"{_AGAIN}",
            path=path,
        )
    image: np.ndarray = data[()].astype(np.float32, copy=False)
    return image


def read_header(file: h5py.File, path: Path) -> str | None:
    """Read the ISMRMRD header; None where the file has none.

    Raises:
        ScanError: it is no text.
    """
    if HEADER not in file:
        return None
    text = _text(_dataset(file, HEADER, path)[()])
    if text is None:
        raise ScanError(f"{path}: {HEADER} is no UTF-8 text: {_AGAIN}", path=path)
    return text


def check_coils(header: str | None, shape: tuple[int, ...], path: Path) -> None:
    """Refuse k-space that has not as many coils as its header states, if it does.

    Only for headers that state those in use: what was converted from Siemens, as
    fastMRI was, states how many there may be at most.

    Args:
        header: ISMRMRD header, XML.
        shape: (slices, coils, H, W) of the k-space.
        path: file to name in an error.

    Raises:
        ScanError: they are other numbers.
    """
    try:
        root = ElementTree.fromstring((header or "").encode())
        stated = int(root.findtext(_CHANNELS) or "")
    except (ElementTree.ParseError, ValueError):
        return
    if stated != shape[1]:
        raise ScanError(
            f"{path}: kspace is {shape}, of which the second axis should be coils: "
            f"{shape[1]}, but the header states {stated} receiver channels: the axes "
            "are in another order, or coils are missing; transpose them to (slices, "
            "coils, H, W), or download the file again",
            path=path,
        )


def read_attribute(file: h5py.File, name: str) -> str | None:
    """Read a text that a file carries; None where it has none, or an empty one."""
    return _text(file.attrs.get(name)) or None


def _dataset(file: h5py.File, key: str, path: Path) -> h5py.Dataset:
    found = file.get(key)
    if not isinstance(found, h5py.Dataset):
        held = ", ".join(sorted(file)) or "nothing"
        raise ScanError(
            f"{path}: '{key}' is missing, the file holds {held}: {_AGAIN}", path=path
        )
    return found


def _text(value: object) -> str | None:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.item()
    if isinstance(value, bytes):
        try:
            return value.decode().strip()
        except UnicodeDecodeError:
            return None
    return value.strip() if isinstance(value, str) else None
