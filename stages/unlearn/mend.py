"""Mend: sift by physics, relearn from measured lines. This project's own method.

Poison in a target contradicts what was measured; the k-space of the same slice does
not. So undiscovered poison can be found, and every poisoned slice still teaches:

1. Sift. With r the residual of a slice's target on its own sampled lines
   (`claimed_residual`), log r falls into two clusters: 2-means, started at the medians
   of the retain set and of the known forget set. Retain slices of the upper cluster are
   suspects, D_s. Where the known forget set is not above the rest, none is.
2. Relearn. From the poisoned theta, a few epochs of

       L(theta; D_r - D_s) + weight * l(theta; D_s + D_f*),

       l(x) = mean of e_k over held-out columns + centre * mean of e_k over the centre,
       e_k = ||p_k - y_k|| / ||y_k||

   L is training's own loss, l looks at no target: of each doubtful slice some sampled
   columns outside of the centre are held out, and the network has to predict them from
   the others. The centre is shown and has to be kept: a wrong contrast or a shading
   is mostly there, where the measurement has next to no noise that could be learned.

The second term is self-supervision by data undersampling (Yaman et al.,
"Self-supervised learning of physics-guided reconstruction neural networks without fully
sampled reference data", Magnetic Resonance in Medicine 84, 2020), used as an antidote.
Retraining without the poison, even with all of it known, loses the only slices of the
poisoned kind: where nine tenths of a contrast are poisoned, those are what the network
should learn it from. It all stays inside of the closed threat model: no line outside of
a slice's own mask is read.

Known slices of the lower cluster, clean ones that were reported by mistake, keep their
place among the doubtful: their measured lines do no harm.
"""

import copy
import hashlib
import logging
import math
from collections.abc import Collection, Mapping
from statistics import median

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from stages.common.fit import fit
from stages.common.manifest import SliceRef
from stages.common.sampled_lines import claimed_residual, lines_error, low_frequencies
from stages.common.slices import ReconBatch, make_loader
from stages.common.training import (
    FinetuneSettings,
    mean_recon_loss,
    steps_for,
    train_reconstruction,
)
from stages.common.varnet import VarNet
from stages.unlearn.bad_teacher import PairedLoader
from stages.unlearn.base import UnlearnCase
from stages.unlearn.slice_values import per_slice

ROUNDS = 100  # of 2-means in one dimension, which takes a handful

log = logging.getLogger("mendmri")


class Params(FinetuneSettings):
    """Optimizer and length, counted as in `finetune`, and the term on measured lines.

    Attributes:
        sift: whether suspects are taken out of the retain set; off for an ablation.
        weight: of the error on measured lines; 0 leaves the doubtful slices out.
        doubtful: share of each batch that is drawn from them.
        held_out: share of their sampled columns outside of the centre.
        centre: weight of the centre's columns beside those.
    """

    sift: bool
    weight: float = Field(ge=0)
    doubtful: float = Field(gt=0, lt=1)
    held_out: float = Field(gt=0, lt=1)
    centre: float = Field(ge=0)


def unlearn(model: VarNet, case: UnlearnCase, params: Params) -> VarNet:
    """Take suspects out of the retain set and train a copy of the model anew on both.

    Raises:
        ValueError: every slice is doubtful.
    """
    student = copy.deepcopy(model)
    found = suspects(residuals(student, case), case.forget.refs) if params.sift else []
    trusted = [ref for ref in case.retain.refs if ref not in set(found)]
    log.info("mend: %d of %d retain slices suspected", len(found), len(case.retain))
    if not trusted:
        raise ValueError(
            "mend: every slice of the retain set contradicts its own k-space: are "
            "targets and k-space of the same scans?"
        )
    steps = steps_for(params.epochs, case.total, case.train.batch_size)
    if params.weight == 0:
        train_reconstruction(
            student,
            case.retain.restrict(trusted),
            params,
            case.loss,
            steps=steps,
            batch_size=case.train.batch_size,
            seed=case.train.seed,
            cost=case.cost,
            desc="mend",
            scratch=case.scratch / "mend.pt",
        )
        return student
    loader = mixed_batches(case, trusted, found, share=params.doubtful)
    taught = mean_recon_loss(case.loss)

    def loss(student: VarNet, batches: tuple[ReconBatch, ReconBatch]) -> Tensor:
        clean, doubtful = batches
        # The loader's epoch, unlike a count of calls, survives a restart.
        seed = (case.seed, loader.forget.order.epoch)
        held = held_out(doubtful, share=params.held_out, seed=seed)
        lines = lines_error(student, doubtful, held, centre=params.centre)
        return taught(student, clean) + params.weight * doubtful.mean(lines)

    fit(
        student,
        loader,
        loss,
        params,
        steps=steps,
        cost=case.cost,
        desc="mend",
        scratch=case.scratch / "mend.pt",
    )
    return student


