"""fastMRI: raw knee and brain scans of NYU, from a local copy only.

Whoever signs the data-sharing agreement gets links that expire: there is no address
that could be fetched. Files are named `<subset>/<file>.h5`, whatever folders or
archives are around the subset.
"""

import re
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field, StringConstraints

from stages.common.params import Settings
from stages.download.base import Fetched, Origin, SourceError
from stages.download.choosing import of_first, take_chosen
from stages.download.local import local_copy, where_to_put

ORIGIN = Origin(
    title="fastMRI",
    url="https://fastmri.med.nyu.edu",
    version="unknown: a local copy",
    licence=(
        "Data-sharing agreement with New York University, which each user signs: "
        "non-commercial, no redistribution. The agreement itself stands."
    ),
    citation=(
        "Zbontar J, Knoll F, Sriram A, et al. fastMRI: An Open Dataset and Benchmarks "
        "for Accelerated MRI. arXiv:1811.08839, 2018. Knoll F, Zbontar J, Sriram A, et "
        "al. fastMRI: A Publicly Available Raw k-Space and DICOM Dataset of Knee "
        "Images for Accelerated MR Image Reconstruction Using Machine Learning. "
        "Radiology: Artificial Intelligence 2(1), 2020."
    ),
)


GIVES = "kspace"
PUBLISHED = ("train", "val")


class Params(Settings):
    """What to take of fastMRI.

    Attributes:
        subsets: folders, such as multicoil_train, multicoil_val, singlecoil_test.
        volumes: the first so many files of each subset, by name; None takes all.
    """

    subsets: tuple[
        Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_]*$")], ...
    ] = Field(min_length=1)
    volumes: int | None = Field(ge=1)


def fetch(params: Params, folder: Path) -> Fetched:
    """Take the subsets out of the local copy.

    Raises:
        SourceError: there is none, or it lacks a subset.
    """
    local = local_copy("fastmri")
    if local is None:
        raise SourceError(
            "fastMRI cannot be downloaded for you: sign its agreement at "
            f"{ORIGIN.url}, load the archives with the links of the e-mail (valid for "
            "90 days), then unpack them or leave them as they are, and "
            f"{where_to_put('fastmri')}"
        )
    names = take_chosen(
        local,
        folder,
        partial(_rename, params.subsets),
        partial(_choose, params, local),
        source="fastmri",
        expected=f"`<subset>/<file>.h5` with a subset of {', '.join(params.subsets)}",
    )
    return Fetched(ORIGIN, tuple(names))


def _rename(subsets: tuple[str, ...], name: str) -> str | None:
    """Where a file goes, as the innermost folder of a subset's name tells."""
    *parents, file = name.split("/")
    if not file.endswith(".h5") or file.startswith("."):
        return None
    for parent in reversed(parents):
        for subset in subsets:
            # As in brain_multicoil_train_batch_0.
            if re.fullmatch(rf"(?:.*_)?{re.escape(subset)}(?:_batch_\d+)?", parent):
                return f"{subset}/{file}"
    return None


def _choose(params: Params, local: Path, known: set[str]) -> set[str]:
    chosen: set[str] = set()
    for subset in params.subsets:
        its_files = {name for name in known if name.startswith(f"{subset}/")}
        if not its_files:
            there = ", ".join(sorted({name.partition("/")[0] for name in known}))
            raise SourceError(
                f"{local}: holds no {subset}/*.h5, but {there}: add it, or take "
                f"'{subset}' out of download.fastmri.subsets"
            )
        chosen |= of_first(its_files, str, params.volumes)
    return chosen
