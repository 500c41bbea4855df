"""Parameters of `classify`: the network, its training, the lesions, the interval."""

from typing import Any

from pydantic import Field

from stages.common.lesions import LesionSettings
from stages.common.params import Settings


class Resampling(Settings):
    """Bootstrap over subjects."""

    resamples: int = Field(ge=100)
    seed: int = Field(ge=0)


class ClassifySettings(Settings):
    """Block `classify`.

    Attributes:
        seed: of the weights, the order, the lesions and the movements.
        chans: channels after the first convolution.
        epochs: passes over the training slices.
        batch_size: slices per step; each is up to two images.
        lr: peak of the rate, which rises and falls once (AdamW).
        weight_decay: decoupled weight decay.
        validate_every: epochs between two looks at the validation split.
        lesions: ranges of the simulated lesions' sizes.
        bootstrap: of the interval on the test split.
    """

    seed: int = Field(ge=0)
    chans: int = Field(ge=1)
    epochs: int = Field(ge=1)
    batch_size: int = Field(ge=1)
    lr: float = Field(gt=0, le=1)
    weight_decay: float = Field(ge=0)
    validate_every: int = Field(ge=1)
    lesions: LesionSettings
    bootstrap: Resampling


BLOCKS: dict[str, Any] = {"classify": ClassifySettings}