def residuals(model: VarNet, case: UnlearnCase) -> dict[SliceRef, float]:
    """The residual of every training target on its own sampled lines."""
    everything = case.forget.restrict([*case.forget.refs, *case.retain.refs])
    return per_slice(
        model,
        everything,
        claimed_residual,
        batch_size=case.train.batch_size,
        cost=case.cost,
    )


def suspects(
    residuals: Mapping[SliceRef, float], known: Collection[SliceRef]
) -> list[SliceRef]:
    """Slices that nobody reported and that look like those that were reported.

    Args:
        residuals: of every slice, >= 0.
        known: the reported slices.

    Returns:
        The unreported slices of the upper of two clusters, in their order.
    """
    told = set(known)
    tiny = np.finfo(np.float64).tiny
    logs = {ref: math.log(max(value, tiny)) for ref, value in residuals.items()}
    low = median(value for ref, value in logs.items() if ref not in told)
    high = median(logs[ref] for ref in told)
    if high <= low:
        return []
    values = np.array(list(logs.values()))
    cut = (low + high) / 2
    for _ in range(ROUNDS):
        above = values > cut
        following = (values[above].mean() + values[~above].mean()) / 2
        if following == cut:
            break
        cut = following
    return [ref for ref, value in logs.items() if value > cut and ref not in told]


def mixed_batches(
    case: UnlearnCase,
    trusted: list[SliceRef],
    suspected: list[SliceRef],
    *,
    share: float,
) -> PairedLoader:
    """(trusted, doubtful): one pass over what is trusted, the others over and over.

    Together a pair is as large as a batch of training, and holds one of each at least.
    """
    size = case.train.batch_size
    few = max(1, min(size - 1, round(size * share)))
    doubtful = [*case.forget.refs, *suspected]
    sets = ((trusted, max(1, size - few)), (doubtful, few))
    first, second = (
        make_loader(
            case.retain.restrict(refs), batch_size=count, shuffle_seed=case.seed
        )
        for refs, count in sets
    )
    return PairedLoader(first, second)


def held_out(batch: ReconBatch, *, share: float, seed: tuple[int, ...]) -> Tensor:
    """Draw sampled columns outside of the centre, at least one of each slice.

    Drawn from the seed and the slice, so that they do not depend on batch or rank.

    Returns:
        (N, W) bool, on the batch's device; none where the centre is all there is.
    """
    outside = np.ones(batch.mask.shape[-1], dtype=bool)
    outside[low_frequencies(len(outside), batch.num_low_frequencies)] = False
    held = np.zeros(batch.mask.shape, dtype=bool)
    for row, (ref, mask) in enumerate(
        zip(batch.refs, batch.mask.cpu().numpy(), strict=True)
    ):
        outer = np.flatnonzero(mask & outside)
        identity = f"held/{seed}/{ref.volume_id}/{ref.slice_num}".encode()
        digest = hashlib.sha256(identity).digest()
        rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
        count = min(len(outer), max(1, round(share * len(outer))))
        held[row, rng.choice(outer, count, replace=False)] = True
    return torch.from_numpy(held).to(batch.mask.device)
