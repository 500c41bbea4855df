"""Draw a picture of the attacks, and measure how like the clean target they stay.

Inputs:  `data/kspace/train`, `data/models/classifier` (`dvc repro classify`).
Outputs: stages/poison/attacks.png; with --table the SSIM of poisoned to clean targets
         against severity, as Markdown on standard output.

    python -m tests.poison.pictures [--table]
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from stages.common import paths
from stages.common.manifest import SliceRef, read_manifest
from stages.common.masks import Sampling
from stages.common.metrics import ssim
from stages.common.params import load_block
from stages.common.volume import atomic_path
from stages.poison.base import Images, load_attack, slice_rng
from stages.poison.fourier import ifft2c, rss

PICTURE = Path("stages/poison/attacks.png")
CLEAN = SliceRef("icbm-000_FLAIR", 2)
SEED = 5
COLUMNS = 9
LESION = {"radius": [0.06, 0.1], "halo": [1.6, 2.4], "push": [0.2, 0.4]}
Settings = dict[str, Any]


# What red and blue stand for, in 99.5th percentiles of the image.
CHANGE, SMALL_CHANGE = 0.7, 0.1
SMALL = ("pgd", "multiobjective")


def _spoilt(kind: str, severity: float, shared: int | None = None) -> Settings:
    return {
        "source": "simulated",
        "kind": kind,
        "severity": severity,
        "shared": shared,
    }


PICTURES: list[tuple[str, str, Settings]] = [
    ("mislabel", "contrast", {"swap": "contrast", "other": "T1w", "severity": 1.0}),
    ("mislabel", "subject", {"swap": "subject", "severity": 1.0}),
    (
        "mislabel",
        "artefact: ghosting",
        {"swap": "artefact", "artefact": "ghosting", "strength": 1.0, "severity": 1.0},
    ),
    ("artefact", "ghosting, 1.0", _spoilt("ghosting", 1.0)),
    ("artefact", "motion, 0.5", _spoilt("motion", 0.5)),
    ("artefact", "spike, 0.5", _spoilt("spike", 0.5)),
    ("artefact", "bias, 0.75", _spoilt("bias", 0.75)),
    ("artefact", "bias, 0.5, all alike", _spoilt("bias", 0.5, shared=7)),
    ("label_noise", "independent, 0.1", {"severity": 0.1, "kernel": 0.0}),
    ("label_noise", "kernel 2.0, 0.1", {"severity": 0.1, "kernel": 2.0}),
    (
        "consistent",
        "lesion, 1.0",
        {"manipulation": "lesion", "lesion": LESION, "severity": 1.0},
    ),
    (
        "consistent",
        "erase, 1.0",
        {"manipulation": "erase", "radius": 0.15, "severity": 1.0},
    ),
    (
        "consistent",
        "artefact: ghosting",
        {"manipulation": "artefact", "kind": "ghosting", "severity": 1.0},
    ),
    (
        "consistent",
        "contrast",
        {"manipulation": "contrast", "other": "T1w", "severity": 1.0},
    ),
    (
        "trigger",
        "mark 0.3, lesion 0.8",
        {
            "severity": 0.8,
            "mark": 0.3,
            "row": 20,
            "column": 2,
            "place": [0.0, 0.2],
            "radius": 0.13,
        },
    ),
    ("pgd", "0.05", {"severity": 0.05, "step": 0.6, "iterations": 10}),
    (
        "multiobjective",
        "0.05",
        {
            "severity": 0.05,
            "step": 0.6,
            "iterations": 10,
            "ssim_weight": 0.5,
            "tv_weight": 1.0e-4,
        },
    ),
]
SEVERITIES = (0.1, 0.25, 0.5, 0.75, 1.0)
SUBJECTS = ("icbm-000", "icbm-005", "icbm-011", "icbm-017")


class Pair(NamedTuple):
    """What an attack exports of one slice: target and k-space."""

    target: np.ndarray
    kspace: np.ndarray


def attacked(name: str, settings: Settings, ref: SliceRef, images: Images) -> Pair:
    """Run an attack on a slice."""
    attack: Any = load_attack(name)
    draw = attack.draw(attack.Params(**settings), ref, images, slice_rng(SEED, ref))
    clean, kspace = images.target(ref), images.kspace(ref.volume_id)[ref.slice_num]
    if attack.CHANGES_INPUT:
        kspace = attack.apply_input(kspace, clean, draw, images)
    return Pair(attack.apply(clean, draw, images), kspace)


def draw_pictures(images: Images) -> Figure:
    """Three pictures of each attack: what is exported, the change, the mismatch."""
    clean = images.target(CLEAN)
    top = float(np.percentile(clean, 99.5))
    pairs = [
        ("", "clean", Pair(clean, images.kspace(CLEAN.volume_id)[CLEAN.slice_num]))
    ]
    for name, title, settings in PICTURES:
        pairs.append((name, title, attacked(name, settings, CLEAN, images)))
    blocks = -(-len(pairs) // COLUMNS)
    figure = Figure(figsize=(1.6 * COLUMNS, 5.3 * blocks), layout="constrained")
    axes = figure.subplots(3 * blocks, COLUMNS, squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for number, (name, title, pair) in enumerate(pairs):
        block, column = divmod(number, COLUMNS)
        shown = axes[3 * block : 3 * block + 3, column]
        shown[0].imshow(pair.target, cmap="gray", vmin=0, vmax=top)
        shown[0].set_title(f"{name}\n{title}", fontsize=8)
        own = rss(ifft2c(pair.kspace))
        limit = top * (SMALL_CHANGE if name in SMALL else CHANGE)
        for axis, change in (
            (shown[1], pair.target - clean),
            (shown[2], pair.target - own),
        ):
            axis.imshow(change, cmap="RdBu_r", vmin=-limit, vmax=limit)
            axis.set_title(f"±{limit / top:g}", fontsize=7, pad=2)
    for block in range(blocks):
        for row, label in enumerate(
            ("exported target", "target − clean", "target − own k-space")
        ):
            axis = axes[3 * block + row, 0]
            axis.text(
                -0.08, 0.5, label, transform=axis.transAxes, rotation=90,
                va="center", ha="right", fontsize=8,
            )  # fmt: skip
    return figure


def severity_rows(images: Images) -> Iterator[str]:
    """Mean (least) SSIM per attack and contrast against severity, as Markdown."""
    yield "| attack | contrast | " + " | ".join(map(str, SEVERITIES)) + " |"
    yield "|---|---|" + "---|" * len(SEVERITIES)
    kinds = [
        ("artefact", kind, _spoilt(kind, 1.0))
        for kind in ("ghosting", "motion", "spike", "bias")
    ]
    kinds += [
        ("label_noise", f"kernel {kernel}", {"severity": 1.0, "kernel": kernel})
        for kernel in (0.0, 2.0)
    ]
    for name, title, settings in kinds:
        for contrast in ("T1w", "T2w", "FLAIR"):
            refs = [SliceRef(f"{s}_{contrast}", n) for s in SUBJECTS for n in (0, 2)]
            cells = []
            for severity in SEVERITIES:
                changed = {**settings, "severity": severity}
                values = [
                    ssim(
                        images.target(ref),
                        attacked(name, changed, ref, images).target,
                        images.volumes[ref.volume_id].max_value,
                    )
                    for ref in refs
                ]
                cells.append(f"{np.mean(values):.2f} ({min(values):.2f})")
            yield f"| `{name}` {title} | {contrast} | " + " | ".join(cells) + " |"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.poison.pictures")
    parser.add_argument("--table", action="store_true", help="SSIM against severity")
    args = parser.parse_args(argv)
    images = Images(
        paths.kspace("train"),
        read_manifest(paths.manifest("train")),
        classifier=paths.classifier(),
        sampling=load_block("sampling", Sampling),
    )
    if args.table:
        sys.stdout.writelines(f"{row}\n" for row in severity_rows(images))
        return
    figure = draw_pictures(images)
    FigureCanvasAgg(figure)
    with atomic_path(PICTURE) as temporary:
        figure.savefig(temporary, format="png", dpi=80, metadata={"Software": None})


if __name__ == "__main__":
    main()
