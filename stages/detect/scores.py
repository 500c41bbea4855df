"""Write what a detector says: one row per training slice, without any truth."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from stages.common.manifest import SliceRef
from stages.common.volume import write_text

COLUMNS = ("volume_id", "slice_num", "score", "known")


def write_scores(
    path: Path,
    refs: Sequence[SliceRef],
    scores: Mapping[SliceRef, float],
    known: Sequence[SliceRef],
) -> None:
    """Write a score for every slice, in the order of `refs`.

    Args:
        path: the CSV file.
        refs: every training slice.
        scores: higher for more suspicious; written with six significant digits.
        known: the slices that had been reported.

    Raises:
        ValueError: a slice has no finite score.
    """
    missing = [ref for ref in refs if not math.isfinite(scores.get(ref, math.nan))]
    if missing:
        raise ValueError(
            f"{path.stem}: {len(missing)} of {len(refs)} slices have no finite score, "
            f"such as slice {missing[0].slice_num} of {missing[0].volume_id}: look at "
            "its k-space and target, and at the poisoned model"
        )
    reported = set(known)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for ref in refs:
        writer.writerow([*ref, f"{scores[ref]:.6g}", int(ref in reported)])
    write_text(path, text.getvalue())
