"""From measured k-space to a volume of the contract.

Nothing is corrected: an echo that is not at the centre (M4Raw's lies some rows off)
turns the phase of the image and leaves its magnitude, and the measured phase stays as
it is; k-space need not be Hermitian.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stages.common.volume import Volume
from stages.synthesize.noise import rss_target
from stages.synthesize.raw_extent import acquired_columns, require_centre
from stages.synthesize.raw_header import raw_header, usable_header
from stages.synthesize.scans import RawScan, Scan, ScanError

log = logging.getLogger("mendmri")

MOST_COILS = 128
_WARN_DIFFERENCE = 1e-3  # of the norm, between published image and RSS
_MOST_DIFFERENCE = 0.05
_REMOVE = "download it again, or remove it"


def check_raw(scan: Scan, found: RawScan) -> tuple[int, int] | None:
    """Refuse what is no fully sampled k-space with, perhaps, an image of it.

    Returns:
        First and one past the last acquired column; None if all were acquired.

    Raises:
        ScanError: naming the file, what was found and what to do.
    """
    path = scan.files[0]
    columns = check_kspace(found.kspace, path)
    if found.target is not None:
        check_published(found.target, found.kspace.shape, path)
    return columns


def check_kspace(kspace: np.ndarray, path: Path) -> tuple[int, int] | None:
    """Refuse k-space that is damaged, undersampled, off-centre or has other axes.

    Args:
        kspace: should be (slices, coils, H, W) complex, phase encoded along W.
        path: file to name in an error.

    Returns:
        First and one past the last acquired column; None if all were acquired.

    Raises:
        ScanError: naming the file, what was found and what to do.
    """
    if kspace.ndim != 4 or kspace.dtype.kind != "c" or 0 in kspace.shape:
        raise ScanError(
            f"{path}: kspace is {kspace.dtype} {kspace.shape}, expected complex "
            "(slices, coils, H, W): convert it, or remove the file",
            path=path,
        )
    coils, height, width = kspace.shape[1:]
    if coils > MOST_COILS or coils > min(height, width):
        raise ScanError(
            f"{path}: kspace is {kspace.shape}, of which the second axis should be "
            f"coils, and {coils} coils are more than a scanner has: the axes are in "
            "another order; transpose them to (slices, coils, H, W)",
            path=path,
        )
    if not np.isfinite(kspace).all():
        raise ScanError(
            f"{path}: kspace holds values that are not finite (NaN or infinite): "
            f"{_REMOVE}",
            path=path,
        )
    require_centre(kspace, path)
    return acquired_columns(kspace, path)


def check_published(published: np.ndarray, shape: tuple[int, ...], path: Path) -> None:
    """Refuse an image that cannot be one of k-space (slices, coils, H, W).

    Raises:
        ScanError: naming the file, what was found and what to do.
    """
    if published.ndim != 3 or len(published) != shape[0]:
        raise ScanError(
            f"{path}: the published image is {published.shape}, k-space {shape}: "
            "expected (slices, rows, columns) of as many slices; "
            f"{_REMOVE}",
            path=path,
        )
    if not np.isfinite(published).all():
        raise ScanError(
            f"{path}: the published image holds values that are not finite: {_REMOVE}",
            path=path,
        )


def compare_published(
    published: np.ndarray, full: np.ndarray, path: Path
) -> tuple[np.ndarray, float]:
    """Crop the RSS as the published image is, and refuse one that is of other data.

    Both are the same arithmetic: M4Raw's agree to 0.0003 %, and fastMRI's differ by
    rounding as well. 0.1 % warns. 5 % stops: no rounding comes near it, whereas an
    image that is flipped, of another scan or of swapped axes differs by far more.

    Args:
        published: (slices, H', W').
        full: (slices, H, W), the RSS of the k-space.
        path: file to name in an error.

    Returns:
        The RSS, cropped, and ‖published − RSS‖ / ‖RSS‖.

    Raises:
        ScanError: they differ by more than 5 %.
    """
    size = _crop_size(full.shape[1:], published.shape[1:])
    target = np.ascontiguousarray(centre_crop(full, size))
    return target, _difference(centre_crop(published, size), target, path)


def to_volume(
    scan: Scan, found: RawScan, kept: Sequence[int]
) -> tuple[Volume, float | None]:
    """Make a volume of a raw scan.

    The target is the RSS of the k-space that is stored, cropped as the published image
    is, so that both agree. The published image itself is only compared with it.

    Args:
        scan: whose it is.
        found: what its reader read.
        kept: numbers of the slices that become slices of the volume, at least one.

    Returns:
        The volume, and ‖published − RSS‖ / ‖RSS‖ over the kept slices; None where no
        image is published.

    Raises:
        ScanError: as `check_raw`; or a coil is dead, or the published image is another
            one.
    """
    path = scan.files[0]
    columns = check_raw(scan, found)
    kspace = found.kspace.astype(np.complex64, copy=False)
    if list(kept) != list(range(len(kspace))):
        kspace = kspace[list(kept)]
    kspace = np.ascontiguousarray(kspace)
    _require_coils(kspace, kept, path)
    full = rss_images(kspace)
    if found.target is None:
        target, difference = full, None
    else:
        published = found.target[list(kept)]
        target, difference = compare_published(published, full, path)
    plain = raw_header(
        kspace.shape, target.shape[1:], columns=columns, scanner=found.scanner
    )
    volume = Volume(
        kspace=kspace,
        target=target,
        header=_header(found, plain, path),
        acquisition=found.acquisition,
        patient_id=scan.subject_id,
        columns=columns,
    )
    return volume, difference


def rss_images(kspace: np.ndarray) -> np.ndarray:
    """Root sum of squares, (slices, H, W) float32, with one slice in memory twice."""
    return np.concatenate([rss_target(plane[None]) for plane in kspace])


def centre_crop(images: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Cut the centre out of (…, H, W), where fastMRI's crop takes it."""
    top, left = (
        (have - want) // 2 for have, want in zip(images.shape[-2:], size, strict=True)
    )
    return images[..., top : top + size[0], left : left + size[1]]


