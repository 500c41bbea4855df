"""Subjects that are simulated from an anatomy."""

from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from stages.common.manifest import SliceRef, VolumeRecord
from stages.common.params import ParamsError
from stages.common.paths import SPLITS
from stages.common.volume import write_volume
from stages.synthesize.anatomy import Anatomy
from stages.synthesize.processes import Work, run_jobs
from stages.synthesize.scanners import whose_turn
from stages.synthesize.settings import SynthesizeSettings
from stages.synthesize.subject import scan_subject


class Job(NamedTuple):
    """One subject to simulate; `number` is its seed within the split."""

    split: str
    number: int
    subject_id: str


class Done(NamedTuple):
    """What one subject, or one scan, adds to its split's manifest."""

    volumes: list[VolumeRecord]
    dropped: list[SliceRef]


class _Shared(NamedTuple):
    """What every worker needs."""

    anatomy: Anatomy
    settings: SynthesizeSettings
    folder: Path


def simulate_split(
    split: str,
    settings: SynthesizeSettings,
    *,
    source: ModuleType,
    raw: Path,
    folder: Path,
    workers: int | None,
) -> list[Done]:
    """Simulate the subjects of a split and write their volumes.

    Args:
        split: train, val or test.
        settings: the cohort.
        source: the anatomy's file.
        raw: folder of what was downloaded.
        folder: of the split's volumes.
        workers: processes; None takes one per CPU.

    Raises:
        ValueError: the anatomy is missing, or no slice of a subject holds tissue.
    """
    jobs = plan(split, settings, source.PREFIX)
    shared = _Shared(load_anatomy(source, raw), settings, folder)
    desc = f"subjects of {raw.name}"
    return list(run_jobs(Work(_simulate, shared), jobs, workers=workers, desc=desc))


def plan(split: str, settings: SynthesizeSettings, prefix: str) -> list[Job]:
    """List a split's subjects; ids of one anatomy count on from split to split.

    Raises:
        ParamsError: a number of subjects or a contrast's sequence is missing.
    """
    missing = [c for c in settings.contrasts if c not in settings.sequences]
    if missing:
        raise ParamsError(
            f"params.yaml: 'synthesize.sequences' has no entry for "
            f"{', '.join(missing)}, which synthesize.contrasts asks for"
        )
    source = getattr(settings.sources, split)
    first = 0
    for name in SPLITS:
        count = getattr(settings.subjects, name)
        if getattr(settings.sources, name) != source:
            continue
        if count is None:
            raise ParamsError(
                f"params.yaml: 'synthesize.subjects.{name}' is null, which only "
                f"scans allow: say how many subjects are simulated from {source}"
            )
        if name == split:
            return [Job(split, n, f"{prefix}-{first + n:03d}") for n in range(count)]
        first += count
    return []


def load_anatomy(source: ModuleType, raw: Path) -> Anatomy:
    """Read an anatomy.

    Raises:
        ValueError: it is missing or damaged; names the stage that mends it.
    """
    try:
        anatomy: Anatomy = source.load(raw)
    except FileNotFoundError as error:
        raise ValueError(
            f"{error.filename or raw} is missing: run `dvc repro download@{raw.name}`"
        ) from None
    except (OSError, EOFError) as error:
        raise ValueError(
            f"{raw} cannot be read ({error}): run "
            f"`dvc repro --force --single-item download@{raw.name}`"
        ) from None
    return anatomy


def _simulate(job: Job, shared: _Shared) -> Done:
    settings = shared.settings
    scanner = whose_turn(settings.scanners, job.number)
    scan = scan_subject(
        shared.anatomy,
        settings,
        key=(SPLITS.index(job.split), job.number),
        subject_id=job.subject_id,
        scanner=scanner,
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
        write_volume(shared.folder / f"{volume_id}.h5", volume)
        records.append(
            VolumeRecord(
                volume_id=volume_id,
                subject_id=job.subject_id,
                contrast=contrast,
                scanner=scanner,
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
    return Done(records, dropped)
