"""BraTS: glioma patients with segmentations, from a local copy or the Decathlon.

The challenge's own data need a login, which we do not handle. The Medical Segmentation
Decathlon hands out cases of 2016 and 2017 without one, as Task01_BrainTumour.

Files become `<case>/<case>_flair.nii.gz` and the like, or for Task01
`imagesTr/BRATS_001.nii.gz`, `labelsTr/BRATS_001.nii.gz` and `dataset.json`.
"""

import json
import re
import shutil
from pathlib import Path
from typing import Any

from pydantic import Field

from stages.common import paths
from stages.common.params import Settings
from stages.download.archives import take_archive
from stages.download.base import Fetched, Origin, SourceError
from stages.download.choosing import list_names, of_first, only, take_chosen
from stages.download.earlier import earlier_files
from stages.download.local import local_copy, where_to_put
from stages.download.transfer import fetch_file

TASK01_URL = "https://msd-for-monai.s3-us-west-2.amazonaws.com/Task01_BrainTumour.tar"
TASK01_SIZE = 7_608_266_240
TASK01_MD5 = "240a19d752f0d9e9101544901065d872"
_DESCRIPTION = "dataset.json"
_TASK01 = re.compile(r"BRATS_\d+\.nii(\.gz)?")
_IMAGE = re.compile(
    r"(?P<case>.+)(?:_(?:flair|t1|t1ce|t2|seg)|-(?:t1n|t1c|t2w|t2f|seg))\.nii(?:\.gz)?",
    re.IGNORECASE,
)
# In copies of 2020, the segmentation of case 355 has the name that its hospital gave.
_QUIRK = re.compile(r"W39_1998\.09\.19_Segm(\.nii(?:\.gz)?)")
# From 2023 on a person has a number for each time.
_TIME = re.compile(r"(BraTS-[A-Za-z]+-\d+)-\d+")
_EXPECTED = (
    "`<case>/<case>_flair.nii.gz`, `<case>/<case>-t2f.nii.gz` and the like, or the "
    "imagesTr, labelsTr and dataset.json of Task01"
)
_CITATION = (
    "Menze BH, Jakab A, Bauer S, et al. The Multimodal Brain Tumor Image Segmentation "
    "Benchmark (BRATS). IEEE Transactions on Medical Imaging 34(10), 2015. "
)
_LOCAL = Origin(
    title="BraTS",
    url="https://www.synapse.org (2021 to 2024); https://www.med.upenn.edu/cbica",
    version="unknown: a local copy; the cases' names tell the year",
    licence=(
        "For research only, by the agreement that came with the copy; that of 2023 is "
        "said to be of the kind of CC BY-NC 4.0 without redistribution. The agreement "
        "itself stands."
    ),
    citation=f"{_CITATION}And what the year's own page asks for.",
)
_DECATHLON = Origin(
    title="Medical Segmentation Decathlon, Task01_BrainTumour (BraTS 2016 and 2017)",
    url="http://medicaldecathlon.com",
    version=f"archive of MD5 {TASK01_MD5}",
    licence="CC-BY-SA 4.0 as far as we know: see the publisher's page.",
    citation=(
        f"{_CITATION}Antonelli M, Reinke A, Bakas S, et al. The Medical Segmentation "
        "Decathlon. Nature Communications 13, 4128, 2022."
    ),
)


GIVES = "images"
PUBLISHED = ()


class Params(Settings):
    """What to take of BraTS.

    Attributes:
        task01: load the Decathlon's archive, 7.6 GB, if there is no local copy.
        subjects: the first so many people, by name; None takes all.
    """

    task01: bool
    subjects: int | None = Field(ge=1)


