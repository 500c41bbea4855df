"""The files of M4Raw by their names: which set and whose they are."""

import re
from collections.abc import Iterable
from typing import Literal

from stages.download.choosing import of_first

SetName = Literal["train", "val", "test", "gre", "motion"]
FOLDERS: dict[SetName, str] = {
    "train": "multicoil_train",
    "val": "multicoil_val",
    "test": "multicoil_test",
    "gre": "gre_data",
    "motion": "motion",
}
# By the ends of folders' names, such as M4RawV1.5_motion; the first that fits counts.
PLACES = {
    "inter-scan_motion": "motion/inter-scan_motion",
    "intra-scan_motion": "motion/intra-scan_motion",
    **{folder: folder for folder in FOLDERS.values()},
}
# The subject's number ends at the underscore: T101 is T1, repetition 01.
NAME = re.compile(r"(\d+)_(FLAIR|T1|T2|GRE)(\d{2})\.h5")


def renamed(name: str) -> str | None:
    """Where a file goes, as the innermost folder that is known tells."""
    *parents, file = name.split("/")
    if NAME.fullmatch(file) is None:
        return None
    for parent in reversed(parents):
        for end, place in PLACES.items():
            if f"_{parent.lower()}".endswith(f"_{end}"):
                return f"{place}/{file}"
    return None


def of_set(names: Iterable[str], set_name: SetName) -> set[str]:
    return {name for name in names if name.startswith(f"{FOLDERS[set_name]}/")}


def subject_of(name: str) -> str:
    return name.rpartition("/")[2].partition("_")[0]


def strange_files(names: Iterable[str]) -> list[str]:
    """HDF5 files that have no name of M4Raw."""
    files = [(name, name.rpartition("/")[2]) for name in names]
    h5 = [pair for pair in files if pair[1].endswith(".h5") and pair[1][0] != "."]
    return [name for name, file in h5 if not NAME.fullmatch(file)]


def gre_last(sets: Iterable[SetName]) -> list[SetName]:
    return sorted(sets, key="gre".__eq__)


def first_files(
    names: Iterable[str], set_name: SetName, count: int | None, people: set[str]
) -> set[str]:
    """Files of the first subjects; of GRE, those of the people already chosen."""
    if set_name == "gre" and count is not None and people:
        return {name for name in names if subject_of(name) in people}
    return of_first(names, subject_of, count)


def people_of(names: Iterable[str]) -> set[str]:
    """Whose scans of train, val and test are among some files."""
    return {subject_of(name) for name in names if name.startswith("multicoil_")}
