"""The pool of images with real artefacts, which targets may be mislabelled with.

Magnitude images get the matrix of the cohort, raw scans keep their own.

A moved scan of MR-ART lies on its clean twin's grid, has the coils of the twin's
simulated volume and, if `scans` is the same, its slices: what differs is the motion.
"""

import logging
from collections.abc import Callable, Sequence
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
from stages.synthesize.scans import Scan, ScanError
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
    for source in dict.fromkeys(sources):
        if source not in _SOURCES:
            raise ParamsError(
                f"params.yaml: 'artefacts' names {source}, which has no images with "
                f"artefacts; those that have: {', '.join(sorted(_SOURCES))}"
            )
        jobs += _jobs(source, raw(source), settings)
    with atomic_folder(folder) as fresh:
        records, skipped = _make(jobs, settings, fresh, workers)
        write_artefact_index(fresh, records, skipped)
    return records


def _jobs(source: str, folder: Path, settings: SynthesizeSettings) -> list[_Job]:
    if not folder.is_dir():
        raise ScanError(
            f"{folder} is missing: add {source} to download.sources and run "
            f"`dvc repro download@{source}`"
        )
    jobs = _SOURCES[source].jobs(folder, settings)
    if not jobs:
        raise ScanError(
            f"{folder} has no images with artefacts: {_SOURCES[source].expected}"
        )
    return sorted(jobs, key=lambda job: job.scan.volume_id)


def _of_mr_art(folder: Path, _settings: SynthesizeSettings) -> list[_Job]:
    jobs = []
    for pair in mr_art.pairs(folder):
        twin = mr_art.clean_scan(pair.clean)
        name = f"{twin.volume_id}-{mr_art.acquisition_of(pair.moved)}"
        moved = twin._replace(volume_id=name, files=(pair.moved, pair.clean))
        jobs.append(_Job("mr_art", moved, pair.score, twin))
    return jobs


def _of_exbox1(folder: Path, settings: SynthesizeSettings) -> list[_Job]:
    return [_Job("exbox1", scan) for scan in exbox1.walk(folder, settings.scans)]


def _of_m4raw(folder: Path, settings: SynthesizeSettings) -> list[_Job]:
    return [_Job("m4raw", scan) for scan in m4raw.find_motion(folder, settings.scans)]


def _make(
    jobs: Sequence[_Job],
    settings: SynthesizeSettings,
    folder: Path,
    workers: int | None,
) -> tuple[list[ArtefactRecord], list[SkippedFile]]:
    records: list[ArtefactRecord] = []
    skipped: list[SkippedFile] = []
    if not jobs:
        return records, skipped
    work = Work(_convert, _Shared(settings, folder))
    with closing(
        run_jobs(work, jobs, workers=workers, desc="scans with artefacts")
    ) as results:
        for job, result in zip(jobs, results, strict=True):
            if isinstance(result, ArtefactRecord):
                records.append(result)
                continue
            if settings.scans.on_error == "stop":
                raise ScanError(
                    f"{result} (or set synthesize.scans.on_error to skip, to leave "
                    "such files out)"
                )
            log.warning("left out: %s", result)
            skipped.append(SkippedFile(job.scan.files[0].name, result))
    if not records:
        raise ScanError(
            "every scan with artefacts was left out; the first one: "
            f"{skipped[0].reason}"
        )
    return records, skipped


def _convert(job: _Job, shared: _Shared) -> ArtefactRecord | str:
    """Make one volume; what ails it is told, so that the others go on."""
    try:
        targets = _SOURCES[job.source].targets(job, shared.settings)
    except (ScanError, VolumeError) as error:
        return str(error)
    write_targets(artefact_volume(shared.folder, job.scan.volume_id), targets)
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


def _moved(job: _Job, settings: SynthesizeSettings) -> np.ndarray:
    """Simulate a moved scan as its clean twin is simulated, slice for slice."""
    if job.twin is None:
        raise ScanError(f"{job.scan.files[0]}: no clean twin to register it to")
    still = mr_art.read(job.twin, settings.scans)
    kept = _kept(job.twin, still.image, settings)
    moved = still._replace(image=axial_slices(register_rigidly(*job.scan.files)))
    return images.to_volume(job.scan, moved, kept, settings).target


def _walked(job: _Job, settings: SynthesizeSettings) -> np.ndarray:
    """Slices as they are: of what contrast, nobody knows."""
    found = exbox1.read(job.scan, settings.scans)
    kept = _kept(job.scan, found.image, settings)
    return images.to_targets(found, kept, settings, where=job.scan.files[0])


def _measured(job: _Job, settings: SynthesizeSettings) -> np.ndarray:
    found = m4raw.read(job.scan, settings.scans)
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

    jobs: Callable[[Path, SynthesizeSettings], list[_Job]]
    targets: Callable[[_Job, SynthesizeSettings], np.ndarray]
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
