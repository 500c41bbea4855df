"""Simulate and write the whole cohort, in parallel over subjects."""

import importlib
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from stages.common.manifest import Manifest, SliceRef, VolumeRecord, write_manifest
from stages.common.paths import SPLITS
from stages.common.runtime import progress
from stages.common.volume import write_volume
from stages.synthesize.anatomy import Anatomy
from stages.synthesize.settings import SynthesizeSettings
from stages.synthesize.subject import scan_subject


class Job(NamedTuple):
    """One subject to simulate; `number` is its seed within the split."""

    split: str
    number: int
    subject_id: str
    source: str


class Done(NamedTuple):
    """What one subject adds to its split's manifest."""

    split: str
    volumes: list[VolumeRecord]
    dropped: list[SliceRef]


def load_anatomy(source: str, raw: Callable[[str], Path]) -> Anatomy:
    """Read an anatomy by the name of its module."""
    module = importlib.import_module(f"stages.synthesize.{source}")
    folder = raw(source)
    try:
        anatomy: Anatomy = module.load(folder)
    except FileNotFoundError as error:
        raise ValueError(
            f"{error.filename or folder} is missing: run `dvc repro download@{source}`"
        ) from None
    except (OSError, EOFError) as error:
        raise ValueError(
            f"{folder} cannot be read ({error}): run "
            f"`dvc repro --force --single-item download@{source}`"
        ) from None
    return anatomy


def plan(settings: SynthesizeSettings) -> list[Job]:
    """List the subjects; ids of one anatomy count on from split to split."""
    jobs = []
    counts: dict[str, int] = {}
    for split in SPLITS:
        source: str = getattr(settings.sources, split)
        prefix = importlib.import_module(f"stages.synthesize.{source}").PREFIX
        for number in range(getattr(settings.subjects, split)):
            index = counts.get(source, 0)
            counts[source] = index + 1
            jobs.append(Job(split, number, f"{prefix}-{index:03d}", source))
    return jobs


def synthesize_cohort(
    settings: SynthesizeSettings,
    *,
    raw: Callable[[str], Path],
    volumes: Callable[[str], Path],
    manifest: Callable[[str], Path],
    workers: int | None = None,
) -> dict[str, Manifest]:
    """Write every volume, then the manifests of the splits.

    Args:
        settings: the cohort.
        raw: folder of a source.
        volumes: folder of a split's volumes.
        manifest: manifest file of a split.
        workers: processes; None takes one per CPU. It changes no result.

    Returns:
        The manifest of each split.

    Raises:
        ValueError: an anatomy is missing, or no slice of a subject holds tissue.
    """
    jobs = plan(settings)
    for split in SPLITS:
        # Without a manifest nothing trusts a folder that an earlier run left.
        manifest(split).unlink(missing_ok=True)
        shutil.rmtree(volumes(split), ignore_errors=True)
    done: list[Done] = []
    sources = sorted({job.source for job in jobs})
    for source in sources:
        anatomy = load_anatomy(source, raw)
        mine = [job for job in jobs if job.source == source]
        folders = {job.split: volumes(job.split) for job in mine}
        count = min(workers or os.cpu_count() or 1, len(mine))
        with ProcessPoolExecutor(
            count, initializer=_start_worker, initargs=(anatomy, settings, folders)
        ) as pool:
            results = pool.map(_run_job, mine)
            done += progress(results, total=len(mine), desc=f"subjects of {source}")
    manifests = {split: _collect(split, done) for split in SPLITS}
    for split, content in manifests.items():
        write_manifest(manifest(split), content)
    return manifests


def _collect(split: str, done: list[Done]) -> Manifest:
    mine = [result for result in done if result.split == split]
    return Manifest(
        split=split,
        volumes=tuple(record for result in mine for record in result.volumes),
        dropped_slices=tuple(sorted(ref for result in mine for ref in result.dropped)),
    )


class _Worker:
    """What a worker process was started with: too large to send with every job."""

    anatomy: Anatomy
    settings: SynthesizeSettings
    folders: dict[str, Path]


def _start_worker(
    anatomy: Anatomy, settings: SynthesizeSettings, folders: dict[str, Path]
) -> None:
    _Worker.anatomy, _Worker.settings, _Worker.folders = anatomy, settings, folders
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A killed parent takes its workers along, or they would wait for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run_job(job: Job) -> Done:
    settings = _Worker.settings
    scan = scan_subject(
        _Worker.anatomy,
        settings,
        key=(SPLITS.index(job.split), job.number),
        subject_id=job.subject_id,
    )
    if not scan.volumes:
        raise ValueError(
            f"no slice of {job.subject_id} holds tissue: synthesize.extent = "
            f"{list(settings.extent)} mm lies outside the head, or "
            f"synthesize.min_tissue = {settings.min_tissue} is too high"
        )
    records = []
    for contrast, volume in scan.volumes.items():
        volume_id = f"{job.subject_id}_{contrast}"
        write_volume(_Worker.folders[job.split] / f"{volume_id}.h5", volume)
        records.append(
            VolumeRecord(
                volume_id=volume_id,
                subject_id=job.subject_id,
                contrast=contrast,
                scanner=settings.coil.scanner,
                num_slices=len(volume.target),
                coils=volume.kspace.shape[1],
                matrix=volume.target.shape[1:],
                max_value=float(volume.target.max()),
            )
        )
    dropped = [
        SliceRef(record.volume_id, number)
        for record in records
        for number in scan.dropped
    ]
    return Done(job.split, records, dropped)
