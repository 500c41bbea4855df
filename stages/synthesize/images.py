"""From magnitude images to the multi-coil k-space of a simulated scanner.

Phase and coils of magnitude images are lost, and their noise is no longer Gaussian:
what comes out is simulated, and its header says so.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from stages.common.params import ParamsError
from stages.common.volume import Volume
from stages.synthesize import coils, geometry, noise
from stages.synthesize.header import ismrmrd_header
from stages.synthesize.raw import rss_images
from stages.synthesize.scanners import first_scanner
from stages.synthesize.scans import ImageScan, Scan, ScanError
from stages.synthesize.settings import SynthesizeSettings
from stages.synthesize.subject import ACQUISITION

_ACQUISITION = {**ACQUISITION, "T1c": "AXT1POST"}
MOST_OUTSIDE = 0.01  # of the energy, beyond the field of view
_HEAD = 0.1  # of the 99th percentile: brighter pixels are head
_SPLINE = 3  # order of interpolation
_COARSE = 48  # pixels of a side: enough for the object's phase


def scanner_name(image: ImageScan) -> str:
    """The name that tells simulated k-space from measured."""
    return f"simulated-{image.scanner}"


def to_volume(
    scan: Scan, image: ImageScan, kept: Sequence[int], settings: SynthesizeSettings
) -> Volume:
    """Simulate the scan of magnitude slices by several coils.

    Each slice is interpolated by cubic splines to a grid as fine as `matrix` ×
    `oversampling` and as the image, gets a smooth phase and the subject's coils, and is
    cut to `matrix` in k-space, which is the only low-pass. All slices have one gain.

    Args:
        scan: whose it is; volume and slice seed the noise, the subject the coils.
        image: magnitudes.
        kept: numbers of the slices that become slices of the volume.
        settings: field of view, matrix, coils, SNR.

    Raises:
        ScanError: the image is no magnitude image, or does not fit the field of view.
        ParamsError: the contrast has no SNR.
    """
    snr = settings.snr.get(scan.contrast)
    if snr is None:
        raise ParamsError(
            f"params.yaml: 'synthesize.snr' has no entry for {scan.contrast}, the "
            f"contrast of {scan.files[0]}: add one"
        )
    check_image(image, scan.files[0])
    require_inside(image, kept, settings.fov, where=scan.files[0])
    kspace, target = _simulate(scan, image, kept, settings, snr)
    return Volume(
        kspace=kspace,
        target=target,
        header=ismrmrd_header(
            matrix=settings.matrix,
            fov=settings.fov,
            thickness=settings.slice_thickness,
            coils=settings.coils,
            scanner=scanner_name(image),
        ),
        acquisition=_ACQUISITION.get(scan.contrast, image.acquisition),
        patient_id=scan.subject_id,
        lesion=_labels(image, kept, settings),
    )


def to_targets(
    image: ImageScan,
    kept: Sequence[int],
    settings: SynthesizeSettings,
    *,
    where: object,
) -> np.ndarray:
    """Bring magnitude slices to the grid of the targets: no coils, no phase, no noise.

    Args:
        image: magnitudes.
        kept: numbers of the slices that are wanted.
        settings: field of view and matrix.
        where: file to name in an error.

    Returns:
        (slices, matrix, matrix) float32, in the image's own units.

    Raises:
        ScanError: as `to_volume`.
    """
    check_image(image, where)
    require_inside(image, kept, settings.fov, where=where)
    size = _grid(image.spacing, settings)
    targets = np.empty((len(kept), settings.matrix, settings.matrix), np.float32)
    for row, number in enumerate(kept):
        fine = resample(image.image[number], image.spacing, size, settings.fov)
        low = noise.crop_kspace(noise.fft2c(fine), settings.matrix)
        targets[row] = np.abs(noise.ifft2c(low))
    return targets


def resample(
    plane: np.ndarray,
    spacing: tuple[float, float],
    size: int,
    fov: float,
    *,
    order: int = _SPLINE,
) -> np.ndarray:
    """Interpolate a plane to a square field of view around its centre.

    Args:
        plane: (rows, columns); outside it there is nothing.
        spacing: of rows and columns, mm.
        size: pixels of a side; pixel `size // 2` is the centre, as in
            `geometry.plane_points`.
        fov: mm.
        order: of the spline: 3 for images (what falls below zero is set to zero), 0
            takes the nearest pixel, for labels.

    Returns:
        (size, size) of the plane's type.
    """
    offset = (np.arange(size) - size // 2) * (fov / size)
    centre = [(length - 1) / 2 for length in plane.shape]
    index = np.meshgrid(
        centre[0] + offset / spacing[0], centre[1] + offset / spacing[1], indexing="ij"
    )
    result: np.ndarray = ndimage.map_coordinates(
        plane, index, order=order, mode="constant", output=plane.dtype
    )
    return result if order < 2 else np.maximum(result, 0)


def check_image(image: ImageScan, where: object) -> None:
    """Refuse what is no stack of magnitude images.

    Raises:
        ScanError: naming the file, what was found and what to do.
    """
    pixels = image.image
    if pixels.ndim != 3 or not np.issubdtype(pixels.dtype, np.floating):
        raise ScanError(
            f"{where}: image is {pixels.dtype} {pixels.shape}, expected real "
            "(slices, rows, columns)"
        )
    if not np.isfinite(pixels).all() or pixels.min() < 0:
        raise ScanError(
            f"{where}: values below zero or not finite: a magnitude image has none; "
            "correct the file, or remove it"
        )
    if not all(np.isfinite(size) and size > 0 for size in image.spacing):
        raise ScanError(
            f"{where}: pixel size is {image.spacing} mm, both must be > 0: correct it"
        )
    if image.lesion is not None and image.lesion.shape != pixels.shape:
        raise ScanError(
            f"{where}: image is {pixels.shape}, its segmentation "
            f"{image.lesion.shape}: they must lie on one grid"
        )


def require_inside(
    image: ImageScan, kept: Sequence[int], fov: float, *, where: object
) -> None:
    """Refuse a head that the field of view would cut.

    Raises:
        ScanError: more than 1 % of the kept slices' energy lies outside.
    """
    energy = np.zeros(image.image.shape[1:])
    for number in kept:
        energy += np.square(image.image[number], dtype=np.float64)
    offsets = [
        (np.arange(length) - (length - 1) / 2) * size
        for length, size in zip(image.image.shape[1:], image.spacing, strict=True)
    ]
    inside = np.ix_(*(np.abs(offset) <= fov / 2 for offset in offsets))
    total = energy.sum()
    outside = 1 - energy[inside].sum() / total if total > 0 else 0.0
    if outside > MOST_OUTSIDE:
        rows, columns = np.array(energy.shape) * image.spacing
        raise ScanError(
            f"{where}: {100 * outside:.1f} % of the energy lies outside a field of "
            f"view of {fov:g} mm around the centre of {rows:.0f} × {columns:.0f} mm: "
            "the head would be cut; raise synthesize.fov, or centre the image"
        )


def _simulate(
    scan: Scan,
    image: ImageScan,
    kept: Sequence[int],
    settings: SynthesizeSettings,
    snr: float,
) -> tuple[np.ndarray, np.ndarray]:
    """K-space (slices, coils, H, W) complex64 and its RSS, slice by slice."""
    rng = np.random.default_rng([settings.seed, _number(scan.subject_id)])
    scanner = first_scanner(settings.scanners)
    positions = coils.draw_coils(rng, settings.coils, scanner)
    streams = [
        np.random.default_rng([settings.seed, _number(scan.volume_id), number])
        for number in kept
    ]
    # Where the slices lie in the head is not known: spread over the cohort's extent.
    heights = np.linspace(*settings.extent, len(image.image))
    size = _grid(image.spacing, settings)
    kspace = np.empty(
        (len(kept), settings.coils, settings.matrix, settings.matrix), np.complex64
    )
    for row, number in enumerate(kept):
        points = geometry.plane_points(size, settings.fov, heights[number])
        sens_maps = coils.sensitivity_maps(positions, points, scanner)
        fine = resample(image.image[number], image.spacing, size, settings.fov)
        phase = _phase(streams[row], size, scanner.phase)
        coil_images = sens_maps.reshape(-1, size, size) * (fine * phase)
        kspace[row] = noise.crop_kspace(noise.fft2c(coil_images), settings.matrix)
    clean = rss_images(kspace)
    gain = settings.target_max / clean.max()
    head = clean > _HEAD * np.percentile(clean, 99)
    sigma = gain * scanner.noise * float(clean[head].mean()) / snr
    for row, stream in enumerate(streams):
        white = noise.complex_noise(stream, kspace.shape[1:], sigma)
        kspace[row] = gain * kspace[row] + white
    return kspace, rss_images(kspace)


def _phase(rng: np.random.Generator, size: int, strength: float) -> np.ndarray:
    """The object's phase factor, drawn coarsely: at full size nothing takes longer."""
    phase = coils.object_phase(rng, (_COARSE, _COARSE), strength)
    index = np.linspace(0, _COARSE - 1, size)
    grid = np.meshgrid(index, index, indexing="ij")
    parts = [
        ndimage.map_coordinates(part, grid, order=_SPLINE, mode="nearest")
        for part in (phase.real, phase.imag)
    ]
    smooth = parts[0] + 1j * parts[1]
    # Between the nodes the interpolated factor is a little shorter than 1.
    unit: np.ndarray = smooth / np.abs(smooth)
    return unit


def _labels(
    image: ImageScan, kept: Sequence[int], settings: SynthesizeSettings
) -> np.ndarray | None:
    if image.lesion is None:
        return None
    planes = [
        resample(
            image.lesion[number], image.spacing, settings.matrix, settings.fov, order=0
        )
        for number in kept
    ]
    return np.stack(planes).astype(np.uint8)


def _grid(spacing: tuple[float, float], settings: SynthesizeSettings) -> int:
    """Pixels of a side: even, as fine as asked for and no coarser than the image."""
    native = 2 * int(np.ceil(settings.fov / min(spacing) / 2))
    return max(settings.matrix * settings.oversampling, native)


def _number(text: str) -> int:
    """A seed from an id: the same on every machine."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
