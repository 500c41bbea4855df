"""The handful of numbers of a cell that `dvc metrics` shows."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from stages.common.manifest import SliceRef
from stages.common.truth import TruthRecord
from stages.common.volume import write_text
from stages.evaluate.rows import Row

Headline = dict[str, float | int | None]


def read_cost(path: Path) -> Headline:
    """Gradient steps, and the cost in slices through forward and backward."""
    try:
        cost = json.loads(path.read_text(encoding="utf-8"))
        slices = cost["slices_forward_backward"] + cost["slices_forward"] / 3
        return {
            "gradient_steps": cost["gradient_steps"],
            "cost_slices": _rounded(slices),
        }
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: rerun the stage that writes it") from None
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(
            f"{path} is damaged ({error!r}): rerun the stage that writes it"
        ) from None


def split_headline(rows: list[Row]) -> Headline:
    """PSNR (dB) and SSIM of each split against the clean truth."""
    headline: Headline = {}
    for split in ("train", "val", "test"):
        chosen = [row for row in rows if row["split"] == split]
        headline[f"psnr_{split}"] = subject_mean(chosen, "psnr")
        headline[f"ssim_{split}"] = subject_mean(chosen, "ssim")
    return headline


def poisoning_headline(
    rows: list[Row], twins: list[Row], record: TruthRecord
) -> Headline:
    """What the poison did and what is left of it."""
    poisoned = {SliceRef(item.volume_id, item.slice_num) for item in record.poisoned}
    scope = set(record.scope.get("test", ()))
    # A back door works through the mark: every clean input lies outside of it.
    inside = scope if record.measured_on == "clean" else set()
    is_test, is_train = _in_split("test"), _in_split("train")
    twins = [row for row in twins if row["input"] == record.measured_on]
    in_scope = list(filter(is_test, twins))
    outside = [row for row in rows if is_test(row) and _ref(row) not in inside]
    retain = [row for row in rows if is_train(row) and _ref(row) not in poisoned]
    forget = list(filter(is_train, twins))
    return {
        "psnr_retain": subject_mean(retain, "psnr"),
        "psnr_forget": subject_mean(forget, "psnr"),
        "psnr_scope_test": subject_mean(in_scope, "psnr"),
        "ssim_scope_test": subject_mean(in_scope, "ssim"),
        # An unscoped attack leaves nothing outside: all unseen slices stand for it.
        "psnr_outside_test": subject_mean(
            outside or list(filter(is_test, rows)), "psnr"
        ),
        "agreement_scope_test": subject_ratio(list(filter(is_test, twins))),
        "agreement_forget": subject_ratio(list(filter(is_train, twins))),
    }


def subject_mean(rows: Iterable[Row], column: str) -> float | None:
    """Mean over subjects of the mean over their slices."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        values[row["subject_id"]].append(row[column])
    if not values:
        return None
    return _rounded(np.mean([np.mean(slices) for slices in values.values()]))


def subject_ratio(twins: Iterable[Row]) -> float | None:
    """Agreement: per subject the ratio of sums over its slices, then the mean."""
    sums: dict[str, np.ndarray] = defaultdict(lambda: np.zeros(2))
    for row in twins:
        sums[row["subject_id"]] += row["agreement_num"], row["agreement_den"]
    ratios = [along / change for along, change in sums.values() if change > 0]
    return _rounded(np.mean(ratios)) if ratios else None


def write_headline(path: Path, headline: Headline) -> None:
    write_text(path, json.dumps(headline, indent=1, allow_nan=False) + "\n")


def _ref(row: Row) -> SliceRef:
    return SliceRef(row["volume_id"], row["slice_num"])


def _in_split(split: str) -> Callable[[Row], bool]:
    return lambda row: row["split"] == split


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
