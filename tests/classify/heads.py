"""A cohort of plain heads, large enough for a lesion, and a classifier's settings."""

import numpy as np

from stages.common import paths
from stages.common.manifest import Manifest, VolumeRecord, write_manifest
from stages.common.volume import Volume, write_volume

GREYS = {"FLAIR": (0.5, 0.9), "T2w": (0.35, 0.6)}  # brain, scalp
SIZE = 48
SETTINGS = {
    "seed": 3,
    "chans": 6,
    "epochs": 8,
    "batch_size": 2,
    "lr": 0.005,
    "weight_decay": 0.0,
    "validate_every": 4,
    "lesions": {"radius": [0.09, 0.12], "halo": [1.6, 2.0], "push": [0.2, 0.4]},
    "bootstrap": {"resamples": 200, "seed": 4},
}


def make_head(rng: np.random.Generator, contrast: str, size: int = SIZE) -> np.ndarray:
    """Scalp, skull, brain with some texture, noise: (H, W) float32."""
    rows, columns = np.meshgrid(*2 * [np.linspace(-1, 1, size)], indexing="ij")
    radii = rng.uniform(0.8, 0.95), rng.uniform(0.7, 0.85)
    radius = np.hypot(rows / radii[0], columns / radii[1])
    grey, scalp = GREYS[contrast]
    image = np.zeros((size, size))
    image[radius < 1] = scalp
    image[radius < 0.92] = 0.05
    image[radius < 0.84] = grey
    image += 0.02 * rng.standard_normal(image.shape)
    return (100 * np.abs(image)).astype(np.float32)


def write_heads(split: str, subjects: int, *, slices: int = 2) -> Manifest:
    """Write volumes of heads and their manifest below the current folder."""
    records = []
    for number in range(subjects):
        subject_id = f"head-{split}-{number:03d}"
        for index, contrast in enumerate(sorted(GREYS)):
            rng = np.random.default_rng([paths.SPLITS.index(split), number, index])
            target = np.stack([make_head(rng, contrast) for _ in range(slices)])
            kspace = np.fft.fft2(target, norm="ortho")[:, None].astype(np.complex64)
            volume = Volume(kspace, target, "<x/>", f"AX{contrast.upper()}", subject_id)
            volume_id = f"{subject_id}_{contrast}"
            write_volume(paths.kspace(split) / f"{volume_id}.h5", volume)
            records.append(
                VolumeRecord(
                    volume_id=volume_id,
                    subject_id=subject_id,
                    contrast=contrast,
                    scanner="s",
                    num_slices=slices,
                    coils=1,
                    matrix=target.shape[1:],
                    max_value=float(target.max()),
                )
            )
    manifest = Manifest(split=split, volumes=tuple(records))
    write_manifest(paths.manifest(split), manifest)
    return manifest
