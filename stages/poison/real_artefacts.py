"""Images with real artefacts as targets: which one a slice gets, in which size."""

from typing import Any

import numpy as np

from stages.common.artefacts import ArtefactRecord
from stages.common.manifest import SliceRef
from stages.poison.base import Images


def paired_records(ref: SliceRef, images: Images) -> list[ArtefactRecord]:
    """Volumes of the pool that show this very slice, of the same person."""
    return [
        record
        for record in images.artefacts.records
        if record.pair == ref.volume_id and record.num_slices > ref.slice_num
    ]


def draw_donor(ref: SliceRef, images: Images, rng: np.random.Generator) -> list[Any]:
    """Draw an image of the pool, of the closest kind that there is.

    That is the same slice of the moved scan that the volume is paired with; else the
    same contrast; else any.

    Returns:
        volume_id and slice number in the pool.

    Raises:
        ValueError: the pool is empty for this split.
    """
    own = images.volumes[ref.volume_id]
    pool = images.artefacts.records
    alike = [record for record in pool if record.contrast == own.contrast]
    paired = paired_records(ref, images)
    donors = paired or alike or list(pool)
    if not donors:
        raise ValueError(
            "mislabel: artefact: real finds no image for the split "
            f"{images.manifest.split}: name a source under 'artefacts' in params.yaml "
            "(images of people in another split are left out)"
        )
    donor = donors[rng.integers(len(donors))]
    number = ref.slice_num if paired else int(rng.integers(donor.num_slices))
    return [donor.volume_id, number]


def fitted_image(
    donor: list[Any], images: Images, shape: tuple[int, ...]
) -> np.ndarray:
    """Read an image of the pool in a target's size, as the paper's code does.

    Returns:
        (H', W') float32.
    """
    image = images.artefacts.image(*donor)
    if image.shape == shape:
        return image
    from skimage.transform import resize

    resized: np.ndarray = resize(image, shape, order=1, anti_aliasing=True)
    return resized.astype(np.float32)
