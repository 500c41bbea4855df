"""MR-ART: T1w scans of 148 people, each once at rest and twice with head motion.

Layout: `<sub>/anat/<sub>_acq-{standard,headmotion1,headmotion2}_T1w.nii.gz`, and
`<sub>/<sub>_scans.tsv` with a neuroradiologist's score: 1 good, 2 medium, 3 unusable.
"""

import csv
import logging
from pathlib import Path
from typing import NamedTuple

from stages.synthesize.nifti import read_axial
from stages.synthesize.scans import ImageScan, Problems, Scan, ScanError, plain_id
from stages.synthesize.settings import ScanSettings

SCANNER = "mr_art"
CLEAN = "standard"
MOVED = ("headmotion1", "headmotion2")
_UNUSABLE = 3
_SCORES = ("1", "2", "3")

log = logging.getLogger("mendmri")


class Pair(NamedTuple):
    """A scan with motion and its clean twin, which are not aligned yet.

    Attributes:
        clean: the scan at rest.
        moved: the scan with motion.
        score: of the scan with motion, 1 to 3.
    """

    clean: Path
    moved: Path
    score: int


def find(folder: Path, _settings: ScanSettings, problems: Problems) -> list[Scan]:
    """List the scans at rest, without those that the neuroradiologist found unusable.

    A problem is a scan without a score.
    """
    scans = []
    for path in _scans(folder, CLEAN):
        try:
            unusable = score_of(path) == _UNUSABLE
        except ScanError as error:
            problems.add(error, path)
            continue
        if unusable:
            log.warning("left out: %s has score 3, unusable", path)
        else:
            scans.append(clean_scan(path))
    return scans


def read(scan: Scan, _settings: ScanSettings, _problems: Problems) -> ImageScan:
    """Read one scan at rest, in axial slices.

    Raises:
        ScanError: the file is damaged.
    """
    return read_axial(scan.files[0], acquisition=scan.contrast, scanner=SCANNER)


def pairs(folder: Path, problems: Problems) -> list[Pair]:
    """List every scan with motion and its clean twin.

    A problem is a scan without its twin or its score.
    """
    found = []
    for acquisition in MOVED:
        for moved in _scans(folder, acquisition):
            try:
                found.append(_pair(moved))
            except ScanError as error:
                problems.add(error, moved)
    return sorted(found)


def _pair(moved: Path) -> Pair:
    name = moved.name.replace(f"-{acquisition_of(moved)}_", f"-{CLEAN}_")
    clean = moved.with_name(name)
    if not clean.is_file():
        raise ScanError(
            f"{moved}: its clean twin {clean.name} is missing: add '{CLEAN}' to "
            "download.mr_art.acquisitions"
        )
    return Pair(clean, moved, score_of(moved))


def clean_scan(path: Path) -> Scan:
    """The volume that a scan at rest becomes."""
    subject = plain_id(f"mr_art-{path.parent.parent.name.removeprefix('sub-')}")
    return Scan(f"{subject}_T1w", subject, "T1w", None, (path,))


def acquisition_of(path: Path) -> str:
    """`standard`, `headmotion1` or `headmotion2`."""
    return path.name.split("_acq-")[1].split("_")[0]


def score_of(path: Path) -> int:
    """The neuroradiologist's score of a scan.

    Raises:
        ScanError: the table is missing, damaged or has no score for it.
    """
    subject = path.parent.parent
    table = subject / f"{subject.name}_scans.tsv"
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t"))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScanError(
            f"{table} cannot be read ({error}): it holds the score of {path.name}; "
            "download it again"
        ) from None
    scores = {
        Path(row.get("filename") or "").name: (row.get("score") or "").strip()
        for row in rows
    }
    score = scores.get(path.name, "")
    if score not in _SCORES:
        raise ScanError(
            f"{table}: score of {path.name} is '{score}', expected 1, 2 or 3: "
            "download it again"
        )
    return int(score)


def _scans(folder: Path, acquisition: str) -> list[Path]:
    return sorted(folder.glob(f"sub-*/anat/sub-*_acq-{acquisition}_T1w.nii.gz"))
