"""Seconds per stage of the last `make repro`, as its stages wrote them."""

import json

from stages.common import paths
from tests.benchmarks.timing import Entry

# What writes its time there too and is no stage of `make repro`.
BESIDE = ("aftermath", "tune")


def repro(previous: Entry, *, wall_seconds: float | None) -> Entry:
    """Sum the wall time of the stages' bodies; there is no reference for it.

    Args:
        previous: what is in the results so far, empty where nothing is.
        wall_seconds: of the whole `make repro`, interpreters and DVC included, as
            whoever ran it has measured it; None keeps the one given earlier for the
            same run.

    Raises:
        ValueError: no stage has run here.
    """
    folder = paths.METRICS / "timing"
    seconds: dict[str, list[float]] = {}
    for path in sorted(folder.rglob("*.json")):
        stage = path.relative_to(folder).parts[0]
        if stage in BESIDE:
            continue
        seconds.setdefault(stage, []).append(json.loads(path.read_text())["seconds"])
    if not seconds:
        raise ValueError(f"{folder} holds no timing: run `make repro`")
    stages = {
        stage: {"seconds": round(sum(values), 1), "cells": len(values)}
        for stage, values in seconds.items()
    }
    if wall_seconds is None and previous.get("stages") == stages:
        wall_seconds = previous["wall_seconds"]
    return {
        "ours": round(sum(map(sum, seconds.values())), 1),
        "reference": None,
        "ratio": None,
        "batch": None,
        "unit": "s",
        "stages": stages,
        "wall_seconds": wall_seconds,
    }
