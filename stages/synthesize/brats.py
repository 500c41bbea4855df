"""BraTS: skull-stripped glioma patients, four co-registered contrasts, segmentations.

Layouts: `<case>/<case>_<suffix>.nii[.gz]` of 2018 to 2021, `<case>/<case>-<suffix>`
from 2023 on, or the Decathlon's Task01 (`imagesTr`, `labelsTr`, `dataset.json`), which
are cases of 2016 and 2017.

The numbers of a segmentation mean different things in different years, which the
values do not tell: 4 is enhancing tumour up to 2021, and a resection cavity in 2024.
The case's name tells. Here they become

    0 background   1 necrotic or non-enhancing core   2 oedema
    3 enhancing tumour   4 resection cavity
"""

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from stages.synthesize import task01
from stages.synthesize.nifti import (
    as_magnitude,
    axes_of,
    axial_slices,
    read_nifti,
    stem_of,
)
from stages.synthesize.scans import ImageScan, Problems, Scan, ScanError, plain_id
from stages.synthesize.settings import ScanSettings

SCANNER = "brats"
_CONTRASTS = {
    "flair": "FLAIR",
    "t2f": "FLAIR",
    "t1": "T1w",
    "t1n": "T1w",
    "t1ce": "T1c",
    "t1c": "T1c",
    "t2": "T2w",
    "t2w": "T2w",
}
_SEGMENTATION = "seg"


class Release(NamedTuple):
    """Cases that are named alike.

    Attributes:
        name: for people.
        people: releases of one value share their numbering of people.
        case: of a folder; the group is the person, without the time point.
        labels: number in the file -> number here.
    """

    name: str
    people: str
    case: re.Pattern[str]
    labels: dict[int, int]


_ET_IS_4 = {0: 0, 1: 1, 2: 2, 4: 3}
_ET_IS_3 = {0: 0, 1: 1, 2: 2, 3: 3}
_WITH_CAVITY = {**_ET_IS_3, 4: 4}
RELEASES = (
    Release(
        "BraTS 2018 or 2019",
        "2018",
        re.compile(r"(Brats(?:18|19)_.+?)_\d+", re.IGNORECASE),
        _ET_IS_4,
    ),
    Release("BraTS 2020", "2020", re.compile(r"(BraTS20_[A-Za-z]+_\d+)"), _ET_IS_4),
    Release("BraTS 2021", "2021", re.compile(r"(BraTS2021_\d+)"), _ET_IS_4),
    Release(
        "BraTS 2023 (glioma)", "GLI", re.compile(r"(BraTS-GLI-\d+)-0\d\d"), _ET_IS_3
    ),
    Release(
        "BraTS 2024 (glioma after treatment)",
        "GLI",
        re.compile(r"(BraTS-GLI-\d+)-[1-9]\d\d"),
        _WITH_CAVITY,
    ),
)


def find(folder: Path, _settings: ScanSettings, problems: Problems) -> list[Scan]:
    """List every contrast of every case; BraTS has no split of its own.

    A problem is a case of an unknown name, without an image or with one twice, and one
    that lacks a contrast which others have: every case is published with all.

    Raises:
        ScanError: cases of several years lie together, which share patients under
            different names.
    """
    decathlon = task01.description(folder)
    scans = [] if decathlon is None else task01.list_scans(decathlon, problems)
    people = {"Task01": decathlon} if decathlon is not None and scans else {}
    ours = set() if decathlon is None else {decathlon.parent, *task01.parts(decathlon)}
    cases: dict[Path, list[Scan]] = {}
    for case in sorted(path for path in folder.iterdir() if path.is_dir()):
        if case in ours or case.name.startswith((".", "__")):
            continue
        try:
            release, _person = _release(case)
            cases[case] = _scans_of(case)
        except ScanError as error:
            problems.add(error, case)
            continue
        other = people.setdefault(release.people, case)
        if len(people) > 1:
            first = next(iter(people.values()))
            raise ScanError(
                f"{other}: {release.name} lies together with {first.name}: releases "
                "hold the same patients under other names, who would be in two "
                "splits; keep one release"
            )
    scans += _whole_cases(cases, problems)
    return sorted(scans, key=lambda scan: scan.volume_id)


def read(scan: Scan, _settings: ScanSettings, _problems: Problems) -> ImageScan:
    """Read one contrast and, where there is one, the segmentation.

    Raises:
        ScanError: a file is damaged, or the segmentation does not fit.
    """
    path = scan.files[0]
    channel, acquisition, labels = _meaning(scan)
    volume, spacing = read_nifti(path, channel)
    image = axial_slices(as_magnitude(volume, path))
    lesion = None
    if len(scan.files) > 1:
        lesion = axial_slices(_segmentation(scan, volume.shape, labels))
    return ImageScan(image, (spacing[1], spacing[0]), acquisition, SCANNER, lesion)


