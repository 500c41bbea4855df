"""Calgary-Campinas: raw T1w brain scans of 12 coils, from a local copy only.

They come from a page with a form, which cannot be fetched. Files are named
`<split>/<file>.h5`, as in their archive: Train, Val, and Test… for what it has of
tests.
"""

import re
from pathlib import Path

from pydantic import Field

from stages.common.params import Settings
from stages.download.base import Fetched, Origin, SourceError
from stages.download.choosing import of_first, take_chosen
from stages.download.local import local_copy, where_to_put

ORIGIN = Origin(
    title="Calgary-Campinas, raw multi-channel scans (CC359)",
    url="https://sites.google.com/view/calgary-campinas-dataset",
    version="unknown: a local copy",
    licence="Unknown: see the publisher's page before redistributing anything.",
    citation=(
        "Souza R, Lucena O, Garrafa J, et al. An open, multi-vendor, multi-field-"
        "strength brain MR dataset and analysis of publicly available skull stripping "
        "methods agreement. NeuroImage 170, 2018."
    ),
)
# `train_val_12_channel`, which holds Train and Val, is no split.
GIVES = "kspace"
PUBLISHED = ("train", "val", "test")
_SPLIT = re.compile(r"train|val|test.*", re.IGNORECASE)


class Params(Settings):
    """What to take of Calgary-Campinas.

    Attributes:
        volumes: the first so many files of each split, by name; None takes all.
    """

    volumes: int | None = Field(ge=1)


def fetch(params: Params, folder: Path) -> Fetched:
    """Take the splits out of the local copy.

    Raises:
        SourceError: there is none, or it holds no split.
    """
    local = local_copy("calgary_campinas")
    if local is None:
        raise SourceError(
            "Calgary-Campinas cannot be downloaded for you: ask for the raw data of 12 "
            f"channels (train_val_12_channel.zip) at {ORIGIN.url}, then unpack it or "
            f"leave it as it is, and {where_to_put('calgary_campinas')}"
        )

    def choose(known: set[str]) -> set[str]:
        splits = {name.partition("/")[0] for name in known}
        chosen: set[str] = set()
        for split in splits:
            its_files = {name for name in known if name.startswith(f"{split}/")}
            chosen |= of_first(its_files, str, params.volumes)
        return chosen

    names = take_chosen(
        local,
        folder,
        _rename,
        choose,
        source="calgary_campinas",
        expected="`Train/<file>.h5` and `Val/<file>.h5`",
    )
    return Fetched(ORIGIN, tuple(names))


def _rename(name: str) -> str | None:
    """Where a file goes, as the innermost folder of a split's name tells."""
    *parents, file = name.split("/")
    if not file.endswith(".h5") or file.startswith("."):
        return None
    for parent in reversed(parents):
        if _SPLIT.fullmatch(parent):
            return f"{parent}/{file}"
    return None
