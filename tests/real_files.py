"""Take the real files that are at hand through source, synthesis and evaluation.

Inputs:  a folder with the files (its README says where they come from), and a trained
         checkpoint of the default profile (`dvc repro train_oracle`).
Outputs: a table of the measures, and with --figure a picture of those two files whose
         licence allows it.

    python -m tests.real_files ../shared/data --figure stages/synthesize/real_files.png
"""

import argparse
import csv
import json
import logging
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml

from stages.check.profile import render
from stages.common import paths
from stages.common.varnet import load_checkpoint, save_checkpoint
from stages.download.__main__ import main as download
from stages.evaluate.__main__ import main as evaluate
from stages.synthesize.__main__ import main as synthesize
from tests.folders import inside

CELL = "oracle-0"
MATRIX = 80
TABLE = """\
file,kind,subject,contrast,axes,key,centred,sens_key,sens_axes,spacing
espirit_full.cfl,kspace,espirit,T1w,"- row column coil -",,yes,,,
larson_se_t1_sag.mat,kspace,larson,T1w,"row column",data,yes,,,
alignedsense_xGT.mat,image,alignedsense,T2w,"row column",xGT,,S,"row column - coil",
tcga_fg6692_t1.nii.gz,image,tcga,T1w,,,,,,
tcga_fg6692_t2.nii.gz,image,tcga,T2w,,,,,,
tcga_fg6692_fla.nii.gz,image,tcga,FLAIR,,,,,,
"""
PATIENT = "BraTS-GLI-00001-000"
# MIT licence: these may be shown.
SHOWN = ("larson_T1w", "alignedsense_T2w")
TITLES = {
    "larson_T1w": "spin echo, one coil, measured k-space",
    "alignedsense_T2w": "32 coils, computed from an image",
}


def prepare(real: Path, root: Path) -> None:
    """Lay the files out as a person would, and write the parameters."""
    local = root / "data" / "local"
    own, patient = local / "folder", local / "brats" / PATIENT
    own.mkdir(parents=True)
    patient.mkdir(parents=True)
    (own / "scans.csv").write_text(TABLE)
    for row in csv.DictReader(TABLE.splitlines()):
        shutil.copy(real / row["file"], own)
    shutil.copy(real / "espirit_full.hdr", own)
    for name in ("t1n", "t1c", "t2w", "t2f"):
        source = real / f"brats_gli00001_{name}.nii.gz"
        shutil.copy(source, patient / f"{PATIENT}-{name}.nii.gz")
    params = yaml.safe_load(render("default"))
    params["download"]["sources"] = ["folder", "brats"]
    params["synthesize"] |= {
        "sources": {"train": "brats", "val": "folder", "test": "folder"},
        "subjects": {"train": None, "val": 1, "test": None},
        "contrasts": ["T1w", "T1c", "T2w", "FLAIR"],
        "matrix": MATRIX,
    }
    params["synthesize"]["snr"]["T1c"] = 30
    params["synthesize"]["scans"] |= {"split": "drawn", "max_slices": 6}
    (root / "params.yaml").write_text(yaml.safe_dump(params))


def run(root: Path, checkpoint: Path) -> list[dict[str, str]]:
    """Run the stages; return the rows of the evaluation."""
    network = load_checkpoint(checkpoint)
    with inside(root):
        for source in ("folder", "brats"):
            download(["--source", source])
        for split in paths.SPLITS:
            synthesize(["--split", split])
        save_checkpoint(paths.checkpoint(CELL), network)
        cost = {"slices_forward_backward": 0, "slices_forward": 0, "gradient_steps": 0}
        paths.cost(CELL).write_text(json.dumps(cost))
        evaluate(["--cell", CELL])
        with paths.slice_rows(CELL).open() as file:
            return list(csv.DictReader(file))


def averages(rows: Sequence[dict[str, str]]) -> dict[str, tuple[int, float, float]]:
    """volume_id -> slices, mean PSNR (dB), mean SSIM."""
    found = {}
    for name in sorted({row["volume_id"] for row in rows}):
        mine = [row for row in rows if row["volume_id"] == name]
        psnr, ssim = (
            np.mean([float(r[key]) for r in mine]) for key in ("psnr", "ssim")
        )
        found[name] = (len(mine), float(psnr), float(ssim))
    return found


def images_of(root: Path, volume_id: str) -> dict[str, np.ndarray]:
    """The middle slice: zero-filled, reconstruction and reference."""
    from stages.common.manifest import read_manifest
    from stages.common.masks import Sampling
    from stages.common.params import load_block
    from stages.common.runtime import device
    from stages.evaluate.outputs import HowToRun, reconstructions
    from stages.evaluate.panels import panel_images

    with inside(root):
        for split in paths.SPLITS:
            record = read_manifest(paths.manifest(split)).by_id().get(volume_id)
            if record is None:
                continue
            refs = [
                ref
                for ref in read_manifest(paths.manifest(split)).refs()
                if ref.volume_id == volume_id
            ]
            how = HowToRun(load_block("sampling", Sampling), 1, device())
            model = load_checkpoint(paths.checkpoint(CELL))
            middle = [refs[len(refs) // 2]]
            ((result,),) = reconstructions(model, split, middle, how, desc=volume_id)
            return panel_images(result)
    raise ValueError(f"no split holds {volume_id}")


def draw(root: Path, path: Path) -> None:
    """Zero-filled, reconstruction, reference and error, a row per file."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(SHOWN), 4, figsize=(8.8, 4.7))
    for row, name in zip(axes, SHOWN, strict=True):
        images = images_of(root, name)
        top = np.percentile(images["clean"], 99.7)
        error = 4 * np.abs(images["output"] - images["clean"])
        shown = [images["zero_filled"], images["output"], images["clean"], error]
        for axis, image in zip(row, shown, strict=True):
            axis.imshow(image, cmap="gray", vmin=0, vmax=top, interpolation="nearest")
            axis.set_xticks([])
            axis.set_yticks([])
        row[0].set_ylabel(TITLES[name], fontsize=7)
    titles = ("zero-filled", "reconstruction", "reference", "error × 4")
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.real_files")
    parser.add_argument("folder", type=Path, help="where the files are")
    parser.add_argument("--checkpoint", type=Path, default=paths.checkpoint(CELL))
    parser.add_argument("--figure", type=Path, help="picture to write")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        prepare(args.folder.resolve(), root)
        rows = run(root, args.checkpoint.resolve())
        log = logging.getLogger("mendmri")
        for volume_id, (slices, psnr, ssim) in averages(rows).items():
            log.info("| `%s` | %d | %.1f | %.3f |", volume_id, slices, psnr, ssim)
        if args.figure:
            draw(root, args.figure)


if __name__ == "__main__":
    main()
