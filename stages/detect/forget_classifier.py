"""A ResNet-50 that tells reported poison from the rest, as in the paper's Fig. 3.

The reported slices are labelled `forget`, all others `retain`: undiscovered poison is
among them, as in life. It sees exported targets alone. The loss is balanced between the
classes, and the subjects are dealt out to folds: a slice is scored, with the
probability of `forget`, by a network that saw no slice of its subject.

Paper, section 5.1; He et al., "Deep residual learning", CVPR 2016
(https://arxiv.org/abs/1512.03385). The paper starts from ImageNet's weights: give their
file or address and its SHA-256, or `null` for both to train from scratch.
"""

import logging
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from stages.common.manifest import SliceRef
from stages.common.params import ParamsError, Settings
from stages.common.runtime import device, progress
from stages.detect.base import DetectData
from stages.detect.resnet50 import ResNet50, build_resnet50
from stages.detect.weights import read_weights

OPEN = False
NEEDS_KNOWN = True
NAME = "forget_classifier"

log = logging.getLogger("mendmri")


class Params(Settings):
    """Attributes:
    weights: file or http(s) address of torchvision's ResNet-50 weights; null trains
        from scratch.
    sha256: of that file.
    image_size: pixels along each side that a target is resized to.
    folds: networks, each of which scores the subjects that it did not see.
    epochs: passes over a fold's training slices.
    batch_size: slices of a step.
    lr: learning rate of AdamW.
    weight_decay: decoupled.
    """

    weights: str | None
    sha256: str | None = Field(pattern=r"^[0-9a-f]{64}$")
    image_size: int = Field(ge=32, le=512)
    folds: int = Field(ge=2, le=20)
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=2)
    lr: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0)

    @model_validator(mode="after")
    def _both_or_none(self) -> "Params":
        if (self.weights is None) != (self.sha256 is None):
            raise ValueError("weights and sha256 go together: give both, or null twice")
        return self


def score(data: DetectData, params: Params) -> dict[SliceRef, float]:
    """Probability of `forget` of every slice, from the network of its fold."""
    data.require_known(NAME)
    start = read_weights(params.weights, params.sha256)
    fold_of = deal_folds(data.subjects, data.known, params.folds, data.seed)
    refs, reported = data.train.refs, set(data.known)
    fold = np.array([fold_of[data.subjects[ref.volume_id]] for ref in refs])
    images = torch.stack(
        [prepare(data.train[i].target, params.image_size) for i in range(len(refs))]
    )
    labels = torch.tensor([float(ref in reported) for ref in refs])
    scores = np.full(len(refs), np.nan)
    for number in progress(range(params.folds), total=params.folds, desc="folds"):
        inside = torch.from_numpy(np.flatnonzero(fold != number))
        held_out = np.flatnonzero(fold == number)
        if not labels[inside].any():
            log.warning(
                "fold %d has no reported slice to learn from: its %d slices get the "
                "median of the others' scores; more reports (detect.known) would help",
                number,
                len(held_out),
            )
            continue
        seed = data.seed + number
        network = fit(images[inside], labels[inside], start, params, seed=seed)
        scores[held_out] = predict(network, images[held_out], params.batch_size)
    scores[np.isnan(scores)] = np.nanmedian(scores)
    return dict(zip(refs, scores.tolist(), strict=True))


def deal_folds(
    subjects: Mapping[str, str], known: Sequence[SliceRef], folds: int, seed: int
) -> dict[str, int]:
    """Deal subjects out to folds, those with a reported slice first.

    Args:
        subjects: volume_id -> subject.
        known: the reported slices.
        folds: number of them.
        seed: of the order.

    Returns:
        subject -> fold.

    Raises:
        ParamsError: there are fewer subjects than folds.
    """
    everybody = sorted(set(subjects.values()))
    if len(everybody) < folds:
        raise ParamsError(
            f"detect.{NAME}.folds = {folds} is more than the {len(everybody)} training "
            "subjects: a fold holds at least one"
        )
    reported = {subjects[ref.volume_id] for ref in known}
    shuffled = np.random.default_rng(seed).permutation(everybody).tolist()
    ordered = sorted(shuffled, key=lambda subject: subject not in reported)
    return {subject: place % folds for place, subject in enumerate(ordered)}


def prepare(target: Tensor, size: int) -> Tensor:
    """(H', W') target -> (1, size, size) with mean 0 and deviation 1: no brightness."""
    image = nn.functional.interpolate(
        target[None, None], (size, size), mode="bilinear", antialias=True
    )[0]
    return (image - image.mean()) / image.std().clamp_min(1e-6)


def make_network(seed: int, weights: dict[str, Tensor] | None) -> ResNet50:
    """A network of one input channel and one logit; its head is always a new one."""
    network = build_resnet50(seed, channels=1, outputs=1)
    if weights is not None:
        head = {k: v for k, v in network.state_dict().items() if k.startswith("fc.")}
        network.load_state_dict(weights | head)
    return network


def fit(
    images: Tensor,
    labels: Tensor,
    start: dict[str, Tensor] | None,
    params: Params,
    *,
    seed: int,
) -> ResNet50:
    """Train a network on a fold: images (N, 1, H, W), labels (N,) of 0 and 1."""
    network = make_network(seed, start).to(device()).train()
    # A tenth quicker on a CPU: channels-last, and an optimizer in one pass.
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        network.parameters(),
        lr=params.lr,
        weight_decay=params.weight_decay,
        fused=True,
    )
    balance = (1 - labels).sum() / labels.sum()
    loss = nn.BCEWithLogitsLoss(pos_weight=balance.to(device()))
    rng = np.random.default_rng(seed)
    for _ in range(params.epochs):
        order = torch.from_numpy(rng.permutation(len(images)))
        # Batch normalisation needs more than one slice.
        for part in (p for p in order.split(params.batch_size) if len(p) > 1):
            logits = network(images[part].to(device())).flatten()
            optimizer.zero_grad()
            loss(logits, labels[part].to(device())).backward()
            optimizer.step()
    return network


@torch.inference_mode()
def predict(network: ResNet50, images: Tensor, batch_size: int) -> np.ndarray:
    """(N,) probability of `forget`."""
    network.eval()
    logits = [network(part.to(device())).flatten() for part in images.split(batch_size)]
    probability: np.ndarray = torch.cat(logits).double().sigmoid().cpu().numpy()
    return probability
