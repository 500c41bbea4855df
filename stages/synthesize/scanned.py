"""Volumes that come from real scans."""

import logging
from collections.abc import Iterable
from contextlib import closing
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from stages.common.manifest import SkippedFile, SliceRef, VolumeRecord
from stages.common.params import ParamsError
from stages.common.volume import VolumeError, write_volume
from stages.synthesize import images, raw
from stages.synthesize.partition import scans_of
from stages.synthesize.processes import Work, run_jobs
from stages.synthesize.scans import (
    ImageScan,
    Problem,
    Problems,
    RawScan,
    Scan,
    ScanError,
)
from stages.synthesize.selection import kept_slices, require_slices, slice_signal
from stages.synthesize.settings import SynthesizeSettings
from stages.synthesize.simulated import Done

log = logging.getLogger("mendmri")

# Of a person's scans, what is not read twice.
HELD_BYTES = 2**28


class _Shared(NamedTuple):
    """What every worker needs."""

    source: str
    settings: SynthesizeSettings
    folder: Path


def convert_split(
    split: str,
    settings: SynthesizeSettings,
    *,
    source: ModuleType,
    downloaded: Path,
    folder: Path,
    workers: int | None,
) -> tuple[list[Done], list[SkippedFile]]:
    """Make volumes of a split's scans and write them.

    Args:
        split: train, val or test.
        settings: the cohort.
        source: the reader's file.
        downloaded: folder of the source's files.
        folder: of the split's volumes.
        workers: processes; None takes one per CPU.

    Returns:
        What each scan adds to the manifest, and what was left out.

    Raises:
        ValueError: a file is missing or damaged, or the split would be empty.
    """
    skipped = _Skipped(downloaded)
    people = _people(split, settings, source, skipped)
    shared = _Shared(source.__name__, settings, folder)
    work, desc = Work(_convert, shared), f"subjects of {downloaded.name}"
    done: list[Done] = []
    with closing(run_jobs(work, people, workers=workers, desc=desc)) as results:
        for result, problems in results:
            done.append(result)
            skipped.add(problems)
    if not any(result.volumes for result in done):
        raise ScanError(
            f"{split}: every file of {downloaded.name} was left out, the split is "
            "empty: mend or remove the files, or ask for more people in "
            f"synthesize.subjects.{split}; {skipped}"
        )
    return done, skipped.files()


class _Skipped:
    """What is left out of a source, by the names of the files."""

    def __init__(self, downloaded: Path) -> None:
        self.downloaded = downloaded
        self._reasons: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._reasons)

    def __str__(self) -> str:
        first = next(iter(self._reasons.values()))
        return f"{len(self._reasons)} files were left out, the first one: {first}"

    def add(self, problems: Iterable[Problem]) -> None:
        for problem in problems:
            name = problem.path.relative_to(self.downloaded).as_posix()
            if name not in self._reasons:
                self._reasons[name] = problem.reason
                log.warning("left out: %s", problem.reason)

    def files(self) -> list[SkippedFile]:
        return [SkippedFile(name, reason) for name, reason in self._reasons.items()]


def _people(
    split: str, settings: SynthesizeSettings, source: ModuleType, skipped: _Skipped
) -> list[list[Scan]]:
    """Scans of each person of a split, without those with a problem."""
    folder = skipped.downloaded
    if not folder.is_dir():
        raise ScanError(f"{folder} is missing: run `dvc repro download@{folder.name}`")
    problems = Problems(settings.scans.on_error, settings.contrasts)
    found = source.find(folder, settings.scans, problems)
    left = problems.complete(found, found)
    # Where splits are drawn, whoever is left out before it belongs to none.
    drawn = settings.scans.split == "drawn"
    skipped.add(p for p in problems.found if drawn or p.split in (None, split))
    try:
        scans = scans_of(split, left, settings)
    except ParamsError as error:
        raise ParamsError(f"{error}; {skipped}" if skipped else str(error)) from None
    people: dict[str, list[Scan]] = {}
    for scan in scans:
        people.setdefault(scan.subject_id, []).append(scan)
    return list(people.values())


