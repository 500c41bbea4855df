"""Volumes that come from real scans."""

import logging
from contextlib import closing
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np

from stages.common.manifest import SkippedFile, SliceRef, VolumeRecord
from stages.common.volume import VolumeError, write_volume
from stages.synthesize import images, raw
from stages.synthesize.partition import scans_of
from stages.synthesize.processes import Work, run_jobs
from stages.synthesize.scans import ImageScan, RawScan, Scan, ScanError
from stages.synthesize.selection import kept_slices, require_slices, slice_signal
from stages.synthesize.settings import SynthesizeSettings
from stages.synthesize.simulated import Done

log = logging.getLogger("mendmri")


Problem = tuple[Path, str]

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
    if not downloaded.is_dir():
        raise ScanError(
            f"{downloaded} is missing: run `dvc repro download@{downloaded.name}`"
        )
    scans = scans_of(split, source.find(downloaded, settings.scans), settings)
    people: dict[str, list[Scan]] = {}
    for scan in scans:
        people.setdefault(scan.subject_id, []).append(scan)
    shared = _Shared(source.__name__, settings, folder)
    work, jobs = Work(_convert, shared), list(people.values())
    desc = f"subjects of {downloaded.name}"
    done: list[Done] = []
    skipped: list[SkippedFile] = []
    with closing(run_jobs(work, jobs, workers=workers, desc=desc)) as results:
        for result, problems in results:
            done.append(result)
            for path, reason in problems:
                if settings.scans.on_error == "stop":
                    raise ScanError(
                        f"{reason} (or set synthesize.scans.on_error to skip, to "
                        "leave such files out)"
                    )
                log.warning("left out: %s", reason)
                name = path.relative_to(downloaded).as_posix()
                skipped.append(SkippedFile(name, reason))
    if not any(result.volumes for result in done):
        raise ScanError(
            f"{split}: every file of {downloaded.name} was left out, the split is "
            f"empty; the first one: {skipped[0].reason}"
        )
    return done, skipped


def _convert(scans: list[Scan], shared: _Shared) -> tuple[Done, list[Problem]]:
    """Convert one person's scans; what ails one is told, so that others go on."""
    settings = shared.settings
    reader = import_module(shared.source)
    done, problems = Done([], []), []
    held: dict[Scan, RawScan | ImageScan] = {}
    signals: dict[Scan, np.ndarray] = {}
    room = HELD_BYTES
    for scan in scans:
        try:
            found = reader.read(scan, settings.scans)
            signals[scan] = slice_signal(_images(scan, found))
        except (ScanError, VolumeError) as error:
            problems.append(_problem(scan, error))
            continue
        room -= _pixels(found).nbytes
        if room >= 0:
            held[scan] = found
        del found
    kept = kept_slices({s.volume_id: v for s, v in signals.items()}, settings.scans)
    for scan in signals:
        try:
            # A person may have more scans than memory holds: those are read again.
            found = held.pop(scan, None) or reader.read(scan, settings.scans)
            _write(scan, found, kept[scan.volume_id], shared, done)
        except (ScanError, VolumeError) as error:
            problems.append(_problem(scan, error))
    return done, problems


def _problem(scan: Scan, error: ScanError | VolumeError) -> Problem:
    return getattr(error, "path", None) or scan.files[0], str(error)


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
    write_volume(shared.folder / f"{scan.volume_id}.h5", volume)
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
