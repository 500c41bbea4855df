"""MR-ART: T1w scans of 148 people at rest and with head motion, from OpenNeuro.

Files are named as there: `<sub>/anat/<sub>_acq-<acquisition>_T1w.nii.gz`, and
`<sub>/<sub>_scans.tsv` with the scores. The manifest beside this file says how long
each scan is, its MD5 and which version of it the data set's version means.
"""

import csv
import hashlib
import io
import logging
import re
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import quote

from pydantic import Field

from stages.common.params import Settings
from stages.download.base import Fetched, Origin, SourceError
from stages.download.choosing import of_first, take_chosen
from stages.download.local import local_copy, where_to_put
from stages.download.transfer import fetch_file, require_room

VERSION = "1.0.2"
BASE = "https://s3.amazonaws.com/openneuro.org/ds004173"
# DVC hashes the code beside it, not the manifest: this makes it part of the code.
MANIFEST_SHA256 = "c143703f548b4bc7a8d910027e8539b737151c50319e9196812a339f4258fef5"
MANIFEST = Path(__file__).with_name("mr_art_manifest.tsv")
_BLOCK = 2**20
_FILE = re.compile(
    r"(?:.*/)?(sub-\d+)/(anat/\1_acq-[a-z0-9]+_T1w\.nii\.gz|\1_scans\.tsv)"
)
_EXPECTED = "`sub-000103/anat/sub-000103_acq-standard_T1w.nii.gz` and the like"

log = logging.getLogger("mendmri")


GIVES = "images"
PUBLISHED = ()


class Params(Settings):
    """What to take of MR-ART.

    Attributes:
        version: of the data set; the manifest knows one.
        subjects: the first so many, by number; None takes all.
        acquisitions: standard (at rest), headmotion1 (little), headmotion2 (much);
            seven people lack headmotion1 and one lacks headmotion2.
    """

    version: str
    subjects: int | None = Field(ge=1)
    acquisitions: tuple[Literal["standard", "headmotion1", "headmotion2"], ...] = Field(
        min_length=1
    )


class Scan(NamedTuple):
    """A row of the manifest.

    Attributes:
        path: relative to the data set.
        size: in bytes.
        md5: hex digits.
        version: of the file in the bucket.
    """

    path: str
    size: int
    md5: str
    version: str


def fetch(params: Params, folder: Path) -> Fetched:
    """Take the local copy, or else OpenNeuro's files.

    Raises:
        SourceError: a scan or score is missing, or is not the one in the manifest.
    """
    if params.version != VERSION:
        raise SourceError(
            f"params.yaml: 'download.mr_art.version' = {params.version!r}: the "
            f"manifest is of {VERSION}: set that, or put another manifest in its place"
        )
    scans = [scan for scan in _manifest() if _acquisition(scan) in params.acquisitions]
    local = local_copy("mr_art")
    if local is None:
        names = _from_network(_of_first(scans, params.subjects), folder)
    else:
        names = _from_local(local, folder, scans, params.subjects)
    origin = Origin(
        title="MR-ART (OpenNeuro ds004173)",
        url=f"https://openneuro.org/datasets/ds004173/versions/{VERSION}",
        version=VERSION,
        licence="CC0",
        citation=(
            "Nárai Á, Hermann P, Auer T, et al. Movement-related artefacts (MR-ART) "
            "dataset of matched motion-corrupted and clean structural MRI brain scans. "
            "Scientific Data 9, 630, 2022. doi:10.18112/openneuro.ds004173.v1.0.2"
        ),
    )
    return Fetched(origin, tuple(sorted(names)))


def _manifest() -> list[Scan]:
    data = MANIFEST.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != MANIFEST_SHA256:
        raise SourceError(
            f"{MANIFEST.name}: SHA-256 is {found}, expected {MANIFEST_SHA256}: it was "
            "edited or is damaged; get it anew from the repository"
        )
    rows = csv.DictReader(io.StringIO(data.decode()), delimiter="\t")
    return [
        Scan(row["path"], int(row["size"]), row["md5"], row["s3_version_id"])
        for row in rows
    ]


