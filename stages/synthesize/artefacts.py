"""The pool of images with real artefacts, which targets may be mislabelled with.

Magnitude images get the matrix of the cohort, raw scans keep their own.

A moved scan of MR-ART lies on its clean twin's grid, has the coils of the twin's
simulated volume and, if `scans` is the same, its slices: what differs is the motion.
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.common.artefacts import (
    ArtefactRecord,
    artefact_volume,
    write_artefact_index,
)
from stages.common.folders import atomic_folder
from stages.common.manifest import SkippedFile
from stages.common.params import ParamsError
from stages.common.volume import VolumeError, write_targets
from stages.synthesize import exbox1, images, m4raw, mr_art
from stages.synthesize import raw as measured
from stages.synthesize.nifti import axial_slices
from stages.synthesize.processes import Work, run_jobs
from stages.synthesize.registration import register_rigidly
from stages.synthesize.scans import Problem, Problems, Scan, ScanError
from stages.synthesize.selection import kept_slices, require_slices, slice_signal
from stages.synthesize.settings import SynthesizeSettings

log = logging.getLogger("mendmri")


class _Job(NamedTuple):
    """One volume to make; `twin` is the clean scan of the same head."""

    source: str
    scan: Scan
    score: int | None = None
    twin: Scan | None = None


class _Shared(NamedTuple):
    """What every worker needs."""

    settings: SynthesizeSettings
    folder: Path


class _Made(NamedTuple):
    """What the pool's index lists."""

    records: list[ArtefactRecord]
    skipped: list[SkippedFile]


def write_pool(
    sources: Sequence[str],
    *,
    raw: Callable[[str], Path],
    folder: Path,
    settings: SynthesizeSettings,
    workers: int | None = None,
) -> list[ArtefactRecord]:
    """Write the pool, whole or not at all.

    Args:
        sources: names; none makes an empty pool.
        raw: where a source was downloaded to.
        folder: of the pool.
        settings: the cohort that the pool belongs to.
        workers: processes; None takes one per CPU. It changes no result.

    Returns:
        What the pool's index lists.

    Raises:
        ParamsError: a source has no images with artefacts.
        ScanError: a source is missing or empty, or a file is damaged.
    """
    jobs: list[_Job] = []
    made = _Made([], [])
    for source in dict.fromkeys(sources):
        if source not in _SOURCES:
            raise ParamsError(
                f"params.yaml: 'artefacts' names {source}, which has no images with "
                f"artefacts; those that have: {', '.join(sorted(_SOURCES))}"
            )
        problems = Problems(settings.scans.on_error)
        jobs += _jobs(source, raw(source), settings, problems)
        made.skipped.extend(_told(problems.found, source, raw(source)))
    with atomic_folder(folder) as fresh:
        _make(jobs, _Shared(settings, fresh), made, raw=raw, workers=workers)
        write_artefact_index(fresh, made.records, made.skipped)
    return made.records


def _jobs(
    source: str, folder: Path, settings: SynthesizeSettings, problems: Problems
) -> list[_Job]:
    if not folder.is_dir():
        raise ScanError(
            f"{folder} is missing: add {source} to download.sources and run "
            f"`dvc repro download@{source}`"
        )
    jobs = _SOURCES[source].jobs(folder, settings, problems)
    if not jobs and not problems.found:
        raise ScanError(
            f"{folder} has no images with artefacts: {_SOURCES[source].expected}"
        )
    return sorted(jobs, key=lambda job: job.scan.volume_id)


def _told(problems: Iterable[Problem], source: str, folder: Path) -> list[SkippedFile]:
    """What the index says of what is left out of a source."""
    told = []
    for problem in problems:
        log.warning("left out: %s", problem.reason)
        name = problem.path.relative_to(folder).as_posix()
        told.append(SkippedFile(f"{source}/{name}", problem.reason))
    return told


def _of_mr_art(
    folder: Path, _settings: SynthesizeSettings, problems: Problems
) -> list[_Job]:
    jobs = []
    for pair in mr_art.pairs(folder, problems):
        twin = mr_art.clean_scan(pair.clean)
        name = f"{twin.volume_id}-{mr_art.acquisition_of(pair.moved)}"
        moved = twin._replace(volume_id=name, files=(pair.moved, pair.clean))
        jobs.append(_Job("mr_art", moved, pair.score, twin))
    return jobs


def _of_exbox1(
    folder: Path, _settings: SynthesizeSettings, problems: Problems
) -> list[_Job]:
    return [_Job("exbox1", scan) for scan in exbox1.walk(folder, problems)]


