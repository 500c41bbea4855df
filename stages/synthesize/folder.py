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
from stages.synthesize.scans import ImageScan, Problems, RawScan, Scan, ScanError
from stages.synthesize.settings import ScanSettings


def find(folder: Path, settings: ScanSettings, _problems: Problems) -> list[Scan]:
    """List the scans that the table names, whose files `download` has seen.

    Raises:
        ScanError: the table is missing or damaged, or two scans would have one name.
    """
    return sorted(group.scan for group in groups_of(folder, settings))


def read(scan: Scan, settings: ScanSettings, problems: Problems) -> RawScan | ImageScan:
    """Read a scan; of several repetitions the mean of their complex k-space.

    A damaged one of several is a problem, and the mean is that of the others.

    Raises:
        ScanError: no file is sound and what its row says, or repetitions differ in
            shape.
    """
    groups = groups_of(folder_of(scan.files[0]), settings)
    rows = next((group.rows for group in groups if group.scan == scan), None)
    if rows is None:
        raise ScanError(
            f"{scan.files[0]}: the table no longer has {scan.volume_id}: run again"
        )
    if rows[0].kind == "image":
        return read_image(rows[0])
    return read_kspace(rows[0]) if len(rows) == 1 else _mean(scan, rows, problems)


def _mean(scan: Scan, rows: tuple[Row, ...], problems: Problems) -> RawScan:
    """The mean of the repetitions that are sound, of which no image is published."""
    first: RawScan | None = None
    name, columns, total, count = "", None, np.zeros(0), 0
    for row in rows:
        try:
            found = read_kspace(row)
            # Each alone: in the mean, damage could no longer be told from signal.
            its_columns = raw.check_kspace(found.kspace, row.file)
        except ScanError as error:
            problems.add_scan(error, scan, row.file)
            continue
        count += 1
        if first is None:
            first, name, columns = found, row.file.name, its_columns
            total = found.kspace.astype(np.complex128)
            continue
        # Which of them is right, nobody knows: there is no scan without one.
        if found.kspace.shape != total.shape:
            raise ScanError(
                f"{row.file}: kspace is {found.kspace.shape}, of {name} "
                f"{total.shape}: repetitions must have one shape; remove a row, or set "
                "synthesize.scans.repetitions to keep",
                path=row.file,
            )
        if its_columns != columns:
            raise ScanError(
                f"{row.file}: other columns are acquired than in {name}: such "
                "repetitions have no mean; remove a row, or set "
                "synthesize.scans.repetitions to keep",
                path=row.file,
            )
        total += found.kspace
    if first is None:
        raise ScanError(
            f"{rows[0].file}: none of {len(rows)} repetitions is sound: correct them, "
            "or remove their rows"
        )
    return first._replace(kspace=(total / count).astype(np.complex64), target=None)
