"""What a reader of real scans hands over: k-space that was measured, or images.

A reader is a file of this folder with two functions and the name of its source:

    find(folder, settings, problems) -> list[Scan]    what there is, without its pixels
    read(scan, settings, problems) -> RawScan | ImageScan

What ails one file or one person, `find` adds to the `Problems` and goes on with the
others; what ails the whole, such as a person in two splits, is a `ScanError`, as is
whatever `read` finds wrong with its scan.
"""

import re
from collections.abc import Collection, Sequence
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


class StopError(ScanError):
    """What ails one file or one person, where `on_error` is `stop`."""


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


class Problem(NamedTuple):
    """What is left out, and why.

    Attributes:
        path: a file, or the folder of a case.
        reason: what was found and what to do; names the path.
        subject_id: whose it is, as in `Scan`; None where nobody can tell.
        contrast: which one is missing now; None where nobody can tell.
        split: where it belongs, as in `Scan`.
    """

    path: Path
    reason: str
    subject_id: str | None = None
    contrast: str | None = None
    split: str | None = None


class Problems:
    """What ails single files and people: it stops, or they are left out.

    Args:
        on_error: `stop` or `skip`, as in `ScanSettings`.
        contrasts: those that are asked for: what ails others is no problem. None asks
            for all.

    Attributes:
        found: what is left out, in the order of finding; a path may come twice.
    """

    def __init__(self, on_error: str, contrasts: Collection[str] | None = None) -> None:
        self._stops = on_error == "stop"
        self._contrasts = contrasts
        self.found: list[Problem] = []

    def add(
        self,
        error: ValueError,
        path: Path,
        *,
        subject_id: str | None = None,
        contrast: str | None = None,
        split: str | None = None,
    ) -> bool:
        """Leave out what an error is about.

        Args:
            error: says what was found and what to do.
            path, subject_id, contrast, split: as in `Problem`.

        Returns:
            Whether it is left out: a contrast that nobody asks for need not be.

        Raises:
            StopError: nothing may be left out.
        """
        if isinstance(error, StopError):
            raise error
        if not self._asks_for(contrast):
            return False
        if self._stops:
            raise StopError(
                f"{error} (or set synthesize.scans.on_error to skip, to leave such "
                "files out)",
                path=path,
            ) from None
        # The first reason is the file's own; a file that is read again gives another.
        known = {(p.path, p.subject_id, p.contrast) for p in self.found}
        if (path, subject_id, contrast) not in known:
            self.found.append(Problem(path, str(error), subject_id, contrast, split))
        return True

    def add_scan(self, error: ValueError, scan: Scan, path: Path | None = None) -> None:
        """Leave out a scan, or one file of it.

        Args:
            error: as in `add`.
            scan: whose file it is.
            path: the file; None takes the one that the error blames.

        Raises:
            StopError: nothing may be left out.
        """
        self.add(
            error,
            path or getattr(error, "path", None) or scan.files[0],
            subject_id=scan.subject_id,
            contrast=scan.contrast,
            split=scan.split,
        )

    def complete(self, scans: Sequence[Scan], left: Sequence[Scan]) -> list[Scan]:
        """Leave out whoever has lost a contrast: attacks need all that a person had.

        Nobody has lost one of which there is another scan, such as a repetition.

        Args:
            scans: all there were, of one person or of many.
            left: those that nothing ails.

        Returns:
            What is left of those people who have all their contrasts.
        """
        held = {(scan.subject_id, scan.contrast) for scan in left}
        lost: dict[str, Problem] = {}
        for problem in self.found:
            subject, contrast = problem.subject_id, problem.contrast
            if subject and contrast and (subject, contrast) not in held:
                lost.setdefault(subject, problem)
        kept = [scan for scan in left if scan.subject_id not in lost]
        used = {path for scan in kept for path in scan.files}
        for scan in sorted(set(left) - set(kept), key=_volume_id):
            cause = lost[scan.subject_id]
            self._add_files(scan, cause, f", the person's only {cause.contrast}", used)
        for scan in sorted(set(scans) - set(left), key=_volume_id):
            own = [problem for problem in self.found if problem.path in scan.files]
            if own:
                self._add_files(scan, own[0], "", used)
        return kept

    def _add_files(
        self, scan: Scan, cause: Problem, which: str, used: set[Path]
    ) -> None:
        """Leave out the files of a scan that have no problem of their own."""
        known = {problem.path for problem in self.found}
        for path in scan.files:
            if path in known | used or not self._asks_for(scan.contrast):
                continue
            reason = f"{path}: left out with {cause.path.name}{which}: {cause.reason}"
            self.found.append(
                Problem(path, reason, scan.subject_id, scan.contrast, scan.split)
            )

    def _asks_for(self, contrast: str | None) -> bool:
        if contrast is None or self._contrasts is None:
            return True
        return contrast in self._contrasts


def _volume_id(scan: Scan) -> str:
    return scan.volume_id


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
