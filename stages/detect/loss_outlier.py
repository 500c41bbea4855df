"""The poisoned model's own residual: slices that training could not explain.

    score = L(model(x), t)

with L the training loss of the exported target t. A VarNet learns poorly what its input
does not predict, so a wrong target keeps a large loss even though it was trained on.
After the small-loss criterion for noisy labels (Han et al., "Co-teaching", NeurIPS
2018, https://arxiv.org/abs/1804.06872). No report is needed. Scores are not compared
within a contrast: where most of it is poisoned, its clean slices are the outliers.
"""

import torch

from stages.common.losses import recon_loss
from stages.common.manifest import SliceRef
from stages.common.params import Settings
from stages.common.reconstruct import reconstruct
from stages.common.runtime import device, progress
from stages.common.slices import rank_loader
from stages.detect.base import DetectData

OPEN = False
NEEDS_KNOWN = False


class Params(Settings):
    """None."""


@torch.inference_mode()
def score(data: DetectData, params: Params) -> dict[SliceRef, float]:  # noqa: ARG001
    """Training loss of every slice against its exported target."""
    loader = rank_loader(data.train, batch_size=data.batch_size)
    scores: dict[SliceRef, float] = {}
    for batch in progress(loader, total=len(loader), desc="residuals"):
        batch = batch.to(device())
        output = reconstruct(data.model, batch)
        losses = recon_loss(output, batch.target, batch.max_value, data.loss)
        scores |= zip(batch.refs, losses.tolist(), strict=True)
    return scores
