"""M4Raw: raw brain scans at 0.3 T, each contrast measured two to six times.

Layout: `<set>/<id>_<contrast><repetition>.h5`, such as `2022061203_T101.h5`, in
multicoil_train, multicoil_val, multicoil_test and gre_data; scans with real motion in
motion/inter-scan_motion and motion/intra-scan_motion. A repetition is a file.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.synthesize import hdf5, raw
from stages.synthesize.scans import Problems, RawScan, Scan, ScanError
from stages.synthesize.settings import ScanSettings

SCANNER = "m4raw-0.3T"
SETS = {"multicoil_train": "train", "multicoil_val": "val", "multicoil_test": "test"}
GRE = "gre_data"  # of subjects of all sets
MOTION = "motion"
CONTRASTS = {"T1": "T1w", "T2": "T2w", "FLAIR": "FLAIR", "GRE": "GRE"}
TARGET = "reconstruction_rss"

_NAME = re.compile(r"(\d+)_(FLAIR|T1|T2|GRE)(\d{2})")


class _File(NamedTuple):
    """One repetition, as its name says."""

    subject: str
    contrast: str
    repetition: int
    path: Path


class _Repetition(NamedTuple):
    """What its file holds; the image is None where there is none."""

    kspace: np.ndarray
    target: np.ndarray | None
    header: str | None
    acquisition: str | None


def find(folder: Path, settings: ScanSettings, problems: Problems) -> list[Scan]:
    """List the scans of all sets, without those with motion.

    Scans of gre_data belong to the split of their subject's other scans, or to none.
    A problem is a name that is not M4Raw's, and two files that are one repetition.

    Raises:
        ScanError: a subject is in two sets.
    """
    splits: dict[str, tuple[str, Path]] = {}
    files: list[_File] = []
    for name, its_split in SETS.items():
        for file in _files(hdf5.files_of(folder / name), problems):
            other, path = splits.setdefault(file.subject, (its_split, file.path))
            if other != its_split:
                raise ScanError(
                    f"{file.path} and {path}: subject {file.subject} is in two sets, "
                    f"{its_split} and {other}: no person may be in both; remove one"
                )
            files.append(file)
    files += _files(hdf5.files_of(folder / GRE), problems)
    found = []
    for group in _groups(files, settings, problems):
        split, _ = splits.get(group[0].subject, (None, None))
        found.append(_scan(group, settings, split=split))
    return sorted(found)


def find_motion(folder: Path, settings: ScanSettings, problems: Problems) -> list[Scan]:
    """List the scans with real motion: material for attacks, in no split.

    What an id says of repetitions is as in `find`; `inter` and `intra` tell the kind.
    """
    kinds: dict[str, list[Path]] = {}
    for path in sorted((folder / MOTION).rglob(f"*{hdf5.SUFFIX}")):
        if hdf5.is_hdf5(path):
            kind = path.parent.name.removesuffix("-scan_motion")
            kinds.setdefault(kind, []).append(path)
    found = [
        _scan(group, settings, kind=kind)
        for kind, paths in kinds.items()
        for group in _groups(_files(paths, problems), settings, problems)
    ]
    return sorted(found)


def read(scan: Scan, _settings: ScanSettings, problems: Problems) -> RawScan:
    """Read a repetition, or the mean of several.

    It is the mean of their complex k-space, all of one session, so that target and
    k-space agree; upstream takes the mean of magnitudes, whose noise has a floor. What
    upstream publishes is one image a repetition: each is compared with its own
    repetition, and for the mean there is none. A damaged one of several is a problem,
    and the mean is that of the others.

    Raises:
        ScanError: no file is sound, or repetitions have different shapes.
    """
    alone = len(scan.files) == 1
    if alone:
        found = _read_file(scan.files[0], needs_image=True)
    else:
        found = _mean(scan, problems)
    return RawScan(
        kspace=found.kspace,
        target=found.target if alone else None,
        header=found.header,
        acquisition=found.acquisition or scan.contrast,
        scanner=SCANNER,
    )


def _read_file(path: Path, *, needs_image: bool) -> _Repetition:
    with hdf5.open_scan(path) as file:
        kspace = hdf5.read_kspace(file, path, ndims=(4,))
        header = hdf5.read_header(file, path)
        hdf5.check_coils(header, kspace.shape, path)
        target = None
        if needs_image or TARGET in file:
            target = hdf5.read_image(file, TARGET, path)
        acquisition = hdf5.read_attribute(file, "acquisition")
    return _Repetition(kspace, target, header, acquisition)


def _mean(scan: Scan, problems: Problems) -> _Repetition:
    """The mean of the repetitions that are sound, in the place of the first."""
    mean: _Repetition | None = None
    first, columns, count = scan.files[0], None, 0
    for path in scan.files:
        try:
            other, found = _sound(path)
        except ScanError as error:
            problems.add_scan(error, scan, path)
            continue
        count += 1
        if mean is None:
            mean, first, columns = other, path, found
            continue
        total = mean.kspace
        # Which of them is right, nobody knows: there is no scan without one.
        if other.kspace.shape != total.shape:
            raise ScanError(
                f"{path}: kspace is {other.kspace.shape}, of {first.name} "
                f"{total.shape}: repetitions must have one shape; remove one, or set "
                "synthesize.scans.repetitions to keep",
                path=path,
            )
        if found != columns:
            raise ScanError(
                f"{path}: columns {found or 'all'} are acquired, of {first.name} "
                f"{columns or 'all'}: such repetitions have no mean; remove one, or "
                "set synthesize.scans.repetitions to keep",
                path=path,
            )
        total += other.kspace
    if mean is None:
        raise ScanError(
            f"{first}: none of {len(scan.files)} repetitions is sound: download them "
            "again, or remove them"
        )
    total = mean.kspace
    total /= count
    return mean


def _sound(path: Path) -> tuple[_Repetition, tuple[int, int] | None]:
    """A repetition and its acquired columns, unless it is not what its image shows.

    Each alone: in the mean, damage could no longer be told from the others' signal.
    """
    found = _read_file(path, needs_image=False)
    columns = raw.check_kspace(found.kspace, path)
    if found.target is not None:
        raw.check_published(found.target, found.kspace.shape, path)
        raw.compare_published(found.target, raw.rss_images(found.kspace), path)
    return found, columns


def _files(paths: Iterable[Path], problems: Problems) -> list[_File]:
    files = []
    for path in paths:
        # T101 is the first repetition of T1, not the hundred-and-first of T.
        match = _NAME.fullmatch(path.stem)
        if match is None:
            error = ScanError(
                f"{path}: not a name of M4Raw, which are <id>_<T1, T2, FLAIR or GRE>"
                "<repetition>.h5, such as 2022061203_T101.h5: rename it, or remove it"
            )
            problems.add(error, path, split=SETS.get(path.parent.name))
            continue
        subject, contrast, repetition = match.groups()
        files.append(_File(subject, CONTRASTS[contrast], int(repetition), path))
    return files


def _groups(
    files: list[_File], settings: ScanSettings, problems: Problems
) -> list[list[_File]]:
    """The files of each scan, by repetition."""
    groups: dict[tuple[str, str], dict[int, list[_File]]] = {}
    for file in files:
        group = groups.setdefault((file.subject, file.contrast), {})
        group.setdefault(file.repetition, []).append(file)
    ordered = [
        [same[0] for _, same in sorted(group.items()) if _is_one(same, problems)]
        for group in groups.values()
    ]
    if settings.repetitions == "keep":
        return [[file] for group in ordered for file in group]
    if settings.repetitions == "first":
        return [group[:1] for group in ordered if group]
    return [group for group in ordered if group]


def _is_one(files: list[_File], problems: Problems) -> bool:
    """Whether a repetition has one file: which of several is right, nobody knows."""
    if len(files) == 1:
        return True
    paths = " and ".join(str(file.path) for file in reversed(files))
    error = ScanError(f"{paths} are one repetition of one scan: remove one")
    sets = [file.path.parent.name for file in files]
    for file in files:
        problems.add(
            error,
            file.path,
            subject_id=_subject(file),
            contrast=file.contrast,
            split=next((SETS[name] for name in sets if name in SETS), None),
        )
    return False


def _subject(file: _File) -> str:
    return f"m4raw-{file.subject}"


def _scan(
    group: list[_File],
    settings: ScanSettings,
    *,
    split: str | None = None,
    kind: str = "",
) -> Scan:
    first = group[0]
    subject = _subject(first)
    name = f"{subject}_{first.contrast}"
    if settings.repetitions == "keep":
        name += f"-{first.repetition:02d}"
    if kind:
        name += f"-{kind}"
    paths = tuple(file.path for file in group)
    return Scan(name, subject, first.contrast, split, paths)
