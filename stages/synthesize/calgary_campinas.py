"""Calgary-Campinas: T1w brain scans of 12 coils, raw but for the readout.

Layout: `Train/<file>.h5` and `Val/<file>.h5`, such as e14089s3_P53248.7.h5. The data
set `kspace` is (x, ky, kz, 2 × coils), real and imaginary parts in turn; along x it is
an image already, so that each x is a slice of its own. Its authors reconstruct with an
inverse FFT without shifts: zero frequency lies in the middle, and the centre of the
image where this transform puts it. Only the first 85 % of kz are measured.
"""

import re
from math import ceil
from pathlib import Path

import numpy as np

from stages.synthesize import hdf5
from stages.synthesize.scans import Problems, RawScan, Scan, ScanError, plain_id
from stages.synthesize.settings import ScanSettings

SPLITS = ("train", "val", "test")
CONTRAST = "T1w"
SAMPLED = 0.85  # of kz; the rest is not measured
_EXAM = re.compile(r"(e\d+)s\d+_.+")


def find(folder: Path, _settings: ScanSettings, problems: Problems) -> list[Scan]:
    """List the scans; an exam is a person.

    A problem is a file in a folder whose name tells no split.
    """
    folders = sorted(path for path in folder.iterdir() if path.is_dir())
    scans = []
    for path in (path for subset in folders for path in hdf5.files_of(subset)):
        try:
            scans.append(_scan(path))
        except ScanError as error:
            problems.add(error, path)
    return sorted(scans)


def read(scan: Scan, _settings: ScanSettings, _problems: Problems) -> RawScan:
    """Read one file; kz, along which k-space is not whole, becomes the columns.

    The values are those measured, each but for a sign that shifts the image by half
    of the field of view: to the centre of `noise.ifft2c`. Nothing is published to
    compare with.

    Raises:
        ScanError: the file is damaged, or its zero frequency is not in the middle.
    """
    path = scan.files[0]
    with hdf5.open_scan(path) as file:
        kspace = hdf5.read_interleaved(file, path)
    width = kspace.shape[-1]
    # What stands there is left over from processing: the authors clear it as well.
    kspace[..., ceil(SAMPLED * width) :] = 0
    _require_centred(kspace, path)
    for axis in (-2, -1):
        kspace *= _half_shift(kspace.shape[axis], axis)
    return RawScan(
        kspace=kspace,
        target=None,
        header=None,
        acquisition="T1",
        scanner=f"calgary_campinas-{kspace.shape[1]}ch",
    )


def _scan(path: Path) -> Scan:
    split = next(
        (name for name in SPLITS if path.parent.name.lower().startswith(name)), None
    )
    if split is None:
        raise ScanError(
            f"{path}: '{path.parent.name}' is no split of Calgary-Campinas, which are "
            "Train and Val: rename the folder, or remove it"
        )
    match = _EXAM.fullmatch(path.stem)
    volume = plain_id(f"calgary_campinas-{path.stem}")
    subject = f"calgary_campinas-{match[1]}" if match else volume
    return Scan(volume, subject, CONTRAST, split, (path,))


def _half_shift(length: int, axis: int) -> np.ndarray:
    """Phase along an axis that moves the image by `length // 2` pixels."""
    turns = np.arange(length) * (length // 2) / length
    phase = np.exp(2j * np.pi * turns).astype(np.complex64)
    if length % 2 == 0:
        phase = np.sign(phase.real).astype(np.complex64)
    return phase[:, None] if axis == -2 else phase


def _require_centred(kspace: np.ndarray, path: Path) -> None:
    energy = sum(np.square(np.abs(plane)).sum(axis=0) for plane in kspace)
    peak = np.unravel_index(np.argmax(energy), kspace.shape[-2:])
    for place, length in zip(peak, kspace.shape[-2:], strict=True):
        if abs(int(place) - length // 2) > length / 4:
            row, column = map(int, peak)
            raise ScanError(
                f"{path}: the strongest value of kspace lies at ky {row}, kz {column} "
                f"of {kspace.shape[-2:]}, not in the middle: the file is not as "
                "published; shift its k-space, or remove it"
            )