def _of_m4raw(
    folder: Path, settings: SynthesizeSettings, problems: Problems
) -> list[_Job]:
    scans = m4raw.find_motion(folder, settings.scans, problems)
    return [_Job("m4raw", scan) for scan in scans]


def _make(
    jobs: Sequence[_Job],
    shared: _Shared,
    made: _Made,
    *,
    raw: Callable[[str], Path],
    workers: int | None,
) -> None:
    """Write the volumes, and add to what is made and what is skipped."""
    if jobs:
        work, desc = Work(_convert, shared), "scans with artefacts"
        with closing(run_jobs(work, jobs, workers=workers, desc=desc)) as results:
            for job, (record, problems) in zip(jobs, results, strict=True):
                made.records.extend([record] if record is not None else [])
                made.skipped.extend(_told(problems, job.source, raw(job.source)))
    if made.skipped and not made.records:
        raise ScanError(
            "every scan with artefacts was left out; the first one: "
            f"{made.skipped[0].reason}"
        )


def _convert(job: _Job, shared: _Shared) -> tuple[ArtefactRecord | None, list[Problem]]:
    """Make one volume; what ails it is told, so that the others go on."""
    problems = Problems(shared.settings.scans.on_error)
    try:
        targets = _SOURCES[job.source].targets(job, shared.settings, problems)
    except (ScanError, VolumeError) as error:
        # Of a pair the moved scan is left out, whichever of the two is damaged.
        moved = None if job.twin is None else job.scan.files[0]
        problems.add_scan(error, job.scan, moved)
        return None, problems.found
    write_targets(artefact_volume(shared.folder, job.scan.volume_id), targets)
    return _record(job, targets), problems.found


def _record(job: _Job, targets: np.ndarray) -> ArtefactRecord:
    return ArtefactRecord(
        volume_id=job.scan.volume_id,
        subject_id=job.scan.subject_id,
        contrast=job.scan.contrast,
        source=job.source,
        score=job.score,
        pair=job.twin.volume_id if job.twin is not None else None,
        num_slices=len(targets),
        matrix=(targets.shape[1], targets.shape[2]),
    )


def _moved(job: _Job, settings: SynthesizeSettings, problems: Problems) -> np.ndarray:
    """Simulate a moved scan as its clean twin is simulated, slice for slice."""
    if job.twin is None:
        raise ScanError(f"{job.scan.files[0]}: no clean twin to register it to")
    still = mr_art.read(job.twin, settings.scans, problems)
    kept = _kept(job.twin, still.image, settings)
    moved = still._replace(image=axial_slices(register_rigidly(*job.scan.files)))
    return images.to_volume(job.scan, moved, kept, settings).target


def _walked(job: _Job, settings: SynthesizeSettings, problems: Problems) -> np.ndarray:
    """Slices as they are: of what contrast, nobody knows."""
    found = exbox1.read(job.scan, settings.scans, problems)
    kept = _kept(job.scan, found.image, settings)
    return images.to_targets(found, kept, settings, where=job.scan.files[0])


def _measured(
    job: _Job, settings: SynthesizeSettings, problems: Problems
) -> np.ndarray:
    found = m4raw.read(job.scan, settings.scans, problems)
    measured.check_raw(job.scan, found)
    kept = _kept(job.scan, measured.rss_images(found.kspace), settings)
    return measured.to_volume(job.scan, found, kept)[0].target


def _kept(
    scan: Scan, magnitudes: np.ndarray, settings: SynthesizeSettings
) -> list[int]:
    signals = {scan.volume_id: slice_signal(magnitudes)}
    kept = kept_slices(signals, settings.scans)[scan.volume_id]
    require_slices(kept, scan.files[0], settings.scans)
    return kept


class _Source(NamedTuple):
    """How a source's volumes are listed and made, and what to do if there is none."""

    jobs: Callable[[Path, SynthesizeSettings, Problems], list[_Job]]
    targets: Callable[[_Job, SynthesizeSettings, Problems], np.ndarray]
    expected: str


_SOURCES = {
    "mr_art": _Source(
        _of_mr_art, _moved, "add headmotion1 to download.mr_art.acquisitions"
    ),
    "exbox1": _Source(
        _of_exbox1, _walked, "expected 3-D NIfTI files of 18 slices or more"
    ),
    "m4raw": _Source(_of_m4raw, _measured, "add motion to download.m4raw.sets"),
}
