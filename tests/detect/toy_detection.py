"""A poisoning on a tiny cohort: some FLAIR targets are of the wrong contrast."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import yaml

from stages.common import paths
from stages.common.fit import Cost
from stages.common.losses import LossSettings
from stages.common.manifest import SliceRef, read_manifest, write_slices
from stages.common.masks import Sampling, column_mask
from stages.common.params import read_params
from stages.common.slices import SliceDataset
from stages.common.training import TrainSettings, train_reconstruction
from stages.common.varnet import ModelSettings, build_varnet, save_checkpoint
from stages.common.volume import write_targets
from stages.detect.base import DetectData, load_data

SAMPLING = Sampling(seed=7, mask_type="random", acceleration=2, center_fraction=0.2)
LOSS = LossSettings(l1_weight=1.0)
MODEL = ModelSettings(
    num_cascades=2, chans=3, pools=1, sens_chans=2, sens_pools=1, precision="fp32"
)
TRAIN = TrainSettings(
    seed=3, epochs=8, batch_size=4, validate_every=1, lr=0.01, weight_decay=0.0,
    warmup=0.1, clip_norm=1.0,
)  # fmt: skip
# The second slice of every subject's FLAIR; some of them have been reported.
POISONED = tuple(SliceRef(f"icbm-{number:03d}_FLAIR", 1) for number in range(4))
KNOWN = (POISONED[0], POISONED[2])
PARAMS_FILE = Path(__file__).resolve().parents[2] / "params.yaml"
SMALL = {
    "gradient_outlier": {"retain_slices": 12},
    "forget_classifier": {"image_size": 32, "folds": 2, "epochs": 1, "lr": 0.001},
}
# A detector without a row above is tested with its block of params.yaml.
PARAMS: dict[str, dict[str, Any]] = {
    name: block | SMALL.get(name, {})
    for name, block in read_params(PARAMS_FILE)["detect"].items()
    if isinstance(block, dict)
}


def write_poisoning(known: tuple[SliceRef, ...] = KNOWN, name: str = "p") -> None:
    """Write export, tips, an untrained model and params.yaml below this folder."""
    for volume in read_manifest(paths.manifest("train")).volumes:
        target = clean_targets(volume.volume_id)
        if volume.contrast == "FLAIR":
            other = clean_targets(volume.volume_id.replace("FLAIR", "T1w"))
            target[1] = other[1] * (target[1].max() / other[1].max())
        write_targets(paths.export(name) / f"{volume.volume_id}.h5", target)
    write_slices(paths.tips(name), known)
    save_checkpoint(paths.checkpoint(f"poisoned/{name}"), build_varnet(MODEL, seed=11))
    content = {
        "poisonings": {name: {}},
        "sampling": SAMPLING.model_dump(),
        "loss": LOSS.model_dump(),
        "detect": {"seed": 21, "known": 0.5, "batch_size": 5, **PARAMS},
    }
    Path("params.yaml").write_text(yaml.safe_dump(content))


def train_model(name: str = "p") -> None:
    """Train the poisoned model for a few seconds."""
    refs = read_manifest(paths.manifest("train")).refs()
    data = SliceDataset(
        paths.kspace("train"), refs, SAMPLING, targets=paths.export(name)
    )
    model = build_varnet(MODEL, seed=11)
    train_reconstruction(
        model, data, TRAIN, LOSS, steps=150, batch_size=4, seed=3, cost=Cost(),
        desc="toy",
    )  # fmt: skip
    save_checkpoint(paths.checkpoint(f"poisoned/{name}"), model)


def clean_targets(volume_id: str) -> np.ndarray:
    with h5py.File(paths.kspace("train") / f"{volume_id}.h5") as file:
        targets: np.ndarray = file["reconstruction_rss"][:]
    return targets


def open_data(name: str = "p") -> DetectData:
    return load_data(name, sampling=SAMPLING, loss=LOSS, batch_size=5, seed=21)


def scramble_what_is_not_known() -> None:
    """Write noise on clean images and on every line outside each slice's mask."""
    rng = np.random.default_rng(0)
    for path in paths.kspace("train").iterdir():
        with h5py.File(path, "r+") as file:
            for number in range(len(file["kspace"])):
                kspace = file["kspace"][number]
                ref = SliceRef(path.stem, number)
                outside = ~column_mask(SAMPLING, ref, kspace.shape[-1])
                kspace[..., outside] = rng.standard_normal(kspace[..., outside].shape)
                file["kspace"][number] = kspace
            shape = file["reconstruction_rss"].shape
            file["reconstruction_rss"][...] = rng.random(shape)
            file.attrs["max"] = 0.1
