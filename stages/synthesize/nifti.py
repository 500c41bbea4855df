"""Read NIfTI images in one orientation, or say what is wrong with them."""

import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from stages.synthesize.scans import ImageScan, ScanError

SUFFIXES = (".nii.gz", ".nii")
_UNDERSHOOT = 0.01  # of the maximum: what interpolation leaves below zero
_FIRST_BYTE = 352  # the least offset of pixels: header and flag of extensions
_DEFLATE_RATIO = 1032  # what a byte of a compressed file can become at most
_BLOCK = 2**20


def stem_of(path: Path) -> str | None:
    """A NIfTI file's name without its suffix; None for any other file."""
    for suffix in SUFFIXES:
        # AppleDouble twins of archives made on a Mac are no images.
        if path.name.lower().endswith(suffix) and not path.name.startswith("."):
            return path.name[: -len(suffix)]
    return None


def shape_of(path: Path) -> tuple[int, ...]:
    """Shape as stored, without trailing axes of length 1; reads the header only.

    Raises:
        ScanError: the header is broken.
    """
    return _shape(_load(path))


def axes_of(path: Path) -> str:
    """Where the stored axes point to, such as `LPS`; reads the header only.

    Raises:
        ScanError: the header is broken.
    """
    from nibabel.orientations import aff2axcodes

    image = _load(path)
    _check_affine(image, path)
    return "".join(code or "?" for code in aff2axcodes(image.affine))


