"""A folder in which stage `unlearn` runs on something else than its case."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from stages.common import paths
from stages.common.manifest import SliceRef, write_slices
from stages.common.params import PARAMS_FILE
from stages.common.volume import write_text


def lay_out(
    folder: Path,
    scenario: str,
    params: Mapping[str, Any],
    told: Sequence[SliceRef],
    model: Path,
) -> None:
    """Place what `unlearn` reads below an empty folder.

    Args:
        folder: where it will run.
        scenario: whose training data it sees.
        params: the whole of its `params.yaml`.
        told: its known forget set.
        model: the checkpoint that it starts from.
    """
    write_text(folder / PARAMS_FILE, yaml.safe_dump(dict(params), sort_keys=False))
    case = paths.case(scenario)
    write_slices(folder / case / "forget.json", told)
    sources = {
        paths.manifest("train"): paths.manifest("train"),
        paths.kspace("train"): paths.kspace("train"),
        case / "targets": case / "targets",
        case / "model.safetensors": model,
    }
    for place, source in sources.items():
        link = folder / place
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source.resolve())
