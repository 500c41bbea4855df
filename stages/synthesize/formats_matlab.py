"""Read a variable of a MATLAB file, of versions up to 7.3."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stages.synthesize.formats_variables import choose, readable
from stages.synthesize.scans import ScanError

_NUMBERS = ("double", "single", *(f"{u}int{b}" for u in ("", "u") for b in (8, 16, 32)))
_PARTS = (("real", "imag"), ("r", "i"), ("re", "im"))


def read_matlab(path: Path, key: str) -> np.ndarray:
    """Read an array; its axes are in MATLAB's order, whatever the version of the file.

    Args:
        path: the file.
        key: the variable; empty takes the only one with two axes or more.

    Raises:
        ScanError: the file is damaged, or the variable is none or no plain array.
    """
    with readable(path, "a MATLAB file"):
        # Version 7.3 is HDF5 after a preamble.
        data = _newest(path, key) if h5py.is_hdf5(path) else _older(path, key)
    if not isinstance(data, np.ndarray) or data.dtype.kind not in "biufc":
        what = getattr(data, "dtype", type(data).__name__)
        raise ScanError(
            f"{path}: '{key or 'the variable'}' is {what}, expected an array of "
            "numbers: save it as a full array outside of a struct or cell"
        )
    return data


def _older(path: Path, key: str) -> Any:
    from scipy.io import loadmat, whosmat
    from scipy.io.matlab import MatReadError

    try:
        found = {name: (shape, kind) for name, shape, kind in whosmat(str(path))}
        held = {name: _described(*what) for name, what in found.items()}
        plain = [n for n, (shape, kind) in found.items() if _is_plain(shape, kind)]
        name = choose(key, held, plain, path=path)
        return loadmat(str(path), variable_names=[name])[name]
    except MatReadError as error:
        raise ValueError(str(error)) from None


def _newest(path: Path, key: str) -> Any:
    with h5py.File(path, "r") as file:
        found = {
            name: item
            for name, item in file.items()
            if isinstance(item, h5py.Dataset) and not name.startswith("#")
        }
        # HDF5 lists the axes in the order of C.
        shapes = {name: item.shape[::-1] for name, item in found.items()}
        kinds = {name: _class_of(item) for name, item in found.items()}
        held = {name: _described(shapes[name], kinds[name]) for name in found}
        plain = [name for name in found if _is_plain(shapes[name], kinds[name])]
        name = choose(key, held, plain, path=path)
        if kinds[name] not in (*_NUMBERS, "logical"):
            raise ScanError(
                f"{path}: '{name}' is {kinds[name]}, expected an array of numbers: "
                "save it as a full array outside of a struct or cell"
            )
        return as_complex(found[name][()]).T


def as_complex(data: np.ndarray) -> np.ndarray:
    """Join the parts that MATLAB and others store as a record of two numbers."""
    names = data.dtype.names
    if names in _PARTS:
        real, imaginary = data[names[0]], data[names[1]]
        joined = np.empty(data.shape, np.result_type(real.dtype, np.complex64))
        joined.real, joined.imag = real, imaginary
        return joined
    return data


def number_kind(dtype: np.dtype) -> str:
    """NumPy's letter for a type, `c` for records of two parts too."""
    return "c" if dtype.names in _PARTS else dtype.kind


def _class_of(item: h5py.Dataset) -> str:
    name = item.attrs.get("MATLAB_class", b"")
    return name.decode() if isinstance(name, bytes) else str(name)


def _is_plain(shape: tuple[int, ...], kind: str) -> bool:
    return kind in _NUMBERS and sum(length > 1 for length in shape) >= 2


def _described(shape: tuple[int, ...], kind: str) -> str:
    return " × ".join(map(str, shape)) + f" {kind}"
