"""Write files of raw data in the layouts of M4Raw, fastMRI and Calgary-Campinas."""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import h5py
import numpy as np

from stages.common.params import find_block, read_params, validate
from stages.synthesize.noise import fft2c, ifft2c
from stages.synthesize.scans import Problems, Scan
from stages.synthesize.settings import ScanSettings

STOP = Problems("stop")  # keeps nothing: the first problem is raised
PATIENT = "0123456789abcdef0123456789abcdef"
HEADER = """<?xml version="1.0" encoding="utf-8"?>
<ismrmrdHeader xmlns="http://www.ismrm.org/ISMRMRD">
<encoding>
<encodedSpace><matrixSize><x>{x}</x><y>{y}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>240</x><y>240</y><z>5</z></fieldOfView_mm></encodedSpace>
<reconSpace><matrixSize><x>{rows}</x><y>{columns}</y><z>1</z></matrixSize>
<fieldOfView_mm><x>240</x><y>240</y><z>5</z></fieldOfView_mm></reconSpace>
<encodingLimits><kspace_encoding_step_1><minimum>0</minimum><maximum>{last}</maximum>
<center>{centre}</center></kspace_encoding_step_1></encodingLimits>
<trajectory>cartesian</trajectory></encoding></ismrmrdHeader>"""
SYSTEM = """<acquisitionSystemInformation>
<receiverChannels>{channels}</receiverChannels>
</acquisitionSystemInformation>
<encoding>"""


def settings(**changes: Any) -> ScanSettings:
    """`synthesize.scans` as in params.yaml, but for some keys."""
    block = find_block(read_params(), "synthesize.scans") | changes
    return validate(block, "synthesize.scans", ScanSettings)


def left_out(
    reader: ModuleType, folder: Path, **changes: Any
) -> tuple[list[Scan], dict[str, str]]:
    """What a reader lists by `on_error: skip`, and its problems: name -> reason."""
    given, problems = settings(on_error="skip", **changes), Problems("skip")
    scans = reader.find(folder, given, problems)
    found = problems.found
    return scans, {p.path.relative_to(folder).as_posix(): p.reason for p in found}


def coil_images(
    shape: Sequence[int],
    *,
    seed: int = 0,
    noise: float = 0.01,
    share: float = 0.8,
    inner: float = 0.3,
) -> np.ndarray:
    """A head seen by each coil: (slices, coils, H, W) complex.

    Args:
        shape: of the result.
        seed: of the noise; the head is the same for all.
        noise: deviation of each part.
        share: of the field of view that the head fills.
        inner: how bright its middle is beside the rest: the contrast.
    """
    slices, coils, height, width = shape
    rows = np.linspace(-1, 1, height)[:, None]
    columns = np.linspace(-1, 1, width)[None, :]
    image = np.zeros((slices, 1, height, width), np.complex64)
    for number in range(slices):
        radius = share * (1 - 0.3 * abs(number / max(slices, 2) - 0.5))
        # Off-centre and uneven: whoever flips or transposes it makes another image.
        square = (rows - 0.05) ** 2 + ((columns + 0.08) / 0.8) ** 2
        image[number, 0][square < radius**2] = 1
        image[number, 0][square < (radius / 3) ** 2] = inner + 0.02 * number
    image = image * np.exp(1j * (rows + 0.5 * columns))
    angles = 2 * np.pi * np.arange(coils)[:, None, None] / coils
    distance = (rows - np.sin(angles)) ** 2 + (columns - np.cos(angles)) ** 2
    images = image * np.exp(-distance / 2 + 1j * angles)
    rng = np.random.default_rng(seed)
    for part in (1, 1j):
        for number in range(slices):
            white = noise * rng.standard_normal(images.shape[1:], np.float32)
            images[number] += part * white
    return images.astype(np.complex64)


def rss(kspace: np.ndarray) -> np.ndarray:
    """Root sum of squares over the coils, (slices, H, W) float32."""
    squares = [(np.abs(ifft2c(plane)) ** 2).sum(axis=0) for plane in kspace]
    return np.sqrt(squares).astype(np.float32)