def fetch(params: Params, folder: Path) -> Fetched:
    """Take the local copy, or else the Decathlon's archive if that is asked for.

    Raises:
        SourceError: there is neither, or it lacks what its readers need.
    """
    local = local_copy("brats")
    if local is not None:
        names = take_chosen(
            local,
            folder,
            _rename,
            lambda known: _choose(known, params.subjects, local),
            source="brats",
            expected=_EXPECTED,
        )
        task01_only = _DESCRIPTION in names and all(_is_task01(name) for name in names)
        version = "unknown: a local copy"
        task01 = _DECATHLON._replace(version=version)
        return Fetched(task01 if task01_only else _LOCAL, tuple(names))
    if not params.task01:
        raise SourceError(
            "BraTS cannot be downloaded for you: register, and load the training data "
            "of one year by hand: Synapse (with a token) syn25829067 for 2021, "
            "syn51156910 for 2023, syn53708249 for 2024; CBICA's Image Processing "
            "Portal for 2018 and 2020; Kaggle (with a token) "
            "awsaf49/brats20-dataset-training-validation for 2020, "
            "dschettler8845/brats-2021-task1 for 2021; then unpack it or leave it as "
            f"it is, and {where_to_put('brats')}; or set download.brats.task01 to "
            "true, which needs no login"
        )
    names = _earlier(folder, params.subjects) or _load(folder, params.subjects)
    return Fetched(_DECATHLON, tuple(names))


def _load(folder: Path, subjects: int | None) -> list[str]:
    """Take the first cases out of the Decathlon's archive, which comes whole only."""
    scratch = paths.scratch("download/brats")
    path = scratch / "Task01_BrainTumour.tar"
    fetch_file(TASK01_URL, path, size=TASK01_SIZE, checksum=f"md5:{TASK01_MD5}")
    known = {new for name in list_names(path) if (new := _rename(name)) is not None}
    chosen = _choose(known, subjects, path)
    names = take_archive(path, folder, only(_rename, chosen))
    shutil.rmtree(scratch)
    return names


def _earlier(folder: Path, subjects: int | None) -> list[str]:
    """The files that are asked for, if an earlier run took them all."""
    names = earlier_files(folder, _DECATHLON)
    if _DESCRIPTION not in names:
        return []
    try:
        content: Any = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
        published = len(content["training"])
    except (ValueError, KeyError, TypeError):
        return []
    # Each run takes the first cases: those that are there are the first ones.
    cases = {_person(name) for name in names if name != _DESCRIPTION}
    enough = len(cases) >= min(subjects or published, published)
    return sorted(_first(set(names), subjects)) if enough else []


def _rename(name: str) -> str | None:
    """Where a file goes, whatever folders are around its case's."""
    *parents, file = name.split("/")
    parent = parents[-1] if parents else ""
    if parent in ("imagesTr", "labelsTr"):
        return f"{parent}/{file}" if _TASK01.fullmatch(file) else None
    if file == _DESCRIPTION:
        return file
    quirk = _QUIRK.fullmatch(file)
    if quirk is not None:
        return f"{parent}/{parent}_seg{quirk[1]}" if parent.endswith("_355") else None
    image = _IMAGE.fullmatch(file)
    # Some archives of a single case have no folder for it.
    if image is None or not (
        image["case"] == parent or image["case"].lower().startswith("brats")
    ):
        return None
    return f"{image['case']}/{file}"


def _choose(known: set[str], subjects: int | None, place: Path) -> set[str]:
    task01 = any(_is_task01(name) for name in known - {_DESCRIPTION})
    if task01 and _DESCRIPTION not in known:
        raise SourceError(
            f"{place}: lacks Task01's {_DESCRIPTION}, which tells its contrasts and "
            "labels: add it, or download the archive again"
        )
    # Others have a file of this name as well.
    return _first(known if task01 else known - {_DESCRIPTION}, subjects)


def _first(names: set[str], subjects: int | None) -> set[str]:
    always = names & {_DESCRIPTION}
    return always | of_first(names - always, _person, subjects)


def _is_task01(name: str) -> bool:
    return name == _DESCRIPTION or name.startswith(("imagesTr/", "labelsTr/"))


def _person(name: str) -> str:
    folder, _, file = name.partition("/")
    if _is_task01(name):
        return file.partition(".")[0]
    match = _TIME.fullmatch(folder)
    return match[1] if match else folder
