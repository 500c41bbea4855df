"""Where every file of a cell lives: the only place that builds a path.

A *cell* is one node of the grid and has one key: `oracle-0`, `oracle_continue`,
`poisoned/<poisoning>`, `continue/<poisoning>`, `drop_all/<poisoning>` or
`unlearned/<scenario>/<method>`. All paths are relative to the project's root.
"""

import re
from pathlib import Path

DATA = Path("data")
METRICS = Path("metrics")
CODE = DATA / "code"
SCRATCH = Path(".scratch")
SPLITS = ("train", "val", "test")

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*(/[A-Za-z0-9][A-Za-z0-9_.-]*)*")


def can_name(name: str) -> bool:
    """Whether a key can be a part of a path, and stays in its folder there."""
    return bool(_NAME.fullmatch(name))


def _checked(name: str) -> str:
    """Refuse a key that could leave its folder."""
    if not can_name(name):
        raise ValueError(
            f"'{name}' cannot name a cell: use letters, digits, '_', '-' and '.', "
            "parts joined by '/'"
        )
    return name


def code(name: str) -> Path:
    """Code and parameters of one kind of cell: a name of `cell_inputs.KINDS`."""
    return CODE / f"{_checked(name)}.txt"


def raw(source: str) -> Path:
    return DATA / "raw" / _checked(source)


def kspace(split: str) -> Path:
    """Folder of a split's volume files, and nothing else (SliceDataset opens all)."""
    return DATA / "kspace" / _checked(split)


def manifest(split: str) -> Path:
    return DATA / "kspace" / f"{_checked(split)}.json"


def artefacts() -> Path:
    """The pool of artefact-ridden images that targets may be mislabelled with."""
    return DATA / "artefacts"


def export(poisoning: str) -> Path:
    """The training targets as their owner holds them, one file per volume."""
    return DATA / "export" / _checked(poisoning)


def truth(poisoning: str) -> Path:
    """What was poisoned and the twins: for poison, forget, evaluate, report only."""
    return DATA / "truth" / "poisoning" / _checked(poisoning)


def answers(scenario: str) -> Path:
    """The truth of a scenario's poisoning, placed where `evaluate` can name it."""
    return DATA / "truth" / "scenario" / _checked(scenario)


def case(scenario: str) -> Path:
    """All that an unlearner is given: forget.json, model.safetensors, targets/."""
    return DATA / "cases" / _checked(scenario)


def tips(poisoning: str) -> Path:
    """The few poisoned slices that somebody reported: what detectors learn from."""
    return DATA / "tips" / f"{_checked(poisoning)}.json"


def drop_list(poisoning: str) -> Path:
    """Every poisoned slice: what `drop_all` is trained without."""
    return DATA / "drop" / f"{_checked(poisoning)}.json"


def model(cell: str) -> Path:
    """Folder with model.safetensors and cost.json."""
    return DATA / "models" / _checked(cell)


def checkpoint(cell: str) -> Path:
    return model(cell) / "model.safetensors"


def cost(cell: str) -> Path:
    return model(cell) / "cost.json"


def classifier() -> Path:
    """The tumour classifier that two attacks fool."""
    return model("classifier") / "model.safetensors"


def classifier_metrics() -> Path:
    return METRICS / "classifier.json"


def panels(cell: str) -> Path:
    return DATA / "panels" / f"{_checked(cell)}.h5"


def curve(cell: str) -> Path:
    return METRICS / "curves" / f"{_checked(cell)}.csv"


def cell_metrics(cell: str) -> Path:
    return METRICS / "cells" / f"{_checked(cell)}.json"


def slice_rows(cell: str) -> Path:
    """One row per slice: the measures against the clean target."""
    return METRICS / "slices" / f"{_checked(cell)}.csv"


def twin_rows(cell: str) -> Path:
    """One row per poisoned or twinned slice: agreement, and measures against poison."""
    return METRICS / "twins" / f"{_checked(cell)}.csv"


def detection(poisoning: str, detector: str) -> Path:
    """One row per training slice: how suspicious it is, under the closed model."""
    return METRICS / "detection" / _checked(poisoning) / f"{_checked(detector)}.csv"


def open_detection(poisoning: str, detector: str) -> Path:
    """The same of a detector that sees fully sampled k-space."""
    folder = METRICS / "detection_open" / _checked(poisoning)
    return folder / f"{_checked(detector)}.csv"


def timing(stage: str, cell: str = "") -> Path:
    return METRICS / "timing" / stage / f"{_checked(cell or stage)}.json"


def scratch(cell: str) -> Path:
    """Ignored folder for what a resumed run picks up again."""
    return SCRATCH / _checked(cell)