def _meaning(scan: Scan) -> tuple[int | None, str, dict[int, int]]:
    """Which volume of the file, its name in the source, and what its labels mean."""
    path = scan.files[0]
    if path.parent.name == task01.IMAGES:
        return task01.meaning(path.parent.parent, scan.contrast)
    release, _person = _release(path.parent)
    suffix = (stem_of(path) or "")[len(path.parent.name) + 1 :]
    return None, suffix, release.labels


def _release(case: Path) -> tuple[Release, str]:
    """The release that a case's name belongs to, and the person."""
    for release in RELEASES:
        if match := release.case.fullmatch(case.name):
            return release, match[1]
    raise ScanError(
        f"{case}: no case of a known release (expected names as Brats18_*_1, "
        "BraTS20_Training_001, BraTS2021_00000, BraTS-GLI-00000-000): without the "
        "year the labels mean nothing; rename or remove it"
    )


def _scans_of(case: Path) -> list[Scan]:
    files = _files_of(case)
    segmentation = files.pop(_SEGMENTATION, None)
    if not files:
        raise ScanError(
            f"{case}: no image; expected {case.name}_<suffix>.nii.gz or "
            f"{case.name}-<suffix>.nii.gz with one of {', '.join(_CONTRASTS)}: "
            "download the case again, or remove it"
        )
    _release_of_case, person = _release(case)
    scans: dict[str, Scan] = {}
    for suffix, path in sorted(files.items()):
        contrast = _CONTRASTS[suffix]
        if contrast in scans:
            raise ScanError(
                f"{path} and {scans[contrast].files[0]} both are {contrast} of "
                f"{case.name}: remove one"
            )
        scans[contrast] = Scan(
            volume_id=f"{plain_id(case.name)}_{contrast}",
            subject_id=plain_id(person),
            contrast=contrast,
            split=None,
            files=(path,) if segmentation is None else (path, segmentation),
        )
    return list(scans.values())


def _whole_cases(cases: dict[Path, list[Scan]], problems: Problems) -> list[Scan]:
    """Scans of cases that lack no contrast: what no case has was never brought."""
    brought = {scan.contrast for scans in cases.values() for scan in scans}
    whole = []
    for case, scans in cases.items():
        missing = [
            problems.add(
                ScanError(
                    f"{case}: no {contrast}, which other cases have: download the case "
                    "again, or remove it"
                ),
                case,
                contrast=contrast,
            )
            for contrast in sorted(brought - {scan.contrast for scan in scans})
        ]
        whole += [] if any(missing) else scans
    return whole


def _files_of(case: Path) -> dict[str, Path]:
    """Files by suffix; what has another name is none of the release's."""
    files: dict[str, Path] = {}
    for path in sorted(case.iterdir()):
        stem = stem_of(path) or ""
        suffix = stem[len(case.name) + 1 :].lower()
        if not stem.startswith((f"{case.name}_", f"{case.name}-")):
            continue
        if suffix not in {*_CONTRASTS, _SEGMENTATION}:
            continue
        if suffix in files:
            raise ScanError(
                f"{path} and {files[suffix].name} are the same image twice: remove one"
            )
        files[suffix] = path
    return files


def _segmentation(
    scan: Scan, shape: tuple[int, ...], labels: dict[int, int]
) -> np.ndarray:
    """The segmentation in this file's numbers, (X, Y, Z) uint8."""
    image, path = scan.files[:2]
    values, _spacing = read_nifti(path)
    if values.shape != shape:
        raise ScanError(
            f"{path}: segmentation is {values.shape}, image {image.name} {shape}: "
            "they must lie on one grid; download the case again",
            path=path,
        )
    if axes_of(path) != axes_of(image):
        raise ScanError(
            f"{path}: segmentation's axes point to {axes_of(path)}, those of "
            f"{image.name} to {axes_of(image)}: it would lie mirrored; correct its "
            "header",
            path=path,
        )
    found = np.unique(values)
    strange = [f"{value:g}" for value in found if value not in labels]
    if strange:
        raise ScanError(
            f"{path}: holds label {', '.join(strange[:5])}, this release has "
            f"{', '.join(map(str, sorted(labels)))}: is it a case of another year, or "
            "no segmentation? rename or remove it",
            path=path,
        )
    renumbered = np.zeros(values.shape, np.uint8)
    for number, here in labels.items():
        renumbered[values == number] = here
    return renumbered
