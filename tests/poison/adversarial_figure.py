"""Draw what `pgd` and `multiobjective` do, as the paper's Fig. 2, and count the flips.

Inputs: `data/models/classifier`, `data/kspace/test`.
Outputs: `stages/poison/adversarial.png`, and a table in the log: for each attack and
budget the share of test slices (each without and with a simulated lesion) whose verdict
turns around, and the mean SSIM to the clean image.

    python -m tests.poison.adversarial_figure [--table]
"""

import argparse
import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np

from stages.common import paths
from stages.common.lesions import LesionSettings, add_lesion, draw_lesion
from stages.common.manifest import Manifest, SliceRef, read_manifest
from stages.common.metrics import ssim
from stages.poison import multiobjective, pgd
from stages.poison.adversarial import logit_of
from stages.poison.base import Images, slice_rng

log = logging.getLogger(__name__)

OUT = Path("stages/poison/adversarial.png")
LESIONS = LesionSettings(radius=(0.05, 0.09), halo=(1.6, 2.2), push=(0.2, 0.5))
SEVERITIES = (0.01, 0.02, 0.05)
SHOWN = 0.05
SETTINGS: dict[Any, dict[str, float]] = {
    pgd: {"step": 0.6, "iterations": 10},
    multiobjective: {
        "step": 0.6, "iterations": 10, "ssim_weight": 0.5, "tv_weight": 1.0e-4,
    },
}  # fmt: skip


class Slices(Images):
    """The test split, and the same slices with a simulated lesion."""

    def __init__(self, manifest: Manifest, classifier: Path, *, ill: bool) -> None:
        super().__init__(paths.kspace("test"), manifest, None, classifier)
        self.ill = ill

    def target(self, ref: SliceRef) -> np.ndarray:
        image = super().target(ref)
        if not self.ill:
            return image
        contrast = self.volumes[ref.volume_id].contrast
        draw = draw_lesion(slice_rng(9, ref), image, contrast, LESIONS)
        return image if draw is None else add_lesion(image, draw)


class Attacked(NamedTuple):
    """An image before and after, (H, W), and the classifier's logits."""

    clean: np.ndarray
    adversarial: np.ndarray
    before: float
    after: float


def attack(
    module: Any, images: Images, ref: SliceRef, severity: float, **changes: float
) -> Attacked:
    params = module.Params(severity=severity, **SETTINGS[module] | changes)
    clean = images.target(ref)
    draw = module.draw(params, ref, images, slice_rng(1, ref))
    moved = module.apply(clean, json.loads(json.dumps(draw)), images)
    return Attacked(clean, moved, logit_of(clean, images), logit_of(moved, images))


def write_table(splits: Sequence[Images], **changes: float) -> None:
    """Log a row for each attack and budget."""
    log.info("attack severity flipped ssim")
    for module in SETTINGS:
        for severity in SEVERITIES:
            done = [
                attack(module, images, ref, severity, **changes)
                for images in splits
                for ref in images.manifest.refs()
            ]
            flipped = np.mean([(a.before > 0) != (a.after > 0) for a in done])
            alike = np.mean([ssim(a.clean, a.adversarial, a.clean.max()) for a in done])
            name = module.__name__.split(".")[-1]
            log.info("%s %.2f %.3f %.3f", name, severity, flipped, alike)


def draw_figure(splits: Sequence[Images], ref: SliceRef) -> None:
    """Rows: each attack on a slice without and with a lesion."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    rows = [(module, images) for module in SETTINGS for images in splits]
    figure, axes = plt.subplots(len(rows), 3, figsize=(7.2, 9.8))
    for line, (module, images) in zip(axes, rows, strict=True):
        done = attack(module, images, ref, SHOWN)
        largest = done.clean.max()
        change = (done.adversarial - done.clean) / largest
        name = module.__name__.split(".")[-1]
        alike = ssim(done.clean, done.adversarial, largest)
        for axis, image, title in zip(
            line,
            (done.clean / largest, done.adversarial / largest, change),
            (
                f"original\n{verdict(done.before)}",
                f"{name}, severity {SHOWN}\n{verdict(done.after)}",
                f"difference\nSSIM {alike:.3f}",
            ),
            strict=True,
        ):
            signed = image is change
            axis.imshow(
                image,
                cmap="RdBu_r" if signed else "gray",
                vmin=-SHOWN if signed else 0,
                vmax=SHOWN if signed else 1,
            )
            axis.set_title(title, fontsize=9)
            axis.axis("off")
    figure.tight_layout()
    figure.savefig(OUT, dpi=80, metadata={"Software": None})


def verdict(logit: float) -> str:
    chance = 1 / (1 + np.exp(-logit))
    return f"{'tumour' if logit > 0 else 'no tumour'} (p = {chance:.3f})"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.poison.adversarial_figure")
    parser.add_argument("--table", action="store_true", help="count the flips too")
    args = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    manifest = read_manifest(paths.manifest("test"))
    splits = [
        Slices(manifest, paths.classifier(), ill=False),
        Slices(manifest, paths.classifier(), ill=True),
    ]
    draw_figure(splits, SliceRef("ch2-003_FLAIR", 2))
    log.info("%s", OUT)
    if args.table:
        write_table(splits)


if __name__ == "__main__":
    main()
