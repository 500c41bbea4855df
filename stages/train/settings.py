"""Parameters of training; `unlearn` and `evaluate` read some of these blocks too."""

from typing import Any

from stages.common.losses import LossSettings
from stages.common.masks import Sampling
from stages.common.training import TrainSettings
from stages.common.varnet import ModelSettings

BLOCKS: dict[str, Any] = {
    "sampling": Sampling,
    "model": ModelSettings,
    "loss": LossSettings,
    "train": TrainSettings,
}
