"""Residual of the exported target on the sampled lines of its own k-space.

    score = claimed_residual(model, slice)        (stages/common/sampled_lines.py)

A target that belongs to another image cannot have given the lines that were measured.
Phase and coils, which a magnitude target lacks, are borrowed from the poisoned model's
reconstruction. No report and no truth is needed.
"""

import torch

from stages.common.manifest import SliceRef
from stages.common.params import Settings
from stages.common.runtime import device, progress
from stages.common.sampled_lines import claimed_residual
from stages.common.slices import rank_loader
from stages.detect.base import DetectData

OPEN = False
NEEDS_KNOWN = False


class Params(Settings):
    """None."""


@torch.inference_mode()
def score(data: DetectData, params: Params) -> dict[SliceRef, float]:  # noqa: ARG001
    """Relative residual of every exported target against its sampled k-space."""
    loader = rank_loader(data.train, batch_size=data.batch_size)
    scores: dict[SliceRef, float] = {}
    for batch in progress(loader, total=len(loader), desc="residuals"):
        batch = batch.to(device())
        values = claimed_residual(data.model, batch)
        scores |= zip(batch.refs, values.tolist(), strict=True)
    return scores
