"""What a reader of real scans hands over: k-space that was measured, or images.

A reader is a file of this folder with two functions and the name of its source:

    find(folder, settings) -> list[Scan]     what there is, without reading pixels
    read(scan, settings) -> RawScan | ImageScan
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.common.paths import SPLITS

_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9_.-]+")


class ScanError(ValueError):
    """A scan is damaged, or is not what its source should hold.

    The message names file, finding and remedy.

    Attributes:
        path: the file to blame, where it is not the first of its scan.
    """

    def __init__(self, message: str, *, path: Path | None = None) -> None:
        super().__init__(message)
        self.path = path


class Scan(NamedTuple):
    """What becomes one volume.

    Attributes:
        volume_id: of the volume; starts with the subject's id, see `plain_id`.
        subject_id: of the person, whatever file, contrast or repetition.
        contrast: `T1w`, `T2w`, `FLAIR`, `T1c` or what the source calls any other.
        split: train, val or test where the source says so; None where it does not.
        files: all of them, in the order of repetitions.
    """

    volume_id: str
    subject_id: str
    contrast: str
    split: str | None
    files: tuple[Path, ...]


class RawScan(NamedTuple):
    """K-space as a scanner measured it, in the contract's axes.

    Attributes:
        kspace: (slices, coils, H, W) complex64, centred, orthonormal FFT; phase is
            encoded along the last axis.
        target: (slices, H', W') float32, the image that the source publishes; None
            where it publishes none.
        header: ISMRMRD header, XML; None makes one.
        acquisition: contrast in the source's own words, such as `AXT2`.
        scanner: name of scanner and coil: what an attack may be confined to.
    """

    kspace: np.ndarray
    target: np.ndarray | None
    header: str | None
    acquisition: str
    scanner: str


class ImageScan(NamedTuple):
    """Magnitude images, from which k-space is simulated.

    Attributes:
        image: (slices, rows, columns) float32, >= 0.
        spacing: of rows and columns, mm.
        acquisition: contrast in the source's own words.
        scanner: name that the simulated scanner and coils get.
        lesion: (slices, rows, columns) uint8, the source's labels; None without.
    """

    image: np.ndarray
    spacing: tuple[float, float]
    acquisition: str
    scanner: str
    lesion: np.ndarray | None


def plain_id(text: str) -> str:
    """Make an id that can name a file: other signs become `-`."""
    return _NOT_IN_IDS.sub("-", text).strip("-.") or "-"


def check_split(split: str, where: object) -> str:
    """Return a split's name as the pipeline writes it.

    Raises:
        ScanError: it is none of train, val and test.
    """
    if split not in SPLITS:
        raise ScanError(
            f"{where}: split is '{split}', expected one of {', '.join(SPLITS)}"
        )
    return split
