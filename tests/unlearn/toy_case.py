"""A scenario on the tiny cohort: FLAIR targets turned upside down, some of it known."""

import copy
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from stages.common import paths
from stages.common.fit import Cost
from stages.common.losses import LossSettings
from stages.common.manifest import SliceRef, read_manifest, write_slices
from stages.common.masks import Sampling
from stages.common.params import read_params
from stages.common.slices import SliceDataset
from stages.common.training import TrainSettings
from stages.common.varnet import ModelSettings, VarNet, build_varnet, save_checkpoint
from stages.common.volume import write_targets
from stages.unlearn.base import UnlearnCase, load_case
from stages.unlearn.slice_values import loss_value, slice_values

SAMPLING = Sampling(seed=7, mask_type="random", acceleration=2, center_fraction=0.2)
LOSS = LossSettings(l1_weight=1.0)
MODEL = ModelSettings(
    num_cascades=1, chans=3, pools=1, sens_chans=2, sens_pools=1, precision="fp32"
)
TRAIN = TrainSettings(
    seed=3, epochs=2, batch_size=4, validate_every=1, lr=0.003, weight_decay=0.0,
    warmup=0.0, clip_norm=1.0,
)  # fmt: skip
KNOWN = (SliceRef("icbm-000_FLAIR", 0), SliceRef("icbm-000_FLAIR", 2),
         SliceRef("icbm-001_FLAIR", 1))  # fmt: skip
PARAMS_FILE = Path(__file__).resolve().parents[2] / "params.yaml"
QUICK = {"epochs": 1.0, "teacher_epochs": 1.0, "healing_steps": 3, "max_rounds": 8}


def write_case(known: tuple[SliceRef, ...] = KNOWN, scenario: str = "s") -> None:
    """Write data/cases/<scenario> below the current folder."""
    folder = paths.case(scenario)
    for volume in read_manifest(paths.manifest("train")).volumes:
        with h5py.File(paths.kspace("train") / f"{volume.volume_id}.h5") as file:
            target = file["reconstruction_rss"][:]
        if volume.contrast == "FLAIR":
            target = np.ascontiguousarray(target[:, ::-1])
        write_targets(folder / "targets" / f"{volume.volume_id}.h5", target)
    write_slices(folder / "forget.json", known)
    save_checkpoint(folder / "model.safetensors", build_varnet(MODEL, seed=11))


def open_case(scratch: Path, scenario: str = "s") -> tuple[VarNet, UnlearnCase]:
    scratch.mkdir(exist_ok=True, parents=True)
    return load_case(
        scenario,
        sampling=SAMPLING,
        train=TRAIN,
        loss=LOSS,
        seed=41,
        cost=Cost(),
        scratch=scratch,
    )


def quick(block: dict[str, Any]) -> dict[str, Any]:
    """A method's parameters, of which none takes longer than QUICK."""
    return block | {
        key: value if block[key] is None else min(value, block[key])
        for key, value in QUICK.items()
        if key in block
    }


def params_of(method: Any, **changes: Any) -> Any:
    """A method's block of params.yaml, with fewer epochs and some changes."""
    block = dict(read_params(PARAMS_FILE)["unlearn"][method.__name__.split(".")[-1]])
    return method.Params(**quick(block) | changes)


def same(a: VarNet, b: VarNet) -> bool:
    first, second = a.state_dict(), b.state_dict()
    return list(first) == list(second) and all(
        torch.equal(first[name], second[name]) for name in first
    )


def fingerprint(model: VarNet) -> str:
    return json.dumps(
        {name: value.flatten().tolist() for name, value in model.state_dict().items()}
    )


def losses_of(model: VarNet, dataset: SliceDataset) -> dict[SliceRef, float]:
    """Training's loss of each slice; the model is left as it was."""
    other = copy.deepcopy(model)
    return slice_values(other, dataset, loss_value(LOSS), batch_size=4, cost=Cost())


def loss_of(model: VarNet, dataset: SliceDataset) -> float:
    return float(np.mean(list(losses_of(model, dataset).values())))
