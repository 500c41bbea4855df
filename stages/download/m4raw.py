"""M4Raw: raw brain scans of 183 people at 0.3 T, from Zenodo.

Files are named as in the archives: `multicoil_train/2022061001_T101.h5`, which is
repetition 01 of T1. The first few subjects of a set come out of its archive without the
rest of it; a whole set comes as the whole archive.
"""

import logging
import re
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import Field

from stages.common import paths
from stages.common.params import Settings
from stages.download.archives import take, take_archive, take_members
from stages.download.base import Fetched, Origin, Skipped, SourceError
from stages.download.choosing import list_names, only
from stages.download.local import local_copy, where_to_put
from stages.download.m4raw_names import (
    FOLDERS,
    NAME,
    SetName,
    first_files,
    gre_last,
    of_set,
    people_of,
    renamed,
    strange_files,
)
from stages.download.members import has_crc
from stages.download.placing import Wanted
from stages.download.transfer import fetch_file, remote_zip, require_room
from stages.download.zenodo import (
    LOCK,
    Member,
    RecordFile,
    lock_members,
    read_members,
    read_record,
)

GIVES = "kspace"
PUBLISHED = ("train", "val", "test")
_EXPECTED = "`multicoil_train/<id>_T101.h5` and the like, or the zips of Zenodo"

log = logging.getLogger("mendmri")


class Params(Settings):
    """What to take of M4Raw.

    Attributes:
        record: of Zenodo; each version of the data set is one.
        sets: train, val, test, gre (gradient echo), motion (scans left out of the
            others for motion).
        subjects: the first so many of each set, by number; None takes all. GRE scans
            are of people of the other sets: of those who were chosen there.
    """

    record: int = Field(ge=1)
    sets: tuple[SetName, ...] = Field(min_length=1)
    subjects: int | None = Field(ge=1)


def fetch(params: Params, folder: Path) -> Fetched:
    """Take the local copy, or else the record's archives.

    Raises:
        SourceError: a set is missing, or the record has changed since it was locked.
    """
    local = local_copy("m4raw")
    if local is None:
        names, strange = _from_zenodo(params, folder)
        version = f"Zenodo record {params.record}"
    else:
        names, strange = _from_local(local, params, folder)
        version = "unknown: a local copy"
    origin = Origin(
        title="M4Raw",
        url=f"https://zenodo.org/records/{params.record}",
        version=version,
        licence="CC-BY-4.0",
        citation=(
            "Lyu M, Mei L, Huang S, Liu S, Li Y, Yang K, Liu Y, Dong Y, Dong L, Wu EX. "
            "M4Raw: A multi-contrast, multi-repetition, multi-channel MRI k-space "
            "dataset for low-field MRI research. Scientific Data 10, 264, 2023."
        ),
    )
    reason = "no name of M4Raw's, such as 2022061001_T101.h5: rename or remove it"
    skipped = tuple(Skipped(name, reason) for name in sorted(strange))
    return Fetched(origin, tuple(sorted(names)), skipped)


def _from_local(
    local: Path, params: Params, folder: Path
) -> tuple[list[str], list[str]]:
    listed = list_names(local)
    known = {new for name in listed if (new := renamed(name)) is not None}
    chosen = _choose(known, params, local) if known else set()
    wanted = only(renamed, chosen)
    names = take(local, folder, wanted, source="m4raw", expected=_EXPECTED)
    return names, strange_files(listed)


def _choose(known: set[str], params: Params, local: Path) -> set[str]:
    """What is asked for of the files of a local copy."""
    chosen: set[str] = set()
    for set_name in gre_last(params.sets):
        its_files = of_set(known, set_name)
        if not its_files:
            there = [place for name, place in FOLDERS.items() if of_set(known, name)]
            raise SourceError(
                f"{local}: holds no {FOLDERS[set_name]}/ of M4Raw, but "
                f"{', '.join(there)}: add it, or take '{set_name}' out of "
                "download.m4raw.sets"
            )
        chosen |= first_files(its_files, set_name, params.subjects, people_of(chosen))
    return chosen


def _from_zenodo(params: Params, folder: Path) -> tuple[list[str], list[str]]:
    files = read_record(params.record, folder)
    archives = {name: _archive(name, files, params.record) for name in params.sets}
    names, strange = [LOCK], []
    for set_name in gre_last(params.sets):
        taken, left_out = _take_set(
            set_name,
            archives[set_name],
            folder,
            subjects=params.subjects,
            people=people_of(names),
        )
        names += taken
        strange += left_out
    # What a run left that was killed while it loaded a whole archive.
    if _scratch().exists():
        shutil.rmtree(_scratch())
    return names, strange


