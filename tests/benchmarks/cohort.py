"""Made-up volumes in the pipeline's layout: as large as real ones, quick to make."""

from pathlib import Path

import numpy as np

from stages.common.manifest import SliceRef
from stages.common.slices import SliceDataset
from stages.common.volume import Volume, write_volume
from stages.synthesize.header import ismrmrd_header
from stages.synthesize.noise import complex_noise, fft2c, rss_target
from tests.benchmarks.sizes import Size

NOISE = 0.01  # of the object's signal


def make_dataset(size: Size, folder: Path, *, slices: int) -> SliceDataset:
    """Write volumes of a size's shape and open `slices` slices of them.

    Args:
        size: matrix, coils, slices per volume, sampling.
        folder: made, for volume files and nothing else.
        slices: how many slices are needed.
    """
    per_volume = size.synthesize.slices
    refs = []
    for number in range(-(-slices // per_volume)):
        volume_id = f"volume-{number:03d}"
        write_volume(folder / f"{volume_id}.h5", _make_volume(size, number))
        refs += [SliceRef(volume_id, index) for index in range(per_volume)]
    return SliceDataset(folder, refs[:slices], size.sampling)


def _make_volume(size: Size, number: int) -> Volume:
    """Nested ellipses seen by coils around them."""
    matrix, coils = size.synthesize.matrix, size.synthesize.coils
    rng = np.random.default_rng(number)
    axis = np.linspace(-1, 1, matrix)
    rows, columns = np.meshgrid(axis, axis, indexing="ij")
    image = np.zeros((size.synthesize.slices, matrix, matrix))
    for outer in (0.8, 0.5, 0.25):
        for plane in image:
            top, left = rng.uniform(-0.1, 0.1, 2)
            height, width = outer * rng.uniform(0.8, 1.0, 2)
            inside = ((rows - top) / height) ** 2 + ((columns - left) / width) ** 2 < 1
            plane[inside] = rng.uniform(0.2, 1.0)
    angles = 2 * np.pi * np.arange(coils)[:, None, None] / coils
    distance = (rows - np.sin(angles)) ** 2 + (columns - np.cos(angles)) ** 2
    coil_images = image[:, None] * np.exp(-distance / 2 + 1j * angles)
    coil_images += complex_noise(rng, coil_images.shape, NOISE)
    kspace = fft2c(coil_images).astype(np.complex64)
    return Volume(
        kspace=kspace,
        target=rss_target(kspace),
        header=ismrmrd_header(
            matrix=matrix, fov=240, thickness=5, coils=coils, scanner="none"
        ),
        acquisition="AXT1",
        patient_id=f"subject-{number:03d}",
    )
