"""Small NIfTI files, named and laid out as BraTS, Task01, MR-ART and ExBox1 are."""

import json

import nibabel as nib
import numpy as np
from scipy import ndimage

SHAPE = (24, 30, 6)
SIZE = 8.0  # mm: the small head fills a field of view of 240 mm
# Stored as BraTS stores it: axes to the left and to the back.
LPS = np.diag([-SIZE, -SIZE, 5.0, 1.0])


def head(seed=0, shape=SHAPE):
    """An ellipsoid with texture, air around it: (X, Y, Z) float32."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    inside = grid[0] ** 2 + grid[1] ** 2 + 0.3 * grid[2] ** 2 < 0.6
    texture = ndimage.gaussian_filter(rng.standard_normal(shape), 1.5)
    bright = np.maximum(500 + 150 * texture / texture.std(), 100)
    return np.where(inside, bright, 0).astype(np.float32)


def save(path, data, affine=LPS):
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(data, affine), path)
    return path


def write_case(
    folder, case, *, suffixes=("t1n", "t1c", "t2w", "t2f"), joint="-", labels=None
):
    """One BraTS case; `labels` are laid out from the first slice's first corner."""
    for seed, suffix in enumerate(suffixes):
        data = head(seed).astype(np.int16)
        save(folder / case / f"{case}{joint}{suffix}.nii.gz", data)
    if labels is not None:
        seg = np.zeros(SHAPE, np.uint8)
        seg[8 : 8 + len(labels), 12, 3] = labels
        save(folder / case / f"{case}{joint}seg.nii.gz", seg)
    (folder / case).mkdir(parents=True, exist_ok=True)
    return folder / case


def write_task01(folder, cases=("BRATS_001",), labels=(1, 2, 3)):
    """The Decathlon's layout: contrasts along the fourth axis."""
    for case in cases:
        stack = np.stack([head(seed) for seed in range(4)], axis=-1)
        save(folder / "imagesTr" / f"{case}.nii.gz", stack)
        seg = np.zeros(SHAPE, np.uint8)
        seg[8 : 8 + len(labels), 12, 3] = labels
        save(folder / "labelsTr" / f"{case}.nii.gz", seg)
    content = {
        "name": "BRATS",
        "modality": {"0": "FLAIR", "1": "T1w", "2": "t1gd", "3": "T2w"},
        "labels": {
            "0": "background",
            "1": "edema",
            "2": "non-enhancing tumor",
            "3": "enhancing tumour",
        },
    }
    (folder / "dataset.json").write_text(json.dumps(content), encoding="utf-8")


def write_mr_art(folder, subject="000103", *, scores, shift=(0, 0, 0)):
    """One person of MR-ART; `scores` maps acquisition -> score."""
    name = f"sub-{subject}"
    rows = ["filename\tscore"]
    for acquisition, score in scores.items():
        file = f"anat/{name}_acq-{acquisition}_T1w.nii.gz"
        volume = head(3, (30, 30, 30))
        if acquisition != "standard":
            volume = ndimage.shift(volume, shift, order=1)
        save(folder / name / file, volume, np.diag([8.0, 8.0, 8.0, 1.0]))
        rows.append(f"{file}\t{score}")
    table = folder / name / f"{name}_scans.tsv"
    table.write_text("\n".join(rows) + "\n", encoding="utf-8")


def truncate(path, share=0.5):
    """Cut a file short, as a broken download does."""
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path
