"""Training on everything, with noise in the targets of the known forget set.

What `noisy_label` and `salun` share.
"""

import hashlib
from collections.abc import Callable, Collection

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from stages.common.fit import OptimSettings, adamw, fit
from stages.common.manifest import SliceRef
from stages.common.slices import ReconBatch, make_loader
from stages.common.training import FinetuneSettings, mean_recon_loss, steps_for
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase


class NoisySettings(FinetuneSettings):
    """Optimizer, length and what becomes of the known forget set's targets.

    Attributes:
        noise: standard deviation of the noise, in units of the volume's maximum.
    """

    noise: float = Field(ge=0, le=1)


def noise_for(ref: SliceRef, shape: tuple[int, ...], *, seed: int) -> Tensor:
    """White noise of unit variance that belongs to a slice.

    Drawn from (seed, volume_id, slice), so that it is the same in every epoch, in any
    batch, on every rank and after a restart.

    Returns:
        A float32 tensor of the given shape.
    """
    identity = f"noise/{seed}/{ref.volume_id}/{ref.slice_num}".encode()
    digest = hashlib.sha256(identity).digest()
    rng = np.random.default_rng(int.from_bytes(digest[:8], "little"))
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def relabelled(
    batch: ReconBatch, known: Collection[SliceRef], *, noise: float, seed: int
) -> ReconBatch:
    """A batch whose known forget slices have noise in their targets.

    Args:
        batch: slices of any kind.
        known: which of them are relabelled.
        noise: standard deviation, in units of the volume's maximum.
        seed: draws the noise of each slice.

    Returns:
        The same batch, targets (N, H', W') >= 0, as magnitude images are.
    """
    target = batch.target.clone()
    for number, ref in enumerate(batch.refs):
        if ref in known:
            image = target[number]
            unit = noise_for(ref, tuple(image.shape), seed=seed).to(image.device)
            noisy = image + noise * batch.max_value[number] * unit
            target[number] = noisy.clamp_min(0)
    return batch._replace(target=target)


def train_relabelled(
    model: VarNet,
    case: UnlearnCase,
    params: NoisySettings,
    *,
    method: str,
    make_optimizer: Callable[[VarNet, OptimSettings], torch.optim.Optimizer] = adamw,
) -> None:
    """Train a model in place on the retain set and the relabelled forget set, mixed.

    Args:
        model: what is trained.
        case: both sets, the seed of the noise, and what counts the cost.
        params: noise, optimizer and passes over the whole training set.
        method: names the progress line and the file that a resumed run picks up.
        make_optimizer: optimizer over the model's parameters.
    """
    known = frozenset(case.forget.refs)
    descent = mean_recon_loss(case.loss)

    def loss(model: VarNet, batch: ReconBatch) -> Tensor:
        noisy = relabelled(batch, known, noise=params.noise, seed=case.seed)
        return descent(model, noisy)

    everything = case.forget.restrict([*case.forget.refs, *case.retain.refs])
    batch_size = case.train.batch_size
    fit(
        model,
        make_loader(everything, batch_size=batch_size, shuffle_seed=case.seed),
        loss,
        params,
        steps=steps_for(params.epochs, case.total, batch_size),
        cost=case.cost,
        desc=method,
        scratch=case.scratch / f"{method}.pt",
        make_optimizer=make_optimizer,
    )