def _convert(scans: list[Scan], shared: _Shared) -> tuple[Done, list[Problem]]:
    """Convert one person's scans; what ails one is told, so that others go on."""
    settings = shared.settings
    reader = import_module(shared.source)
    problems = Problems(settings.scans.on_error, settings.contrasts)
    held: dict[Scan, RawScan | ImageScan] = {}
    signals: dict[Scan, np.ndarray] = {}
    room = HELD_BYTES
    for scan in scans:
        try:
            found = reader.read(scan, settings.scans, problems)
            signals[scan] = slice_signal(_images(scan, found))
        except (ScanError, VolumeError) as error:
            problems.add_scan(error, scan)
            continue
        room -= _pixels(found).nbytes
        if room >= 0:
            held[scan] = found
        del found
    done = Done([], [])
    left = problems.complete(scans, list(signals))
    while left and not done.volumes:
        kept = kept_slices({s.volume_id: signals[s] for s in left}, settings.scans)
        done, failed = _write_all(left, held, kept, shared, problems)
        # Without it the others may keep other slices: as if it had never been there.
        left = problems.complete(scans, [scan for scan in left if scan != failed])
    return done, problems.found


def _write_all(
    scans: list[Scan],
    held: dict[Scan, RawScan | ImageScan],
    kept: dict[str, list[int]],
    shared: _Shared,
    problems: Problems,
) -> tuple[Done, Scan | None]:
    """Write a person's volumes, all or none; with none, the scan that was refused."""
    reader = import_module(shared.source)
    done = Done([], [])
    for scan in scans:
        try:
            # A person may have more scans than memory holds: those are read again.
            found = held.pop(scan, None) or reader.read(
                scan, shared.settings.scans, problems
            )
            _write(scan, found, kept[scan.volume_id], shared, done)
        except (ScanError, VolumeError) as error:
            problems.add_scan(error, scan)
            for record in done.volumes:
                _volume_of(record.volume_id, shared).unlink()
            return Done([], []), scan
    return done, None


def _volume_of(volume_id: str, shared: _Shared) -> Path:
    return shared.folder / f"{volume_id}.h5"


def _pixels(found: RawScan | ImageScan) -> np.ndarray:
    return found.image if isinstance(found, ImageScan) else found.kspace


def _images(scan: Scan, found: RawScan | ImageScan) -> np.ndarray:
    """Magnitudes to choose slices by, (slices, H, W)."""
    if isinstance(found, ImageScan):
        return found.image
    raw.check_raw(scan, found)
    return raw.rss_images(found.kspace)


def _write(
    scan: Scan,
    found: RawScan | ImageScan,
    kept: list[int],
    shared: _Shared,
    done: Done,
) -> None:
    settings = shared.settings
    require_slices(kept, scan.files[0], settings.scans)
    difference, scanner = None, found.scanner
    if isinstance(found, ImageScan):
        volume = images.to_volume(scan, found, kept, settings)
        scanner = images.scanner_name(found)
    else:
        volume, difference = raw.to_volume(scan, found, kept)
    write_volume(_volume_of(scan.volume_id, shared), volume)
    record = VolumeRecord(
        volume_id=scan.volume_id,
        subject_id=scan.subject_id,
        contrast=scan.contrast,
        scanner=scanner,
        num_slices=len(volume.target),
        coils=volume.kspace.shape[1],
        matrix=volume.target.shape[1:],
        max_value=float(volume.target.max()),
        target_difference=difference,
    )
    done.volumes.append(record)
    dropped = sorted(set(range(len(_pixels(found)))) - set(kept))
    done.dropped.extend(SliceRef(scan.volume_id, number) for number in dropped)
