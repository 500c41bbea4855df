"""A person's own images: magnitudes, or complex ones with or without coil maps."""

from pathlib import Path

import numpy as np

from stages.synthesize.folder_rows import Row
from stages.synthesize.formats import arrange, read_array
from stages.synthesize.nifti import as_magnitude, axes_of, read_nifti, stem_of
from stages.synthesize.noise import fft2c
from stages.synthesize.scans import ImageScan, RawScan, ScanError

COMPUTED = "computed-from-image"
_AXIAL = ("column", "row", "slice")  # of x, y and z


def read_image(row: Row) -> RawScan | ImageScan:
    """Read an image: k-space is computed of a complex one, and a name says so.

    Raises:
        ScanError: a file is damaged, or is not what its row says.
    """
    if stem_of(row.file) is not None:
        return _read_nifti(row)
    image = arrange(read_array(row.file, row.key), row.axes, row.file)
    if not np.iscomplexobj(image) or not image.imag.any():
        return _magnitude(row, image.real)
    if row.lesion is not None:
        raise ScanError(
            f"{row.lesion}: a lesion is drawn on magnitudes, and {row.file.name} is "
            "complex: leave 'lesion' empty, or give the image's magnitude"
        )
    return RawScan(
        kspace=_kspace(row, image),
        target=None,
        header=None,
        acquisition=f"{row.contrast}, computed from an image",
        scanner=f"{COMPUTED}-{row.scanner}",
    )


def _kspace(row: Row, image: np.ndarray) -> np.ndarray:
    """K-space of a complex image, (slices, coils, H, W) complex64.

    Its noise, if there is any, is the image's: a scanner's k-space has more.
    """
    if not row.sens_key:
        return _transformed(image, np.ones((1, 1, 1, 1), np.complex64))
    maps = arrange(read_array(row.file, row.sens_key), row.sens_axes, row.file)
    if maps.shape[2:] != image.shape[2:] or len(maps) not in (1, len(image)):
        raise ScanError(
            f"{row.file}: '{row.sens_key}' has {len(maps)} slices of {maps.shape[2:]}, "
            f"the image {len(image)} of {image.shape[2:]}: correct 'axes' or "
            "'sens_axes' in the table"
        )
    dead = np.flatnonzero(~maps.any(axis=(0, 2, 3)))
    if dead.size:
        raise ScanError(
            f"{row.file}: '{row.sens_key}' is zero throughout for coils "
            f"{dead.tolist()}: leave these out of the file"
        )
    return _transformed(image, maps)


def _transformed(image: np.ndarray, maps: np.ndarray) -> np.ndarray:
    coils = max(image.shape[1], maps.shape[1])
    kspace = np.empty((len(image), coils, *image.shape[2:]), np.complex64)
    for number, plane in enumerate(image):
        sens_maps = maps[number if len(maps) > 1 else 0]
        kspace[number] = fft2c(plane.astype(np.complex128) * sens_maps)
    return kspace


def _magnitude(row: Row, image: np.ndarray) -> ImageScan:
    if row.sens_key or image.shape[1] > 1:
        raise ScanError(
            f"{row.file}: the image is real, and coils are given: without phase they "
            "mean nothing; give it without coils, which are then simulated"
        )
    if row.spacing is None:
        raise ScanError(
            f"{row.file}: the image is real, and the table has no spacing: k-space is "
            "simulated at a size in mm; fill in 'spacing', such as '0.9 x 0.9'"
        )
    plain = as_magnitude(image[:, 0].astype(np.float32), row.file)
    lesion = None
    if row.lesion is not None:
        labels = arrange(read_array(row.lesion, ""), row.axes, row.lesion)
        lesion = _labels(labels[:, 0], plain.shape, row.lesion)
    return ImageScan(plain, row.spacing, row.contrast, row.scanner, lesion)


def _read_nifti(row: Row) -> ImageScan:
    volume, sizes = read_nifti(row.file)
    axes = row.axes or _AXIAL
    plain = as_magnitude(_shown(volume, axes), row.file)
    lesion = None
    if row.lesion is not None:
        if axes_of(row.lesion) != axes_of(row.file):
            raise ScanError(
                f"{row.lesion}: its axes point to {axes_of(row.lesion)}, those of "
                f"{row.file.name} to {axes_of(row.file)}: save both on one grid",
                path=row.lesion,
            )
        labels, _sizes = read_nifti(row.lesion)
        lesion = _labels(_shown(labels, axes), plain.shape, row.lesion)
    spacing = sizes[axes.index("row")], sizes[axes.index("column")]
    return ImageScan(plain, spacing, row.contrast, row.scanner, lesion)


def _shown(volume: np.ndarray, axes: tuple[str, ...]) -> np.ndarray:
    """Cut a RAS volume into slices, (slices, rows, columns), as radiology shows them.

    The first row is superior or anterior, the first column anterior or the patient's
    right: what names a row or column runs against its axis.
    """
    slices = volume.transpose([axes.index(name) for name in ("slice", "row", "column")])
    return np.ascontiguousarray(slices[:, ::-1, ::-1])


def _labels(values: np.ndarray, shape: tuple[int, ...], path: Path) -> np.ndarray:
    if values.shape != shape:
        raise ScanError(
            f"{path}: the lesion is {values.shape}, its image {shape}: they must lie "
            "on one grid",
            path=path,
        )
    labels: np.ndarray = values.real.astype(np.uint8)
    if not np.array_equal(labels, values):
        raise ScanError(
            f"{path}: a lesion holds whole numbers from 0 to 255, found "
            f"{values.min():g} to {values.max():g}: save labels, not probabilities",
            path=path,
        )
    return labels