def read_nifti(
    path: Path, channel: int | None = None
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Read a volume.

    Args:
        path: the file, .nii or .nii.gz.
        channel: which 3-D volume of a 4-D file; None expects a 3-D file.

    Returns:
        (X, Y, Z) float32 whose axes run to the patient's right, front and head (RAS;
        an oblique one is permuted and flipped, not resampled), and voxel sizes, mm.

    Raises:
        ScanError: the file is missing or damaged, has other axes, holds values that
            are not real numbers or not finite, or a voxel size is not positive.
    """
    from nibabel.funcs import as_closest_canonical

    image = _load(path)
    _require_axes(_shape(image), path, channel)
    _require_real(image, path)
    _check_affine(image, path)
    data = _pixels(image, path, channel)
    if not np.isfinite(data).all():
        raise ScanError(
            f"{path}: {np.count_nonzero(~np.isfinite(data))} values are NaN or "
            "infinite: replace them in the file, or remove it",
            path=path,
        )
    canonical = as_closest_canonical(type(image)(data, image.affine))
    sizes = np.linalg.norm(canonical.affine[:3, :3], axis=0)
    volume = np.ascontiguousarray(canonical.dataobj, dtype=np.float32)
    return volume, (float(sizes[0]), float(sizes[1]), float(sizes[2]))


def as_magnitude(volume: np.ndarray, path: Path) -> np.ndarray:
    """Return a volume without the little below zero that interpolation leaves.

    Raises:
        ScanError: there is much below zero, or nothing above it.
    """
    lowest, highest = float(volume.min()), float(volume.max())
    if not highest > 0:
        raise ScanError(
            f"{path}: holds no value above zero: it is empty, remove it", path=path
        )
    if lowest < -_UNDERSHOOT * highest:
        raise ScanError(
            f"{path}: lowest value is {lowest:g}, highest {highest:g}: magnitudes "
            "are expected; undo the normalisation that made them negative",
            path=path,
        )
    return np.maximum(volume, 0)


def axial_slices(volume: np.ndarray) -> np.ndarray:
    """Cut a RAS volume into slices as radiology shows them.

    Args:
        volume: (X, Y, Z) as `read_nifti` gives it.

    Returns:
        (Z, Y, X): from the feet up; the first row is anterior, the first column the
        patient's right, as in `geometry.plane_points`.
    """
    return np.ascontiguousarray(volume[::-1, ::-1].transpose(2, 1, 0))


def read_axial(path: Path, *, acquisition: str, scanner: str) -> ImageScan:
    """Read a volume of magnitudes, in axial slices.

    Raises:
        ScanError: the file is damaged.
    """
    volume, spacing = read_nifti(path)
    return ImageScan(
        image=axial_slices(as_magnitude(volume, path)),
        spacing=(spacing[1], spacing[0]),
        acquisition=acquisition,
        scanner=scanner,
        lesion=None,
    )


def _load(path: Path) -> Any:
    import nibabel
    from nibabel.filebasedimages import ImageFileError
    from nibabel.spatialimages import HeaderDataError

    if not path.is_file():
        raise ScanError(f"{path} is missing: download it again", path=path)
    try:
        with nibabel.openers.ImageOpener(str(path)) as file:
            header = nibabel.Nifti1Header.from_fileobj(file, check=False)
        _check_header(header, path)
        return nibabel.Nifti1Image.from_filename(path)
    except ScanError:
        raise
    except (
        ImageFileError,
        HeaderDataError,
        OSError,
        EOFError,
        zlib.error,
        ValueError,
        OverflowError,
    ) as error:
        raise _damaged(path, "its header cannot be read", error) from None


def _check_header(header: Any, path: Path) -> None:
    """Refuse what nibabel takes as it is, or mends in silence."""
    count = int(header["dim"][0])
    lengths = header["dim"][1:][: count if 1 <= count <= 7 else 0].tolist()
    if not lengths or min(lengths) < 1:
        found = f"it states {count} axes of lengths {lengths}, each must be 1 or more"
        raise _damaged(path, "its header cannot be read", found)
    offset = float(header["vox_offset"])
    if not _FIRST_BYTE <= offset < math.inf:
        found = f"pixels begin at byte {offset:g}, expected {_FIRST_BYTE} or later"
        raise _damaged(path, "its header cannot be read", found)
    # nibabel takes 1 mm where the size is 0.
    _check_sizes([float(size) for size in header["pixdim"][1:4]], path)


def _pixels(image: Any, path: Path, channel: int | None) -> np.ndarray:
    """The values of a file that is read to its end: (X, Y, Z) float32."""
    from nibabel.volumeutils import apply_read_scaling

    shape, stored = _shape(image), image.dataobj
    size = math.prod(shape)
    try:
        content = _content(
            path,
            stored.offset + size * stored.dtype.itemsize,
            says=f"its header states {shape} {stored.dtype}",
        )
    except (OSError, EOFError, zlib.error) as error:
        raise _damaged(path, "its pixels cannot be read", error) from None
    values = np.frombuffer(content, stored.dtype, size, stored.offset)
    values = values.reshape(shape, order="F")
    scaled = apply_read_scaling(
        values if channel is None else values[..., channel],
        np.float64(stored.slope),
        np.float64(stored.inter),
    )
    return np.asarray(scaled, dtype=np.float32)


def _content(path: Path, needed: int, *, says: str) -> bytearray:
    """The first `needed` bytes of a file, unpacked.

    It is read to its end, where a compressed one has its checksum and length: nibabel
    stops before.
    """
    from nibabel.openers import ImageOpener

    ratio = _DEFLATE_RATIO if path.name.lower().endswith(".gz") else 1
    there = path.stat().st_size * ratio
    content = bytearray()
    # By blocks: nobody has room for what a damaged header may state.
    if needed <= there:
        with ImageOpener(str(path)) as file:
            while block := file.read(_BLOCK):
                content += block[: needed - len(content)]
        there = len(content)
    if there < needed:
        found = f"{says}, which takes {needed} bytes, and there are at most {there}"
        raise _damaged(path, "its pixels cannot be read", found)
    return content


def _shape(image: Any) -> tuple[int, ...]:
    shape = tuple(int(length) for length in image.shape)
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    return shape


def _require_axes(shape: tuple[int, ...], path: Path, channel: int | None) -> None:
    wanted = 3 if channel is None else 4
    if len(shape) != wanted:
        raise ScanError(
            f"{path}: has {len(shape)} axes {shape}, expected {wanted}: "
            + (
                "keep one 3-D volume of it"
                if channel is None
                else "one file with all contrasts"
            ),
            path=path,
        )
    if channel is not None and channel >= shape[3]:
        raise ScanError(
            f"{path}: holds {shape[3]} volumes, number {channel} (from 0) is asked "
            "for: the file and the description of its data set disagree",
            path=path,
        )


def _require_real(image: Any, path: Path) -> None:
    kind = image.get_data_dtype()
    if kind.kind not in "iuf":
        raise ScanError(
            f"{path}: holds {kind}, expected real numbers: save magnitudes (of colours "
            "one grey value), or give a complex image as .npy or .mat in the source "
            "'folder'",
            path=path,
        )


def _check_affine(image: Any, path: Path) -> None:
    affine = np.asarray(image.affine, dtype=np.float64)[:3, :3]
    regular = np.isfinite(affine).all() and abs(np.linalg.det(affine)) > 1e-9
    _check_sizes(np.linalg.norm(affine, axis=0).tolist(), path, regular=bool(regular))


def _check_sizes(sizes: list[float], path: Path, *, regular: bool = True) -> None:
    if not (regular and np.isfinite(sizes).all() and min(sizes) > 0):
        raise ScanError(
            f"{path}: voxel size is {[round(size, 4) for size in sizes]} mm, or the "
            "axes are not independent: correct the header, or remove the file",
            path=path,
        )


def _damaged(path: Path, what: str, reason: Exception | str) -> ScanError:
    text = " ".join(str(reason).split()) or type(reason).__name__
    return ScanError(
        f"{path}: {what} ({text}): the file is truncated, damaged or no NIfTI; "
        "delete it and download it again",
        path=path,
    )
