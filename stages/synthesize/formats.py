"""Read arrays of the formats that people keep their own scans in.

Axes are as the reader of the format gives them: in BART's and MATLAB's order of
dimensions, in NumPy's and HDF5's order of C.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from stages.synthesize import hdf5
from stages.synthesize.formats_ismrmrd import is_ismrmrd, read_acquisitions
from stages.synthesize.formats_matlab import as_complex, number_kind, read_matlab
from stages.synthesize.formats_variables import choose, readable
from stages.synthesize.scans import ScanError

HDF5 = (".h5", ".hdf5", ".mrd")
KNOWN_AXES = ("slice", "coil", "row", "column")
_SINGLECOIL = ("slice", "row", "column")
_TARGETS = {4: "reconstruction_rss", 3: "reconstruction_esc"}  # by axes of the k-space


class Stored(NamedTuple):
    """K-space as its file holds it.

    Attributes:
        data: of any axes.
        axes: their names, where the format says so; else empty.
        header: ISMRMRD header, XML, where there is one.
        acquisition: contrast in the file's own words, where there are any.
        target: (slices, H', W') float32 where the file has an image.
    """

    data: np.ndarray
    axes: tuple[str, ...] = ()
    header: str | None = None
    acquisition: str | None = None
    target: np.ndarray | None = None


def read_stored(path: Path, key: str) -> Stored:
    """Read k-space of any format, with what the file says of it.

    Args:
        path: the file.
        key: its variable; empty where it has only one.

    Raises:
        ScanError: it is missing, damaged, or holds no such variable.
    """
    if path.suffix.lower() not in HDF5:
        return Stored(read_array(path, key))
    with readable(path, "an HDF5 file"), h5py.File(path, "r") as file:
        name = _dataset(file, key, path, complex_only=True)
        if is_ismrmrd(file[name]):
            kspace, header = read_acquisitions(file[name], path)
            return Stored(kspace, KNOWN_AXES, header)
        data = as_complex(file[name][()])
        if name != hdf5.KSPACE or data.ndim not in _TARGETS:
            return Stored(data)
        published = _TARGETS[data.ndim]
        return Stored(
            data=data,
            axes=KNOWN_AXES if data.ndim == 4 else _SINGLECOIL,
            header=hdf5.read_header(file, path),
            acquisition=hdf5.read_attribute(file, "acquisition"),
            target=(
                hdf5.read_image(file, published, path) if published in file else None
            ),
        )


def read_array(path: Path, key: str) -> np.ndarray:
    """Read an array of any format but NIfTI: see `read_stored`.

    Raises:
        ScanError: it is missing, damaged, or holds no such variable.
    """
    suffix = path.suffix.lower()
    if suffix == ".npy":
        return _read_numpy(path)
    if suffix == ".cfl":
        return read_bart(path)
    if suffix == ".mat":
        return read_matlab(path, key)
    with readable(path, "an HDF5 file"), h5py.File(path, "r") as file:
        name = _dataset(file, key, path, complex_only=False)
        if is_ismrmrd(file[name]):
            raise ScanError(
                f"{path}: '{name}' holds acquisitions, no image: set kind to kspace"
            )
        return as_complex(file[name][()])


def read_bart(path: Path) -> np.ndarray:
    """Read a `.cfl` by the sizes in the `.hdr` beside it, complex64.

    Raises:
        ScanError: a file is missing, or they disagree.
    """
    header = path.with_suffix(".hdr")
    with readable(header, "the header of a .cfl"):
        lines = [line.strip() for line in header.read_text("ascii").splitlines()]
        place = lines.index("# Dimensions")
        shape = tuple(map(int, lines[place + 1].split()))
    with readable(path, "a .cfl file"):
        size = path.stat().st_size
        expected = 8 * math.prod(shape)
        if not shape or min(shape) < 1 or size != expected:
            raise ScanError(
                f"{path}: has {size} bytes, the sizes {shape} in {header.name} need "
                f"{expected}: the file is truncated, or the header is another one's; "
                "export both again"
            )
        return np.fromfile(path, "<c8").reshape(shape, order="F")


def arrange(data: np.ndarray, axes: Sequence[str], path: Path) -> np.ndarray:
    """Bring an array into the contract's order.

    Args:
        data: of any axes.
        axes: their names; `-` is one of length 1 that is dropped. BART and MATLAB do
            not tell how many axes of length 1 come last: these may be named or not.
        path: the file, for errors.

    Returns:
        (slices, coils, rows, columns) of the same type.

    Raises:
        ScanError: names and array do not fit.
    """
    if data.dtype.kind not in "biufc" or 0 in data.shape:
        raise ScanError(
            f"{path}: holds {data.dtype} {data.shape}, expected numbers: export an "
            "array of numbers"
        )
    shape = data.shape
    if path.suffix.lower() in (".cfl", ".mat"):
        while len(shape) > len(axes) and shape[-1] == 1:
            shape = shape[:-1]
        shape += (1,) * (len(axes) - len(shape))
    named = f"called {' '.join(axes)!r}"
    if len(shape) != len(axes):
        raise ScanError(
            f"{path}: has {len(shape)} axes {data.shape}, {named}: name each one in "
            "'axes'"
        )
    for name, length in zip(axes, shape, strict=True):
        if name == "-" and length != 1:
            raise ScanError(
                f"{path}: axes have the lengths {shape}, {named}: only one of length 1 "
                "may be '-'"
            )
    kept = [name for name in axes if name != "-"]
    lengths = dict(zip(axes, shape, strict=True))
    data = data.reshape([lengths[name] for name in kept])
    found = [name for name in KNOWN_AXES if name in kept]
    data = data.transpose([kept.index(name) for name in found])
    coils, rows, columns = (lengths.get(name, 1) for name in KNOWN_AXES[1:])
    if coils > min(rows, columns):
        raise ScanError(
            f"{path}: axes have the lengths {shape}, {named}: {coils} coils of "
            f"{rows} × {columns} samples cannot be; correct 'axes'"
        )
    if not np.isfinite(data).all():
        raise ScanError(
            f"{path}: {np.count_nonzero(~np.isfinite(data))} values are NaN or "
            "infinite: replace them in the file, or remove its row from the table"
        )
    return data.reshape(lengths.get("slice", 1), coils, rows, columns)


def _read_numpy(path: Path) -> np.ndarray:
    with readable(path, "a .npy file"):
        data = np.load(path, allow_pickle=False)
        if not isinstance(data, np.ndarray):
            raise ScanError(f"{path}: is a .npz archive: save one array as .npy")
        return data


def _dataset(file: h5py.File, key: str, path: Path, *, complex_only: bool) -> str:
    """Name of the dataset, or group of acquisitions, that is meant."""
    held: dict[str, str] = {}
    candidates = []
    wanted = "c" if complex_only else "iufc"

    def look(name: str, item: h5py.HLObject) -> None:
        if is_ismrmrd(item):
            held[name] = "ISMRMRD acquisitions"
            candidates.append(name)
        elif isinstance(item, h5py.Dataset) and not is_ismrmrd(item.parent):
            held[name] = f"{item.shape} {item.dtype}"
            if number_kind(item.dtype) in wanted and len(item.shape or ()) > 1:
                candidates.append(name)

    file.visititems(look)
    return choose(key, held, candidates, path=path)
