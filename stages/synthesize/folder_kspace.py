"""A person's own k-space: what its row says of it, and whether that can be true."""

from collections.abc import Sequence

import numpy as np

from stages.synthesize.folder_rows import Row
from stages.synthesize.formats import Stored, arrange, read_stored
from stages.synthesize.noise import ifft2c
from stages.synthesize.raw_extent import off_centre
from stages.synthesize.scans import RawScan, ScanError

_NAMES = ("row", "column")


def read_kspace(row: Row) -> RawScan:
    """Read k-space, and bring it into the contract's axes with its centre at n // 2.

    Raises:
        ScanError: the file is damaged, or its row is incomplete or wrong.
    """
    stored = read_stored(row.file, row.key)
    kspace = arrange(stored.data, _axes(row, stored), row.file)
    kspace = np.ascontiguousarray(kspace, dtype=np.complex64)
    if not np.isfinite(kspace).all():
        raise ScanError(
            f"{row.file}: has values above 1e38, too large for single precision: "
            "export it in other units",
            path=row.file,
        )
    if row.centred is False:
        kspace = np.fft.fftshift(kspace, axes=(-2, -1))
    _require_centre(kspace, row)
    if row.wrapped is not None:
        kspace = _unwrapped(kspace, row.wrapped)
    elif stored.target is None:
        _require_unwrapped(kspace, row)
    # Of axes in another order, or moved, the published image is another one.
    as_stored = row.axes in ((), stored.axes) and not row.wrapped
    return RawScan(
        kspace=kspace,
        target=stored.target if as_stored else None,
        header=stored.header,
        acquisition=stored.acquisition or row.contrast,
        scanner=row.scanner,
    )


def _axes(row: Row, stored: Stored) -> tuple[str, ...]:
    """Names of the stored axes, once all is known that is needed."""
    for column, known in (
        ("axes", row.axes or stored.axes),
        ("centred", row.centred is not None or stored.axes),
    ):
        if not known:
            raise ScanError(
                f"{row.file}: '{column}' is empty in the table, and the file does not "
                f"say it of {stored.data.shape}: fill it in",
                path=row.file,
            )
    if not np.iscomplexobj(stored.data) or not stored.data.imag.any():
        raise ScanError(
            f"{row.file}: k-space is {stored.data.dtype} {stored.data.shape} without "
            "imaginary part, expected complex numbers: set kind to image, or join real "
            "and imaginary parts",
            path=row.file,
        )
    return row.axes or stored.axes


def _require_centre(kspace: np.ndarray, row: Row) -> None:
    """Refuse it as `raw_extent.require_centre` does, and name the column to correct."""
    found = off_centre(kspace)
    if found is not None:
        name, percent = found
        raise ScanError(
            f"{row.file}: {percent:.0f} % of the energy of kspace lies in the outer "
            f"half of axis '{name}': the zero frequency is not at n // 2; correct "
            "'centred' (or 'axes') in the table",
            path=row.file,
        )


def _require_unwrapped(kspace: np.ndarray, row: Row) -> None:
    found = off_centre(map(ifft2c, kspace))
    if found is not None:
        name, percent = found
        raise ScanError(
            f"{row.file}: {percent:.0f} % of the energy of the image lies in the outer "
            f"half of axis '{name}': it seems to be half a field of view off; write "
            f"'{name}' (or both, 'row column') into the column 'wrapped' of the table, "
            "or 'no' if it is right",
            path=row.file,
        )


def _unwrapped(kspace: np.ndarray, axes: Sequence[str]) -> np.ndarray:
    """Move the image by half a field of view along some axes."""
    for axis, name in zip((-2, -1), _NAMES, strict=True):
        if name in axes:
            length = kspace.shape[axis]
            index = np.arange(length) - length // 2
            turn = np.exp(2j * np.pi * index * (length // 2) / length)
            ramp = turn[:, None] if axis == -2 else turn
            kspace = (kspace * ramp).astype(np.complex64)
    return kspace