def _from_network(scans: list[Scan], folder: Path) -> list[str]:
    absent = [scan.size for scan in scans if not (folder / scan.path).is_file()]
    require_room(folder, sum(absent))
    subjects = sorted({_subject(scan.path) for scan in scans})
    names = []
    for number, subject in enumerate(subjects, start=1):
        log.info("%s: subject %d of %d", subject, number, len(subjects))
        mine = [scan for scan in scans if _subject(scan.path) == subject]
        for scan in mine:
            fetch_file(
                f"{BASE}/{scan.path}?versionId={quote(scan.version, safe='')}",
                folder / scan.path,
                size=scan.size,
                checksum=f"md5:{scan.md5}",
            )
        scores = _scores_of(subject)
        fetch_file(f"{BASE}/{scores}", folder / scores)
        _require_scores(folder / scores, mine)
        names += [scan.path for scan in mine] + [scores]
    return names


def _from_local(
    local: Path, folder: Path, scans: list[Scan], subjects: int | None
) -> list[str]:
    by_path = {scan.path: scan for scan in scans}
    names = take_chosen(
        local,
        folder,
        partial(_rename, by_path.keys()),
        partial(_choose, local, scans, subjects),
        source="mr_art",
        expected=_EXPECTED,
    )
    for scan in (by_path[name] for name in names if name in by_path):
        _verify(folder / scan.path, scan, local)
    for scores in (name for name in names if name not in by_path):
        mine = [scan for scan in scans if _subject(scan.path) == _subject(scores)]
        _require_scores(folder / scores, mine)
    return names


def _rename(known: Iterable[str], name: str) -> str | None:
    """Where a file goes, whatever folders are around its subject's."""
    match = _FILE.fullmatch(name)
    if match is None or "derivatives" in name.split("/"):
        return None
    new = f"{match[1]}/{match[2]}"
    return new if new in known or new == _scores_of(match[1]) else None


def _choose(
    local: Path, scans: list[Scan], subjects: int | None, known: set[str]
) -> set[str]:
    """What is asked for of the first subjects that the local copy has scans of."""
    there = {_subject(scan.path) for scan in scans if scan.path in known}
    chosen = _of_first([s for s in scans if _subject(s.path) in there], subjects)
    wanted = {scan.path for scan in chosen}
    wanted |= {_scores_of(_subject(path)) for path in wanted}
    missing = sorted(wanted - known)
    if missing:
        raise SourceError(
            f"{local}: lacks {len(missing)} files of MR-ART, first {missing[0]}: add "
            "them, remove that subject, or change download.mr_art.acquisitions"
        )
    return wanted


def _verify(path: Path, scan: Scan, local: Path) -> None:
    """Refuse a copy that is not what was published: an annex's pointer, for one."""
    hashed = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            hashed.update(block)
    digest, size = hashed.hexdigest(), path.stat().st_size
    if (size, digest) != (scan.size, scan.md5):
        path.unlink()
        raise SourceError(
            f"{local}: {scan.path} has {size} bytes and MD5 {digest}, published are "
            f"{scan.size} and {scan.md5}: it is damaged, or no more than a pointer "
            "(`datalad get`): download it again"
        )


def _require_scores(path: Path, scans: list[Scan]) -> None:
    """Refuse a table that does not name the scans: nobody publishes its hash."""
    text = path.read_text(encoding="utf-8", errors="replace")
    for scan in scans:
        name = scan.path.rpartition("/")[2]
        if name not in text:
            path.unlink()
            raise SourceError(
                f"{path.name}: has no row for {name}: it is damaged, or of another "
                f"version than {VERSION}: run again, or get it by hand and "
                f"{where_to_put('mr_art')}"
            )


def _of_first(scans: list[Scan], subjects: int | None) -> list[Scan]:
    paths = of_first([scan.path for scan in scans], _subject, subjects)
    return [scan for scan in scans if scan.path in paths]


def _acquisition(scan: Scan) -> str:
    return scan.path.partition("_acq-")[2].partition("_")[0]


def _subject(path: str) -> str:
    return path.partition("/")[0]


def _scores_of(subject: str) -> str:
    return f"{subject}/{subject}_scans.tsv"
