"""One row per slice: what is measured and how it is written."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from stages.common import metrics
from stages.common.manifest import VolumeRecord
from stages.common.paths import SPLITS
from stages.common.volume import write_text
from stages.evaluate.outputs import Reconstruction, zero_filled

Row = dict[str, Any]

IDENTITY = ("split", "volume_id", "slice_num", "subject_id", "contrast", "scanner")
SLICE_COLUMNS = (*IDENTITY, "psnr", "ssim", "nmse_num", "nmse_den")
TWIN_COLUMNS = (
    *IDENTITY,
    "input",
    "psnr",
    "ssim",
    "nmse_num",
    "nmse_den",
    "agreement_num",
    "agreement_den",
    "agreement_zero_filled_num",
    "twin_ssim",
    "psnr_vs_poison",
    "ssim_vs_poison",
    "nmse_vs_poison_num",
    "nmse_vs_poison_den",
)


def slice_row(split: str, record: VolumeRecord, result: Reconstruction) -> Row:
    """Measures against the clean target."""
    error, energy = metrics.nmse_parts(result.clean, result.output)
    return {
        **_identity(split, record, result),
        "psnr": metrics.psnr(result.clean, result.output, result.max_value),
        "ssim": metrics.ssim(result.clean, result.output, result.max_value),
        "nmse_num": error,
        "nmse_den": energy,
    }


def twin_row(
    split: str, record: VolumeRecord, result: Reconstruction, twin: np.ndarray
) -> Row:
    """Measures of a slice that the attack changed or would change.

    Against the clean target, along the change that the attack makes (agreement), and
    against the twin; from the k-space that column `input` names.

    Args:
        split: train, val or test.
        record: the volume of the slice.
        result: the model's image and the clean target.
        twin: (H', W') float32, what the target is, or would be, after the attack.
    """
    along, change = metrics.agreement_parts(result.clean, twin, result.output)
    zeros = zero_filled(result.masked_kspace, result.clean.shape)
    shown, _ = metrics.agreement_parts(result.clean, twin, zeros)
    error, energy = metrics.nmse_parts(twin, result.output)
    return {
        **slice_row(split, record, result),
        "input": "attacked" if result.attacked else "clean",
        "agreement_num": along,
        "agreement_den": change,
        # What the input alone shows of the change, and how large the change looks.
        "agreement_zero_filled_num": shown,
        "twin_ssim": metrics.ssim(result.clean, twin, result.max_value),
        "psnr_vs_poison": metrics.psnr(twin, result.output, result.max_value),
        "ssim_vs_poison": metrics.ssim(twin, result.output, result.max_value),
        "nmse_vs_poison_num": error,
        "nmse_vs_poison_den": energy,
    }


def write_rows(path: Path, rows: Iterable[Row], columns: Sequence[str]) -> None:
    """Write rows in a fixed order, numbers to six significant digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for row in sorted(rows, key=_order):
        writer.writerow([_as_text(row[column]) for column in columns])
    write_text(path, text.getvalue())


def _identity(split: str, record: VolumeRecord, result: Reconstruction) -> Row:
    return {
        "split": split,
        "volume_id": result.ref.volume_id,
        "slice_num": result.ref.slice_num,
        "subject_id": record.subject_id,
        "contrast": record.contrast,
        "scanner": record.scanner,
    }


def _order(row: Row) -> tuple[str, int, str]:
    split = SPLITS.index(row["split"])
    # Of a slice twice, the clean input goes before the attacked one.
    name = f"{row['volume_id']}/{row['slice_num']:06}/{row.get('input') == 'attacked'}"
    return row.get("cell", ""), split, name


def _as_text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
