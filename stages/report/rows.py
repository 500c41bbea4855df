"""Read per-slice rows and say which split every slice belongs to."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from stages.common import paths
from stages.common.manifest import SliceRef, read_slices
from stages.common.truth import TruthRecord, read_record
from stages.report.settings import Scenario

KEY = ["volume_id", "slice_num"]
IDENTITY = ["split", "subject_id", "contrast", "scanner"]
SLICE_VALUES = ["psnr", "ssim", "nmse_num", "nmse_den"]
INPUT = "input"
TWIN_VALUES = [
    "agreement_num",
    "agreement_den",
    "agreement_zero_filled_num",
    "twin_ssim",
    "psnr_vs_poison",
    "ssim_vs_poison",
    "nmse_vs_poison_num",
    "nmse_vs_poison_den",
]

# Likeness to the exported target of a poisoned slice or a twin.
EXPORT_VALUES = {"psnr_vs_poison": "psnr_vs_export", "ssim_vs_poison": "ssim_vs_export"}

Refs = frozenset[SliceRef]


class Membership(NamedTuple):
    """Which slices make up each split, and what the unlearner was told.

    Attributes:
        splits: name, see `stages/report/README.md` -> its slices.
        told: the known forget set as given, with false alarms if it came from a
            detector; `forget_known` is its truly poisoned part.
        kept: all other training slices.
        measured_on: the k-space that tells whether the poison works, `clean` or
            `attacked`; see `TruthRecord`.
    """

    splits: dict[str, Refs]
    told: Refs
    kept: Refs
    measured_on: str = "clean"


class ModelRows(NamedTuple):
    """All rows of a model in a scenario, by (volume_id, slice_num).

    Attributes:
        clean: every slice from its clean k-space; with the measures along the attack
            where there is a twin, and `EXPORT_VALUES` from the k-space that the attack
            exports.
        measured: the same, but poisoned and in-scope slices from the k-space that the
            attack is measured on.
    """

    clean: pd.DataFrame
    measured: pd.DataFrame


def evaluated_by(cell: str) -> str:
    """The DVC stage that writes a cell's rows."""
    family, _, rest = cell.partition("/")
    if family in ("poisoned", "continue"):
        return f"evaluate_poisoned@{family}-{rest}"
    if family == "unlearned":
        return f"evaluate@{rest.replace('/', '-')}"
    if rest:
        return f"evaluate_{family}@{rest}"
    return f"evaluate_{family.replace('-', '@')}"


def read_slice_rows(cell: str) -> pd.DataFrame:
    """Rows against the clean truth, by (volume_id, slice_num)."""
    path = paths.slice_rows(cell)
    return _read_csv(path, cell, [*KEY, *IDENTITY, *SLICE_VALUES]).set_index(KEY)


def read_twin_rows(cell: str) -> pd.DataFrame:
    """Rows of poisoned and twinned slices, by (volume_id, slice_num)."""
    path = paths.twin_rows(cell)
    columns = [INPUT, *SLICE_VALUES, *TWIN_VALUES]
    return _read_csv(path, cell, [*KEY, *columns]).set_index(KEY)[columns]


def read_reference_rows(poisoning: str, cell: str) -> pd.DataFrame:
    """The same rows of a model that never saw the poison."""
    key = f"references/{poisoning}"
    columns = [INPUT, *SLICE_VALUES, *TWIN_VALUES]
    rows = _read_csv(paths.twin_rows(key), key, ["cell", *KEY, *columns])
    return rows[rows["cell"] == cell].set_index(KEY)[columns]


def read_attacked_rows(poisoning: str, cell: str) -> pd.DataFrame:
    """Rows of a model from k-space that the attack has changed; mostly none."""
    known = cell.partition("/")[1]
    rows = read_twin_rows(cell) if known else read_reference_rows(poisoning, cell)
    return rows[rows[INPUT] == "attacked"]


