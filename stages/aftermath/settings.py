"""The `aftermath` block of `params.yaml`: what is asked of models that were healed."""

from itertools import pairwise

from pydantic import Field, field_validator

from stages.common.fit import OptimSettings
from stages.common.params import Settings


class RelearnSettings(OptimSettings):
    """Training on the known poison again, from a healed model.

    Attributes:
        steps: how many, one short training each, from few to many.
        batch_size: slices a step.
    """

    steps: tuple[int, ...] = Field(min_length=1)
    batch_size: int = Field(ge=1)

    @field_validator("steps")
    @classmethod
    def _rising(cls, steps: tuple[int, ...]) -> tuple[int, ...]:
        if steps[0] < 1 or any(a >= b for a, b in pairwise(steps)):
            raise ValueError(
                "give numbers of steps from 1 on, each above the one before"
            )
        return steps


class AftermathSettings(Settings):
    """What `make aftermath` does with the models of finished scenarios.

    Attributes:
        seed: order of the slices in relearning.
        scenarios: rows of `scenarios`.
        methods: of `grid.methods`; relearning starts from what they have made.
        sequence: those that are also run on one request after the other.
        requests: how many; each names more of the known forget set.
        relearn: see `RelearnSettings`.
        retrain_epochs: lengths of retraining from scratch, from short to long.
    """

    seed: int = Field(ge=0)
    scenarios: tuple[str, ...] = Field(min_length=1)
    methods: tuple[str, ...] = Field(min_length=1)
    sequence: tuple[str, ...] = Field(min_length=1)
    requests: int = Field(ge=2)
    relearn: RelearnSettings
    retrain_epochs: tuple[float, ...] = Field(min_length=1)

    @field_validator("retrain_epochs")
    @classmethod
    def _longer(cls, epochs: tuple[float, ...]) -> tuple[float, ...]:
        if epochs[0] <= 0 or any(a >= b for a, b in pairwise(epochs)):
            raise ValueError("give epochs above 0, each above the one before")
        return epochs


BLOCKS: dict[str, type] = {"aftermath": AftermathSettings}
