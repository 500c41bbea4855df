"""ExBox1: images with artefacts from a course; a pool for attacks, not a cohort.

Its layout is not documented: every 3-D NIfTI that lies anywhere in it counts.
"""

import logging
from pathlib import Path

from stages.synthesize.nifti import read_axial, shape_of, stem_of
from stages.synthesize.scans import ImageScan, Problems, Scan, ScanError, plain_id
from stages.synthesize.settings import ScanSettings

CONTRAST = "unknown"
LEAST_SLICES = 18  # on the last stored axis, as the paper's code asks for

log = logging.getLogger("mendmri")


def find(folder: Path, _settings: ScanSettings, _problems: Problems) -> list[Scan]:
    """Refuse: it holds no clean scans.

    Raises:
        ScanError: always.
    """
    raise ScanError(
        f"{folder}: exbox1 has images with artefacts and no clean scans: name it in "
        "'artefacts' of params.yaml, not in synthesize.sources"
    )


def walk(folder: Path, problems: Problems) -> list[Scan]:
    """List the 3-D volumes of 18 slices or more; what else there is, is logged.

    A problem is a file whose header is broken.

    Raises:
        ScanError: two files would get one name.
    """
    scans: dict[str, Scan] = {}
    for path in sorted(folder.rglob("*")):
        stem = stem_of(path)
        if stem is None or not path.is_file() or _is_left_out(path, problems):
            continue
        name = "-".join((*path.relative_to(folder).parent.parts, stem))
        volume_id = plain_id(f"exbox1-{name}")
        if volume_id in scans:
            raise ScanError(
                f"{path} and {scans[volume_id].files[0]} both are volume {volume_id}: "
                "remove or rename one"
            )
        scans[volume_id] = Scan(volume_id, volume_id, CONTRAST, None, (path,))
    return list(scans.values())


def read(scan: Scan, _settings: ScanSettings, _problems: Problems) -> ImageScan:
    """Read one volume, in axial slices.

    Raises:
        ScanError: the file is damaged.
    """
    return read_axial(scan.files[0], acquisition=CONTRAST, scanner="exbox1")


def _is_left_out(path: Path, problems: Problems) -> bool:
    try:
        shape = shape_of(path)
    except ScanError as error:
        problems.add(error, path)
        return True
    if len(shape) == 3 and shape[2] >= LEAST_SLICES:
        return False
    log.info(
        "left out: %s is %s, not 3-D with %d slices or more", path, shape, LEAST_SLICES
    )
    return True