def write_m4raw(
    path: Path,
    *,
    slices: int = 18,
    coils: int = 4,
    size: int = 256,
    seed: int = 0,
    echo: int = 8,
    inner: float = 0.3,
    channels: int | None = None,
) -> np.ndarray:
    """Write one repetition; return its k-space.

    The columns outside 30 to 225 (of 256) are zeros, and the echo lies `echo` rows (of
    256) off the centre. The header states as many `channels` as there are coils.
    """
    images = coil_images((slices, coils, size, size), seed=seed, inner=inner)
    kspace = fft2c(images)
    kspace = np.roll(kspace, echo * size // 256, axis=-2).astype(np.complex64)
    first, end = 30 * size // 256, 225 * size // 256
    kspace[..., :first] = 0
    kspace[..., end:] = 0
    image = rss(kspace)
    header = HEADER.format(
        x=size, y=size, rows=size, columns=size, last=end - first, centre=97
    )
    system = SYSTEM.format(channels=channels or coils)
    header = header.replace("<encoding>", system)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "kspace", data=kspace, chunks=(1, *kspace.shape[1:]), compression="gzip",
            compression_opts=1,
        )  # fmt: skip
        file["reconstruction_rss"] = image
        file["ismrmrd_header"] = header.encode()
        file.attrs["acquisition"] = "AX" + path.stem.split("_")[1][:-2]
        file.attrs["max"] = image.max()
        file.attrs["patient_id"] = PATIENT
    return kspace


def write_fastmri(
    path: Path,
    *,
    shape: tuple[int, ...] = (3, 4, 64, 40),
    crop: tuple[int, int] = (32, 32),
    acquisition: str = "AXT2",
    patient_id: str | None = PATIENT,
    test: bool = False,
    padding: int = 2,
) -> np.ndarray:
    """Write a scan whose readout is oversampled; return its k-space.

    Args:
        path: the file.
        shape: of the k-space; of three axes it is singlecoil.
        crop: size of the published image; None of it is cut where it is larger.
        acquisition: attribute; of a knee `CORPD_FBK`.
        patient_id: attribute; None leaves it out.
        test: undersampled, with `mask` and without an image.
        padding: columns at either edge that are zeros.
    """
    four = shape if len(shape) == 4 else (shape[0], 1, *shape[1:])
    kspace = fft2c(coil_images(four, share=0.45)).astype(np.complex64)
    kspace[..., :padding] = 0
    kspace[..., shape[-1] - padding :] = 0
    mask = np.arange(shape[-1]) % 4 == 0
    full = rss(kspace)
    top, left = (
        max(0, (a - b) // 2) for a, b in zip(full.shape[1:], crop, strict=True)
    )
    image = full[:, top : top + crop[0], left : left + crop[1]]
    wide = [(0, 0), *((0, b - a) for a, b in zip(image.shape[1:], crop, strict=True))]
    image = np.pad(image, wide)
    stored = kspace * mask if test else kspace
    header = HEADER.format(
        x=shape[-2], y=shape[-1], rows=crop[0], columns=crop[1],
        last=shape[-1] - 2 * padding - 1, centre=shape[-1] // 2 - padding,
    )  # fmt: skip
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["kspace"] = stored.reshape(shape).astype(np.complex64)
        file["ismrmrd_header"] = header.encode()
        file.attrs["acquisition"] = acquisition
        if patient_id is not None:
            file.attrs["patient_id"] = patient_id
        if test:
            file["mask"] = mask
            file.attrs["acceleration"] = 4
        else:
            file["reconstruction_rss"] = image
            if len(shape) == 3:
                file["reconstruction_esc"] = image
            file.attrs["max"] = image.max()
            file.attrs["norm"] = np.linalg.norm(image)
    return kspace


def write_calgary(
    path: Path, *, shape: tuple[int, int, int, int] = (3, 4, 36, 40)
) -> np.ndarray:
    """Write (x, ky, kz, 2 × coils); return the coil images, (x, coils, y, z).

    What lies beyond 85 % of kz is noise that a reader has to clear.
    """
    images = coil_images(shape, share=0.5)
    # The inverse of an FFT without shifts, whose zero frequency is in the middle.
    turns = np.exp(1j * np.pi * np.indices(shape[2:]).sum(axis=0))
    kspace = np.fft.fft2(images * turns, norm="ortho")
    parts = np.empty((*shape, 2), np.float32)
    parts[..., 0], parts[..., 1] = kspace.real, kspace.imag
    stored = np.moveaxis(parts, 1, 3).reshape(shape[0], *shape[2:], -1)
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file["kspace"] = stored
    return images


def replace(path: Path, key: str, value: np.ndarray | None) -> None:
    """Put another array in a file, or, with None, take one out."""
    with h5py.File(path, "a") as file:
        del file[key]
        if value is not None:
            file[key] = value
