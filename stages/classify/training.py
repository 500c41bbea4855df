"""Train the classifier, and let it judge the images of a split."""

import logging
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits

from stages.classify.examples import Examples
from stages.classify.measures import Judged, balanced_accuracy, unusable
from stages.classify.settings import ClassifySettings
from stages.common.runtime import device, progress
from stages.common.tumour_classifier import TumourClassifier, build_classifier

log = logging.getLogger("mendmri")


def train_classifier(
    train: Examples, val: Examples, settings: ClassifySettings
) -> TumourClassifier:
    """Train from scratch; validation is watched and chooses nothing.

    Raises:
        ValueError: the loss is not finite, or there are too few slices to learn from.
    """
    steps = settings.epochs * train.count_batches(settings.batch_size)
    if steps == 0:
        raise ValueError(
            f"{train.folder} holds no two slices of one size: nothing can be learnt"
        )
    model = build_classifier(settings.chans, seed=settings.seed).to(device())
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, weight_decay=settings.weight_decay
    )
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=settings.lr, total_steps=steps, cycle_momentum=False
    )
    seen: list[float] = []
    for epoch, images, labels in progress(
        _batches(train, settings, model, val),
        total=steps,
        desc="classifier",
        unit="step",
        status=lambda: f"loss {seen[-1]:.4f}",
    ):
        model.train()
        loss = binary_cross_entropy_with_logits(model(images), labels)
        seen.append(loss.item())
        if not math.isfinite(seen[-1]):
            raise ValueError(
                f"classify: loss is {seen[-1]} in epoch {epoch + 1}: lower "
                f"classify.lr = {settings.lr}, or look for damaged slices in "
                f"{train.folder}"
            )
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        rate.step()
    _log_validation(model, val, settings.epochs)
    return model.eval().requires_grad_(False)


def _batches(
    train: Examples, settings: ClassifySettings, model: TumourClassifier, val: Examples
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(epoch, images, labels) of each step, with a look at validation in between."""
    for epoch in range(settings.epochs):
        if epoch and epoch % settings.validate_every == 0:
            _log_validation(model, val, epoch)
        for images, labels in train.training_batches(epoch, settings.batch_size):
            yield epoch, _tensor(images), _tensor(labels)


def _log_validation(model: TumourClassifier, val: Examples, epochs: int) -> None:
    judged = judge(model, val)
    log.info(
        "epoch %d: balanced accuracy %.3f on %d validation images",
        epochs,
        balanced_accuracy(judged),
        len(judged),
    )


@torch.inference_mode()
def judge(model: TumourClassifier, examples: Examples) -> list[Judged]:
    """Classify every image of a split, one at a time: the size of each may differ."""
    model.eval()
    return [
        Judged(
            example.subject_id,
            example.contrast,
            example.lesion,
            model(_tensor(example.image)[None]).item(),
        )
        for example in examples.measured()
    ]


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).to(device())


def no_classifier(
    settings: ClassifySettings, split: str
) -> tuple[TumourClassifier, dict[str, Any]]:
    """An untrained network that says of itself that it is of no use.

    Args:
        settings: the network's size and seed.
        split: has nothing to show.
    """
    figures = unusable(f"no slice of {split} can show a lesion")
    return build_classifier(settings.chans, seed=settings.seed), figures
