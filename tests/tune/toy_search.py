"""A project in which a search takes a moment: toy cohort, toy case, a stand-in method.

The stand-in for stage `unlearn` scales the poisoned model's weights by `lam`, so that a
trial's result follows from its `params.yaml` and from nothing else.
"""

import json
from pathlib import Path
from typing import Any

import torch
import yaml

from stages.common import paths
from stages.common.manifest import SliceRef, read_manifest
from stages.common.substage import Ended
from stages.common.truth import PoisonedSlice, TruthRecord, write_truth
from stages.common.varnet import load_checkpoint, save_checkpoint
from stages.tune.log import COSTS
from tests.unlearn.toy_case import KNOWN, LOSS, SAMPLING, TRAIN, write_case

ROOT = Path(__file__).resolve().parents[2]
SPACE = {"lam": {"low": 0.05, "high": 5.0, "log": True}}
TUNE = {
    "seed": 71,
    "budget": 3,
    "scenarios": ["s"],
    "holdout": 0.34,
    "trusted": 1,
    "held_lines": 0.25,
    "methods": {"ssd": SPACE},
}


def write_project(make_cohort: Any, **tune: Any) -> dict[str, Any]:
    """Write cohort, case and params.yaml below the current folder, and no truth."""
    make_cohort(train=3, val=2)
    write_case()
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["scenarios"]["s"] = {"poisoning": "mislabel-30", "known": 0.2, "seed": 21}
    params |= {
        "sampling": SAMPLING.model_dump(),
        "train": TRAIN.model_dump(),
        "loss": LOSS.model_dump(),
        "tune": TUNE | tune,
    }
    Path("params.yaml").write_text(yaml.safe_dump(params))
    Path("stages").symlink_to(ROOT / "stages")
    return params


def write_answers() -> None:
    """Write the truth of the case: FLAIR is the scope."""
    scope = {
        split: tuple(
            ref
            for ref in read_manifest(paths.manifest(split)).refs()
            if ref.volume_id.endswith("FLAIR")
        )
        for split in ("train", "val")
    }
    record = TruthRecord(
        poisoning="p",
        attack="mislabel",
        changes_input=False,
        measured_on="clean",
        scope=scope,
        poisoned=tuple(_poisoned(ref) for ref in KNOWN),
    )
    write_truth(paths.answers("s"), record, {})


def _poisoned(ref: SliceRef) -> PoisonedSlice:
    return PoisonedSlice(
        volume_id=ref.volume_id,
        slice_num=ref.slice_num,
        draw={},
        clean_sha256="",
        poisoned_sha256="",
        kspace_sha256=None,
        change_nmse=0.5,
    )


class StandIn:
    """In place of `run_unlearn`; remembers the `lam` of each trial.

    Attributes:
        stop_at: the run that a kill interrupts.
        refuse_at: the run in which the method refuses, as with a loss that is NaN.
    """

    def __init__(self, stop_at: int = -1, refuse_at: int = -1) -> None:
        self.runs: list[float] = []
        self.stop_at, self.refuse_at = stop_at, refuse_at

    def __call__(self, folder: Path, scenario: str, method: str) -> Ended:
        number = len(self.runs)
        lam = yaml.safe_load((folder / "params.yaml").read_text())["unlearn"]["ssd"][
            "lam"
        ]
        if number == self.stop_at:
            raise KeyboardInterrupt
        self.runs.append(lam)
        if number == self.refuse_at:
            return Ended(None, {}, "ssd: loss is nan at step 3")
        model = load_checkpoint(folder / paths.case(scenario) / "model.safetensors")
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1 + 0.1 * lam)
        path = folder / paths.checkpoint(f"unlearned/{scenario}/{method}")
        save_checkpoint(path, model)
        return Ended(path, dict.fromkeys(COSTS, 1), "")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())