def read_model(scenario: Scenario, cell: str, membership: Membership) -> ModelRows:
    """All rows of a model in a scenario: clean measures, and twin ones where due.

    Raises:
        ValueError: rows are missing; names the cell and the stage to rerun.
    """
    slices = read_slice_rows(cell)
    if cell.partition("/")[1]:
        source, twins = cell, read_twin_rows(cell)
    else:
        source = f"references/{scenario.poisoning}"
        twins = read_reference_rows(scenario.poisoning, cell)
    splits = membership.splits
    _require(slices, frozenset().union(*splits.values()), cell)
    twinned = splits["forget"] | splits["scope_val"] | splits["scope_test"]
    on = membership.measured_on
    own = twins[twins[INPUT] == "attacked"]
    twins = twins[twins[INPUT] == on].drop(columns=INPUT)
    _require(twins, twinned, source)
    clean = slices.join(twins[TWIN_VALUES])
    exported = (twins if own.empty else own)[[*EXPORT_VALUES]]
    _require(exported, twinned, source)
    clean = clean.join(exported.rename(columns=EXPORT_VALUES))
    if on == "clean" and not own.empty:
        # What a model makes of k-space that was changed together with its image.
        own = own[["agreement_num", "agreement_den"]]
        clean = clean.join(own.rename(columns=_own_name))
    measured = clean.copy()
    measured.loc[twins.index, SLICE_VALUES] = twins[SLICE_VALUES]
    return ModelRows(clean, measured)


def read_membership(scenario: Scenario) -> Membership:
    """Who is poisoned, known and in the scope, from the scenario's truth."""
    folder = paths.answers(scenario.name)
    record = read_record(folder)
    known = read_slices(folder / "known.json", made_by=f"forget@{scenario.name}")
    slices = read_slice_rows(scenario.cells["none"])
    everything = {
        split: frozenset(SliceRef(*ref) for ref in group.index)
        for split, group in slices.groupby("split")
    }
    # Every unseen slice has a clean input, whatever slices carry a back door.
    scoped = scenario.scoped and record.measured_on == "clean"
    return split_slices(everything, record, known, scoped=scoped)


def split_slices(
    everything: dict[str, Refs],
    record: TruthRecord,
    known: Iterable[SliceRef],
    *,
    scoped: bool,
) -> Membership:
    """Divide all slices into the splits of `stages/report/README.md`.

    Args:
        everything: train, val, test -> all slices.
        record: what was poisoned, and the attack's scope.
        known: the forget set as the unlearner gets it.
        scoped: False makes "outside" all unseen slices.
    """
    train = everything.get("train", frozenset())
    poisoned = frozenset(entry.ref for entry in record.poisoned)
    told = frozenset(SliceRef(*ref) for ref in known)
    stray = sorted((poisoned | told) - train)
    if stray:
        raise ValueError(
            f"{record.poisoning}: slice {stray[0].slice_num} of {stray[0].volume_id} "
            "is no training slice of the evaluated rows: run `dvc repro`"
        )
    splits = {
        "retain": train - poisoned,
        "forget": poisoned,
        "forget_known": poisoned & told,
        "forget_hidden": poisoned - told,
    }
    for split in ("val", "test"):
        unseen = everything.get(split, frozenset())
        scope = frozenset(record.scope.get(split, ())) & unseen
        splits[split] = unseen
        splits[f"scope_{split}"] = scope
        splits[f"outside_{split}"] = unseen - scope if scoped else unseen
    return Membership(splits, told, train - told, record.measured_on)


def _own_name(column: str) -> str:
    return column.replace("agreement", "agreement_own")


def _read_csv(path: Path, cell: str, columns: list[str]) -> pd.DataFrame:
    rerun = f"run `dvc repro {evaluated_by(cell)}`"
    try:
        rows = pd.read_csv(path, dtype={name: str for name in ("volume_id", *IDENTITY)})
    except FileNotFoundError:
        raise ValueError(f"{path}: no rows of cell '{cell}': {rerun}") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is damaged ({error}): {rerun}") from None
    absent = [name for name in columns if name not in rows]
    if absent:
        raise ValueError(f"{path} lacks the columns {', '.join(absent)}: {rerun}")
    return rows


def _require(rows: pd.DataFrame, refs: Refs, cell: str) -> None:
    missing = sorted(refs - {SliceRef(*ref) for ref in rows.index})
    if missing:
        raise ValueError(
            f"cell '{cell}' has no row of {missing[0].volume_id}, slice "
            f"{missing[0].slice_num} ({len(missing)} missing): run "
            f"`dvc repro {evaluated_by(cell)}`"
        )
    if not rows.index.is_unique:
        raise ValueError(
            f"cell '{cell}' has a slice twice: run `dvc repro {evaluated_by(cell)}`"
        )
