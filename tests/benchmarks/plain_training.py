"""The reference's training: a plain PyTorch loop with the project's schedule."""

import logging
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from stages.common.fit import BatchLoss, EpochLoader, OptimSettings
from stages.common.runtime import device
from stages.common.volume import atomic_path

log = logging.getLogger("mendmri")


def train_plainly(
    model: nn.Module,
    loader: EpochLoader,
    batch_loss: BatchLoss,
    optim: OptimSettings,
    *,
    steps: int,
    scratch: Path,
    desc: str,
) -> None:
    """Train `model` in place; a killed run goes on after its last whole epoch.

    Written without `stages.common.fit`, whose equal it must be.

    Args:
        model: what is trained.
        loader: batches whose order depends on the epoch number alone.
        batch_loss: (model, batch) -> scalar loss.
        optim: rate, weight decay and clipping.
        steps: optimizer steps.
        scratch: file that holds the state after each epoch.
        desc: what the log calls this training.
    """
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=optim.lr, weight_decay=optim.weight_decay
    )
    step = _restore(scratch, model, optimizer)
    epochs = math.ceil(steps / len(loader))
    model.train()
    for epoch in range(step // len(loader), epochs):
        started = time.perf_counter()
        loader.set_epoch(epoch)
        for batch in loader:
            if step == steps:
                break
            for group in optimizer.param_groups:
                group["lr"] = optim.lr * _factor(step, steps, optim.warmup)
            loss = batch_loss(model, batch.to(device()))  # type: ignore[arg-type]
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), optim.clip_norm)
            optimizer.step()
            step += 1
        _save(scratch, model, optimizer, step)
        seconds = time.perf_counter() - started
        log.info("%s: epoch %d of %d in %.0f s", desc, epoch + 1, epochs, seconds)


def _factor(step: int, steps: int, warmup: float) -> float:
    """Linear warm-up, then a cosine to zero."""
    warm = round(steps * warmup)
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def _save(
    scratch: Path, model: nn.Module, optimizer: torch.optim.Optimizer, step: int
) -> None:
    content: dict[str, Any] = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "step": step,
    }
    with atomic_path(scratch) as temporary:
        torch.save(content, temporary)


def _restore(scratch: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
    if not scratch.exists():
        return 0
    content = torch.load(scratch, weights_only=True, map_location=device())
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    step: int = content["step"]
    return step
