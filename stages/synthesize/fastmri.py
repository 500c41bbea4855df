"""fastMRI: raw knee and brain scans, fully sampled, with images that are published.

Layout: `<subset>/<file>.h5`, subset such as multicoil_train. Its test files have no
image and an undersampled k-space: they cannot be trained on or evaluated with.
"""

import logging
import re
from pathlib import Path
from typing import NamedTuple

import h5py
import numpy as np

from stages.common.runtime import progress
from stages.synthesize import hdf5
from stages.synthesize.scans import Problems, RawScan, Scan, ScanError, plain_id
from stages.synthesize.settings import ScanSettings

CONTRASTS = {
    "AXT1": "T1w",
    "AXT1PRE": "T1w",
    "AXT1POST": "T1c",
    "AXT2": "T2w",
    "AXFLAIR": "FLAIR",
    "CORPD_FBK": "PDw",
    "CORPDFS_FBK": "PDw-FS",
}
TARGETS = {4: "reconstruction_rss", 3: "reconstruction_esc"}  # by axes of the k-space
_ID_LENGTH = 12
_SPLIT = re.compile(r"_(train|val|test)(?![A-Za-z])")
_BRAIN = re.compile(r"file_brain_(AX[A-Z0-9]+)_(\d{3})_\d+")

log = logging.getLogger("mendmri")


class _Facts(NamedTuple):
    """What `find` needs of a file; each None where the file does not say."""

    patient_id: str | None
    acquisition: str | None
    has_target: bool


def find(folder: Path, settings: ScanSettings, problems: Problems) -> list[Scan]:
    """List the scans of all subsets, by person: one may have several files.

    With `split: drawn` files without a target are left out. A problem is a file in a
    subset whose name tells no split, and one that cannot be opened: whose it is, only
    the file says.

    Raises:
        ScanError: a file is in two subsets.
    """
    paths = _files(folder, problems)
    scans: dict[str, Scan] = {}
    without = 0
    for path, split in progress(
        paths, total=len(paths), desc="files of fastmri", unit="file"
    ):
        try:
            facts = _facts(path)
        except ScanError as error:
            problems.add(error, path, split=split)
            continue
        if settings.split == "drawn" and not facts.has_target:
            without += 1
            continue
        scan = _scan(path, facts, split)
        if scan.volume_id in scans:
            raise ScanError(
                f"{path} and {scans[scan.volume_id].files[0]} are one scan: name "
                "either multicoil or singlecoil subsets in download.fastmri.subsets, "
                "and none twice"
            )
        scans[scan.volume_id] = scan
    if without:
        log.info("fastmri: left out %d file(s) without a target", without)
    return sorted(scans.values())


def read(scan: Scan, _settings: ScanSettings, _problems: Problems) -> RawScan:
    """Read one file; the k-space of a singlecoil one is that of one coil.

    Readout oversampling stays in the k-space: the target is cropped.

    Raises:
        ScanError: the file is damaged, or a test file.
    """
    path = scan.files[0]
    with hdf5.open_scan(path) as file:
        _require_target(file, path)
        kspace = hdf5.read_kspace(file, path, ndims=(3, 4))
        key = TARGETS[kspace.ndim]
        if key not in file:
            key = TARGETS[4]
        target = hdf5.read_image(file, key, path)
        header = hdf5.read_header(file, path)
        acquisition = hdf5.read_attribute(file, "acquisition")
    acquisition = acquisition or _named_acquisition(path) or scan.contrast
    return RawScan(
        kspace=kspace if kspace.ndim == 4 else kspace[:, None],
        target=target,
        header=header,
        acquisition=acquisition,
        scanner=_scanner(path, acquisition),
    )


def _files(folder: Path, problems: Problems) -> list[tuple[Path, str]]:
    """Every file and its split."""
    subsets = sorted(path for path in folder.iterdir() if path.is_dir())
    files = []
    for path in (path for subset in subsets for path in hdf5.files_of(subset)):
        try:
            files.append((path, _split_of(path)))
        except ScanError as error:
            problems.add(error, path)
    return files


def _split_of(path: Path) -> str:
    match = _SPLIT.search(path.parent.name)
    if match is None:
        raise ScanError(
            f"{path}: '{path.parent.name}' is no subset of fastMRI, which end in "
            "_train, _val or _test: rename the folder, or remove it"
        )
    return match[1]


def _facts(path: Path) -> _Facts:
    with hdf5.open_scan(path) as file:
        return _Facts(
            hdf5.read_attribute(file, "patient_id"),
            hdf5.read_attribute(file, "acquisition"),
            any(key in file for key in TARGETS.values()),
        )


def _scan(path: Path, facts: _Facts, split: str) -> Scan:
    acquisition = facts.acquisition or _named_acquisition(path) or "unknown"
    contrast = CONTRASTS.get(acquisition, plain_id(acquisition))
    if facts.patient_id is None:
        subject = plain_id(f"fastmri-{path.stem}")
        return Scan(subject, subject, contrast, split, (path,))
    subject = plain_id(f"fastmri-{facts.patient_id[:_ID_LENGTH]}")
    volume = plain_id(f"{subject}_{path.stem}")
    return Scan(volume, subject, contrast, split, (path,))


def _named_acquisition(path: Path) -> str | None:
    match = _BRAIN.fullmatch(path.stem)
    return match[1] if match else None


def _scanner(path: Path, acquisition: str) -> str:
    match = _BRAIN.fullmatch(path.stem)
    if match:
        return f"fastmri-{match[2]}"
    return "fastmri-knee" if acquisition.startswith("COR") else "fastmri"


def _require_target(file: h5py.File, path: Path) -> None:
    masked = "mask" in file and not np.asarray(file["mask"]).all()
    if masked or not any(key in file for key in TARGETS.values()):
        raise ScanError(
            f"{path}: a test file without target, its k-space is undersampled: set "
            "synthesize.scans.split to drawn, which divides train and val anew, or "
            f"take {path.parent.name} out of download.fastmri.subsets"
        )
