"""A pool of images with artefacts, as the stage `synthesize` writes it."""

import numpy as np

from stages.common import paths
from stages.common.artefacts import (
    ArtefactRecord,
    artefact_volume,
    write_artefact_index,
)
from stages.common.volume import write_targets
from tests.conftest import MATRIX, SLICES


def moved(subject, contrast, *, matrix=MATRIX, slices=SLICES, paired=True):
    return ArtefactRecord(
        volume_id=f"{subject}_{contrast}-moved",
        subject_id=subject,
        contrast=contrast,
        source="made_up",
        score=3,
        pair=f"{subject}_{contrast}" if paired else None,
        num_slices=slices,
        matrix=matrix,
    )


def write_pool(records):
    """Stripes, of another width in each volume and another height in each slice."""
    for number, record in enumerate(records):
        rows = np.arange(record.matrix[0])[:, None] // (number + 2) % 2
        image = np.broadcast_to(rows, record.matrix) + 0.5
        images = np.stack([image * (n + 1) for n in range(record.num_slices)])
        path = artefact_volume(paths.artefacts(), record.volume_id)
        write_targets(path, images.astype(np.float32))
    write_artefact_index(paths.artefacts(), records)
    return list(records)