def _require_coils(kspace: np.ndarray, kept: Sequence[int], path: Path) -> None:
    dead = np.argwhere(~np.any(kspace, axis=(2, 3)))
    if dead.size:
        row, coil = (int(number) for number in dead[0])
        raise ScanError(
            f"{path}: coil {coil} of slice {kept[row]} is zero, as are {len(dead) - 1} "
            f"more: a coil is dead or the file is damaged; {_REMOVE}"
        )


def _crop_size(full: tuple[int, ...], published: tuple[int, ...]) -> tuple[int, int]:
    if published[0] <= full[0] and published[1] <= full[1]:
        return published[0], published[1]
    # fastMRI has brains narrower than the size that it names: a square that fits.
    side = min(*full, *published)
    return side, side


def _difference(published: np.ndarray, target: np.ndarray, path: Path) -> float:
    norm = float(np.linalg.norm(target))
    difference = float(np.linalg.norm(published - target)) / norm if norm else 0.0
    if difference > _MOST_DIFFERENCE:
        raise ScanError(
            f"{path}: the published image and the RSS of kspace differ by "
            f"{100 * difference:.0f} %: axes are swapped or flipped, the scale is "
            "another, kspace is not centred, or they are of different data; correct "
            "the file, or remove it",
            path=path,
        )
    if difference > _WARN_DIFFERENCE:
        log.warning(
            "%s: the published image and the RSS of kspace differ by %.2g %%: the RSS "
            "is the target",
            path,
            100 * difference,
        )
    return difference


def _header(found: RawScan, plain: str, path: Path) -> str:
    """The file's own, unless it has none that fastMRI's readers could use."""
    if found.header is None or usable_header(found.header):
        return found.header or plain
    log.warning("%s: the ISMRMRD header cannot be used: a plain one is made", path)
    return plain
