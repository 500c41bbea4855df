"""Lay out one trial: a folder of its own, in which stage `unlearn` is run.

The folder has a `params.yaml` with the trial's values, and of the data the training
k-space and the case without what is held out. Validation, test and truth are not there.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from stages.common import paths
from stages.common.manifest import write_manifest, write_slices
from stages.common.params import PARAMS_FILE
from stages.common.volume import write_text
from stages.tune.data import TuneData


def prepare(
    folder: Path,
    params: Mapping[str, Any],
    scenario: str,
    data: TuneData,
) -> None:
    """Lay out what `unlearn` reads, below `folder`; what is there stays."""
    write_text(folder / PARAMS_FILE, yaml.safe_dump(dict(params), sort_keys=False))
    write_manifest(folder / paths.manifest("train"), data.manifest)
    write_slices(folder / paths.case(scenario) / "forget.json", data.forget)
    case = paths.case(scenario)
    for path in (paths.kspace("train"), case / "model.safetensors", case / "targets"):
        link = folder / path
        if not link.is_symlink():
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
