"""ExBox1: images with artefacts, of the course "Introduction to Neuroimaging Analysis".

Nobody states its address, contents or licence where we could read it: it comes from a
local copy, or from an address that a person has found. Files keep their path inside
the folder `ExBox1/`, which itself is dropped, so that an archive and its unpacked files
give the same names.
"""

import shutil
from pathlib import Path
from urllib.parse import unquote, urlsplit

from pydantic import Field

from stages.common import paths
from stages.common.params import Settings
from stages.download.archives import take, take_archive
from stages.download.base import Fetched, Origin, SourceError
from stages.download.earlier import earlier_files
from stages.download.local import local_copy, where_to_put
from stages.download.moving import shown
from stages.download.transfer import fetch_file

PAGE = "https://www.fmrib.ox.ac.uk/primers/intro_primer/"
_TOP = "exbox1"
_ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")


GIVES = "artefacts"


class Params(Settings):
    """Where ExBox1 is.

    Attributes:
        url: of its archive, as the course's page links it; None: a local copy only.
    """

    url: str | None = Field(min_length=1)


def fetch(params: Params, folder: Path) -> Fetched:
    """Take every NIfTI of the local copy, or else of the archive at the address.

    Raises:
        SourceError: there is neither, or it holds no image.
    """
    local = local_copy("exbox1")
    if local is not None:
        names = take(
            local, folder, _rename, source="exbox1", expected="`*.nii.gz` or `*.nii`"
        )
        return Fetched(_origin(PAGE), tuple(names))
    if params.url is None:
        raise SourceError(
            "ExBox1 cannot be downloaded for you, as its address could not be "
            f"verified: look for it at {PAGE}, then load ExBox1.zip by hand and "
            f"{where_to_put('exbox1')}; or name its address in download.exbox1.url"
        )
    origin = _origin(shown(params.url))
    names = list(earlier_files(folder, origin)) or _load(params.url, folder)
    return Fetched(origin, tuple(names))


def _load(url: str, folder: Path) -> list[str]:
    scratch = paths.scratch("download/exbox1")
    file = unquote(urlsplit(url).path).rpartition("/")[2]
    # Some links end in a number or in `download`.
    path = scratch / (file if file.lower().endswith(_ARCHIVES) else "ExBox1.zip")
    fetch_file(url, path)
    names = take_archive(path, folder, _rename)
    if not names:
        raise SourceError(
            f"{shown(url)}: holds no *.nii.gz or *.nii: correct download.exbox1.url"
        )
    shutil.rmtree(scratch)
    return names


def _rename(name: str) -> str | None:
    parts = name.split("/")
    if not parts[-1].lower().endswith((".nii", ".nii.gz")) or parts[-1].startswith("."):
        return None
    folders = [part.lower() for part in parts[:-1]]
    if _TOP in folders:
        parts = parts[folders.index(_TOP) + 1 :]
    return "/".join(parts)


def _origin(url: str) -> Origin:
    return Origin(
        title="ExBox1",
        url=url,
        version="unknown",
        licence=(
            "Unknown: the course's book is all rights reserved, and nothing was found "
            "that covers the data. Do not redistribute them."
        ),
        citation=(
            "Jenkinson M, Chappell M. Introduction to Neuroimaging Analysis. Oxford "
            "Neuroimaging Primers. Oxford University Press, 2018."
        ),
    )
