"""What the detectors said, joined with the truth that they did not see."""

from typing import Any, Literal, NamedTuple

import pandas as pd

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.params import Settings, find_block, validate
from stages.common.truth import read_record
from stages.report.rows import read_slice_rows
from stages.report.settings import BootstrapSettings, ReportSettings

ThreatModel = Literal["closed", "open"]
COLUMNS = ["volume_id", "slice_num", "score", "known"]


class _Grid(Settings, extra="ignore"):
    detected: tuple[str, ...]
    detectors: tuple[str, ...]
    open_detectors: tuple[str, ...]


class _Poisoning(Settings, extra="ignore"):
    attack: str
    share: float


class _Scenario(Settings, extra="ignore"):
    poisoning: str
    detected: str | None = None
    budget: float | str | None = None
    with_tips: bool = False


class DetectionCell(NamedTuple):
    """One detector on one poisoning.

    Attributes:
        share_key: poisoned share, with the poisoning's name where another poisoning has
            the same attack and share.
    """

    poisoning: str
    attack: str
    share: float
    share_key: str
    detector: str
    threat_model: ThreatModel


class DetectionPlan(NamedTuple):
    """What the report must say of detectors.

    Attributes:
        cells: in the order of the tables.
        scenarios: those whose known forget set is detected.
        bootstrap: how intervals are made.
    """

    cells: tuple[DetectionCell, ...]
    scenarios: dict[str, _Scenario]
    bootstrap: BootstrapSettings


def read_detection_plan(params: dict[str, Any]) -> DetectionPlan:
    """Derive it from the whole of `params.yaml`.

    Raises:
        ParamsError: a key is missing or wrong.
    """
    grid = validate(find_block(params, "grid"), "grid", _Grid)
    poisonings = validate(
        find_block(params, "poisonings"), "poisonings", dict[str, _Poisoning]
    )
    scenarios = validate(
        find_block(params, "scenarios"), "scenarios", dict[str, _Scenario]
    )
    report = validate(find_block(params, "report"), "report", ReportSettings)
    detectors: list[tuple[str, ThreatModel]] = [
        *((name, "closed") for name in grid.detectors),
        *((name, "open") for name in grid.open_detectors),
    ]
    keys = _share_keys(poisonings)
    cells = tuple(
        DetectionCell(name, row.attack, row.share, keys[name], detector, threat_model)
        for name, row in poisonings.items()
        if name in grid.detected
        for detector, threat_model in detectors
    )
    found = {name: row for name, row in scenarios.items() if row.detected is not None}
    return DetectionPlan(cells, found, report.bootstrap)


def _share_keys(poisonings: dict[str, _Poisoning]) -> dict[str, str]:
    keys: dict[str, str] = {}
    taken: set[tuple[str, str]] = set()
    for name, row in poisonings.items():
        plain = f"{row.share:g}"
        keys[name] = f"{plain} ({name})" if (row.attack, plain) in taken else plain
        taken.add((row.attack, plain))
    return keys


def read_scores(cell: DetectionCell) -> pd.DataFrame:
    """Every training slice: score, known, poisoned, in_scope, subject_id; sorted.

    Raises:
        ValueError: rows are missing or damaged; names the stage to rerun.
    """
    place = paths.detection if cell.threat_model == "closed" else paths.open_detection
    path = place(cell.poisoning, cell.detector)
    stage = "detect" if cell.threat_model == "closed" else "detect_open"
    rerun = f"run `dvc repro {stage}@{cell.poisoning}-{cell.detector}`"
    try:
        rows = pd.read_csv(path, dtype={"volume_id": str})
    except FileNotFoundError:
        raise ValueError(f"{path} is missing: {rerun}") from None
    except (pd.errors.EmptyDataError, pd.errors.ParserError) as error:
        raise ValueError(f"{path} is damaged ({error}): {rerun}") from None
    absent = [name for name in COLUMNS if name not in rows]
    if absent:
        raise ValueError(f"{path} lacks the columns {', '.join(absent)}: {rerun}")
    slices = read_slice_rows(f"poisoned/{cell.poisoning}")
    subjects = slices.loc[slices["split"] == "train", "subject_id"]
    rows = rows.set_index(["volume_id", "slice_num"]).sort_index()
    if not rows.index.is_unique or set(rows.index) != set(subjects.index):
        raise ValueError(
            f"{path} has {len(rows)} rows, which are not the {len(subjects)} training "
            f"slices: {rerun}"
        )
    if rows["score"].isna().any():
        raise ValueError(f"{path} has a slice without a score: {rerun}")
    record = read_record(paths.truth(cell.poisoning))
    poisoned, scope = (
        {entry.ref for entry in record.poisoned},
        set(record.scope["train"]),
    )
    return rows.assign(
        known=rows["known"].astype(bool),
        poisoned=[SliceRef(*ref) in poisoned for ref in rows.index],
        in_scope=[SliceRef(*ref) in scope for ref in rows.index],
        subject_id=subjects.reindex(rows.index),
    )