def _archive(
    set_name: SetName, files: dict[str, RecordFile], record: int
) -> RecordFile:
    """The archive of a set: each version of the data set names it otherwise."""
    pattern = re.compile(rf"(?:.*[_-])?{set_name}(?:[_-].*)?\.zip", re.IGNORECASE)
    found = [file for name, file in sorted(files.items()) if pattern.fullmatch(name)]
    if len(found) == 1:
        return found[0]
    raise SourceError(
        f"Zenodo record {record} has {len(found) or 'no'} archives of the set "
        f"'{set_name}'; its files: {', '.join(sorted(files)) or 'none'}: change "
        "download.m4raw.record or download.m4raw.sets, or download the set by hand "
        f"and {where_to_put('m4raw')}"
    )


def _take_set(
    set_name: SetName,
    file: RecordFile,
    folder: Path,
    *,
    subjects: int | None,
    people: set[str],
) -> tuple[list[str], list[str]]:
    """Take a set out of its archive: names of its files, and of strange ones."""
    known = read_members(folder, file.name)
    if known is not None:
        wanted = _member_chooser(known, set_name, subjects, people, file.name)
        names = _intact(known, wanted, folder)
        if names is not None:
            log.info("%s: all %d scans are there", file.name, len(names))
            return names, strange_files(known)
    with remote_zip(file.url) as archive:
        _require_size(archive, file)
        members = _members(archive)
        wanted = _member_chooser(members, set_name, subjects, people, file.name)
        missing = _missing(members, wanted, folder)
        # Those that are there are compared with their CRC, and taken anew if damaged.
        whole = subjects is None and missing > 0
        if not whole:
            taken = take_members(archive, folder, wanted, desc=file.name)
    if whole:
        # Before hours of loading, not after.
        require_room(folder, missing)
        path = _scratch() / file.name
        fetch_file(file.url, path, size=file.size, checksum=file.checksum)
        taken = take_archive(path, folder, wanted)
        path.unlink()
    # Not before all is there: only then is the archive known to be sound.
    lock_members(folder, file.name, members)
    return taken, strange_files(members)


def _member_chooser(
    members: Iterable[str],
    set_name: SetName,
    subjects: int | None,
    people: set[str],
    archive: str,
) -> Wanted:
    def rename(member: str) -> str | None:
        file = member.rpartition("/")[2]
        if NAME.fullmatch(file) is None:
            return None
        new = renamed(member) or f"{FOLDERS[set_name]}/{file}"
        return new if of_set([new], set_name) else None

    known = {new for member in members if (new := rename(member)) is not None}
    if not known:
        raise SourceError(
            f"{archive}: holds no scans of the set '{set_name}' (expected {_EXPECTED}):"
            " take it out of download.m4raw.sets, or get it by hand and "
            f"{where_to_put('m4raw')}"
        )
    chosen = first_files(known, set_name, subjects, people)
    log.info("%s: %d of %d scans", archive, len(chosen), len(known))
    return only(rename, chosen)


def _require_size(archive: zipfile.ZipFile, file: RecordFile) -> None:
    stream: Any = archive.fp
    size = stream.seek(0, 2)
    if size != file.size:
        raise SourceError(
            f"{file.name}: has {size} bytes, its record says {file.size}: it was "
            "changed or is damaged on the server: run again later, or download it by "
            f"hand and {where_to_put('m4raw')}"
        )


def _members(archive: zipfile.ZipFile) -> dict[str, Member]:
    files = [info for info in archive.infolist() if not info.is_dir()]
    return {info.filename: Member(info.file_size, info.CRC) for info in files}


def _missing(members: dict[str, Member], wanted: Wanted, folder: Path) -> int:
    """Bytes of the wanted members that no earlier run has taken."""
    missing = 0
    for member, (size, _crc) in members.items():
        name = wanted(member)
        if name is not None and not _has_size(folder / name, size):
            missing += size
    return missing


def _intact(
    members: dict[str, Member], wanted: Wanted, folder: Path
) -> list[str] | None:
    """Names of the wanted members; None unless every one is there, undamaged."""
    named = [(wanted(member), facts) for member, facts in members.items()]
    chosen = {name: facts for name, facts in named if name is not None}
    for name, (size, crc) in chosen.items():
        path = folder / name
        if not _has_size(path, size) or not has_crc(crc, path):
            return None
    return sorted(chosen)


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _scratch() -> Path:
    return paths.scratch("download/m4raw")
