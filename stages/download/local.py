"""Where a person puts files that `download` cannot or need not fetch."""

import os
from pathlib import Path

from stages.common import paths
from stages.download.base import SourceError

VARIABLE = "MENDMRI_LOCAL"


def local_copy(source: str) -> Path | None:
    """Return the folder (or link) `<root>/<source>`; None where there is none.

    The root is `data/local`, or what MENDMRI_LOCAL names.

    Raises:
        SourceError: MENDMRI_LOCAL names no folder, or the link leads nowhere.
    """
    root = _root()
    if os.environ.get(VARIABLE) and not root.is_dir():
        raise SourceError(
            f"{VARIABLE} = {root} is no folder: name one that holds {source}/, or "
            "unset it"
        )
    path = root / source
    if path.is_symlink() and not path.exists():
        raise SourceError(
            f"{path} leads to {path.readlink()}, which is not there: correct the link "
            "(is the disk mounted?) or remove it"
        )
    return path if path.exists() else None


def where_to_put(source: str) -> str:
    """The remedy in messages: where a local copy of a source is looked for."""
    return f"put it into {_root() / source}/, or name another root with {VARIABLE}"


def _root() -> Path:
    named = os.environ.get(VARIABLE)
    return Path(named).expanduser() if named else paths.DATA / "local"
