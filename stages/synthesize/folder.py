"""A person's own scans: k-space or images, as the rows of a table say.

`download` has checked the table and brought it here as scans.csv with the files that it
names. Nothing is guessed: axes and centre come from the table, or from a format that
states them.
"""

from pathlib import Path

import numpy as np

from stages.synthesize import raw
from stages.synthesize.folder_images import read_image
from stages.synthesize.folder_kspace import read_kspace
from stages.synthesize.folder_rows import Row, folder_of, groups_of
from stages.synthesize.scans import ImageScan, RawScan, Scan, ScanError
from stages.synthesize.settings import ScanSettings


def find(folder: Path, settings: ScanSettings) -> list[Scan]:
    """List the scans that the table names.

    Raises:
        ScanError: the table is missing or damaged, or two scans would have one name.
    """
    return sorted(group.scan for group in groups_of(folder, settings))


def read(scan: Scan, settings: ScanSettings) -> RawScan | ImageScan:
    """Read a scan; of several repetitions the mean of their complex k-space.

    Raises:
        ScanError: a file is damaged or is not what its row says, or repetitions differ
            in shape.
    """
    groups = groups_of(folder_of(scan.files[0]), settings)
    rows = next((group.rows for group in groups if group.scan == scan), None)
    if rows is None:
        raise ScanError(
            f"{scan.files[0]}: the table no longer has {scan.volume_id}: run again"
        )
    if rows[0].kind == "image":
        return read_image(rows[0])
    found = read_kspace(rows[0])
    return found if len(rows) == 1 else _mean(found, rows)


def _mean(first: RawScan, rows: tuple[Row, ...]) -> RawScan:
    """The mean of repetitions; there is no published image of it."""
    total = first.kspace.astype(np.complex128)
    # Each alone: in the mean, damage could no longer be told from the others' signal.
    columns = raw.check_kspace(first.kspace, rows[0].file)
    for row in rows[1:]:
        kspace = read_kspace(row).kspace
        if kspace.shape != first.kspace.shape:
            raise ScanError(
                f"{row.file}: kspace is {kspace.shape}, of {rows[0].file.name} "
                f"{first.kspace.shape}: repetitions must have one shape; remove a row, "
                "or set synthesize.scans.repetitions to keep"
            )
        if raw.check_kspace(kspace, row.file) != columns:
            raise ScanError(
                f"{row.file}: other columns are acquired than in {rows[0].file.name}: "
                "such repetitions have no mean; remove a row, or set "
                "synthesize.scans.repetitions to keep"
            )
        total += kspace
    return first._replace(kspace=(total / len(rows)).astype(np.complex64), target=None)
