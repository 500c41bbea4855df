"""Tells slices with a lesion from slices without: what the adversarial attacks fool.

A residual network (He et al., CVPR 2016, https://arxiv.org/abs/1512.03385) of three
blocks. Pooling over the whole plane makes it fit images of any size; the largest
response beside the mean one, since a lesion is small.
"""

import json
from pathlib import Path

import torch
from pydantic import Field, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stages.common.params import Settings
from stages.common.volume import atomic_path

PERCENTILE = 0.995  # of an image, scaled to 1
MADE_BY = "classify"


class ClassifierCard(Settings):
    """What a checkpoint says of its classifier.

    Attributes:
        chans: channels after the first convolution.
        balanced_accuracy: mean of the shares of both classes that the classifier gets
            right, on the test split.
        usable: whether that is better than chance.
    """

    chans: int = Field(ge=1)
    balanced_accuracy: float = Field(ge=0, le=1)
    usable: bool


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which a 1 x 1 convolution fits."""

    def __init__(self, chans: int, out_chans: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(chans, out_chans, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(out_chans),
            nn.ReLU(),
            nn.Conv2d(out_chans, out_chans, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_chans),
        )
        self.shortcut = nn.Sequential(
            nn.Conv2d(chans, out_chans, 1, stride, bias=False),
            nn.BatchNorm2d(out_chans),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, chans, H, W) -> (N, out_chans, H / stride, W / stride)."""
        return torch.relu(self.body(x) + self.shortcut(x))


class TumourClassifier(nn.Module):
    """The network; its logit is positive where it sees a lesion."""

    def __init__(self, chans: int) -> None:
        super().__init__()
        self.chans = chans
        self.features = nn.Sequential(
            nn.Conv2d(1, chans, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(chans),
            nn.ReLU(),
            ResidualBlock(chans, 2 * chans, stride=2),
            ResidualBlock(2 * chans, 4 * chans, stride=2),
            ResidualBlock(4 * chans, 4 * chans, stride=1),
        )
        self.head = nn.Linear(8 * chans, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Judge slices.

        Args:
            images: (N, H, W) float32 magnitude images, any scale and any size.

        Returns:
            (N,) logits of "there is a lesion".
        """
        level = torch.quantile(images.flatten(1), PERCENTILE, dim=1)
        scaled = images / level.clamp_min(1e-12)[:, None, None]
        features = self.features(scaled[:, None])
        pooled = [features.mean(dim=(2, 3)), features.amax(dim=(2, 3))]
        logits: Tensor = self.head(torch.cat(pooled, dim=1))[:, 0]
        return logits


def build_classifier(chans: int, *, seed: int) -> TumourClassifier:
    """Make a classifier with PyTorch's default initialisation from a private seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return TumourClassifier(chans)


def save_classifier(
    path: Path, model: TumourClassifier, *, balanced_accuracy: float, usable: bool
) -> None:
    """Write weights and card as safetensors, whole or not at all."""
    card = ClassifierCard(
        chans=model.chans, balanced_accuracy=balanced_accuracy, usable=usable
    )
    weights = {
        name: value.detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    metadata = {"classifier": json.dumps(card.model_dump(), sort_keys=True)}
    with atomic_path(path) as temporary:
        save_file(weights, temporary, metadata=metadata)


def load_classifier(path: Path) -> tuple[TumourClassifier, ClassifierCard]:
    """Read a classifier; names and shapes must all match.

    Returns:
        The network, ready to judge, and what its checkpoint says of it.

    Raises:
        ValueError: the file is missing, damaged or holds another architecture.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: run `dvc repro {MADE_BY}`")
    try:
        with safe_open(path, framework="pt") as file:
            card = ClassifierCard(**json.loads(file.metadata()["classifier"]))
            weights = {name: file.get_tensor(name) for name in file.keys()}
        # Its weights are overwritten; drawn privately, they leave the global state be.
        model = build_classifier(card.chans, seed=0)
        model.load_state_dict(weights)
    except (
        SafetensorError, KeyError, TypeError, ValueError, ValidationError, RuntimeError,
        OSError,
    ) as error:  # fmt: skip
        raise ValueError(
            f"{path} is no tumour classifier of MendMRI ({error}): run "
            f"`dvc repro --force --single-item {MADE_BY}`"
        ) from None
    return model.eval().requires_grad_(False), card
