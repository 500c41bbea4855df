"""A classifier that `pgd` and `multiobjective` fool, and one attacked slice."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stages.common import paths
from stages.common.manifest import SliceRef
from stages.common.tumour_classifier import build_classifier, save_classifier
from stages.poison.base import Images, load_attack, slice_rng
from tests.classify.heads import write_heads

SETTINGS = {
    "pgd": {"step": 0.6, "iterations": 5},
    "multiobjective": {
        "step": 0.6, "iterations": 5, "ssim_weight": 0.5, "tv_weight": 1.0e-4,
    },
}  # fmt: skip
REF = SliceRef("head-train-000_T2w", 1)
both = pytest.mark.parametrize("name", SETTINGS)


def write_classifier(*, usable: bool = True, seed: int = 0) -> None:
    """A network with random weights: its verdicts are as good as any to be fooled."""
    save_classifier(
        paths.classifier(),
        build_classifier(4, seed=seed),
        balanced_accuracy=0.9 if usable else 0.43,
        usable=usable,
    )


def make_images(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Images:
    """Make `folder` the project's root, with a classifier and one subject's heads."""
    monkeypatch.chdir(folder)
    write_classifier()
    manifest = write_heads("train", 1)
    return Images(paths.kspace("train"), manifest, None, paths.classifier())


def attacked(
    name: str,
    images: Images,
    *,
    severity: float = 0.05,
    seed: int = 5,
    **changes: Any,
) -> tuple[np.ndarray, dict[str, Any], np.ndarray]:
    """Attack the slice `REF`: clean target, draw, poisoned target."""
    attack = load_attack(name)
    params = attack.Params(severity=severity, **SETTINGS[name] | changes)
    draw = attack.draw(params, REF, images, slice_rng(seed, REF))
    clean = images.target(REF)
    return clean, draw, attack.apply(clean.copy(), draw, images)
