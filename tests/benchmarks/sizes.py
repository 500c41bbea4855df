"""What is measured: a model and its data as a profile has them, and how often."""

from typing import Any, NamedTuple

import yaml

from stages.check import processor
from stages.check.profile import render
from stages.common.losses import LossSettings
from stages.common.masks import Sampling
from stages.common.params import find_block, validate
from stages.common.training import TrainSettings
from stages.common.varnet import ModelSettings
from stages.synthesize.settings import SynthesizeSettings


class Plan(NamedTuple):
    """How much of a size is measured.

    Attributes:
        batches: slices per step that are tried, on both sides; 1 is among them.
        rounds: how often a step of each variant is timed.
        importance_training: steps that a network takes before its weights are ranked.
        importance_slices: samples of an importance pass.
        importance_batches: slices at a time that our pass tries.
        importance_rounds: how often a pass of each variant is timed.
        load_rounds: how often loading the training set is timed.
    """

    batches: tuple[int, ...]
    rounds: int
    importance_training: int
    importance_slices: int
    importance_batches: tuple[int, ...]
    importance_rounds: int
    load_rounds: int

    def with_rounds(self, rounds: int) -> "Plan":
        return self._replace(
            rounds=rounds, importance_rounds=rounds, load_rounds=rounds
        )


class Size(NamedTuple):
    """A profile's settings that have to do with speed."""

    model: ModelSettings
    sampling: Sampling
    loss: LossSettings
    train: TrainSettings
    synthesize: SynthesizeSettings
    plan: Plan

    def describe(self) -> dict[str, Any]:
        """What a figure is of, as the results keep it."""
        return self.model.model_dump(mode="json") | {
            "matrix": self.synthesize.matrix,
            "coils": self.synthesize.coils,
            "epochs": self.train.epochs,
        }

    def with_precision(self, precision: str) -> ModelSettings:
        return self.model.model_copy(update={"precision": precision})


# A step of the paper's size takes seconds, hence the few rounds.
PLANS = {
    "default": Plan(
        batches=(1, 4, 8, 16),
        rounds=9,
        importance_training=16,
        importance_slices=32,
        importance_batches=(4, 8, 16),
        importance_rounds=5,
        load_rounds=5,
    ),
    "paper": Plan(
        batches=(1, 2),
        rounds=3,
        importance_training=16,
        importance_slices=4,
        importance_batches=(1, 2, 4),
        importance_rounds=3,
        load_rounds=1,
    ),
}


def precisions() -> tuple[str, ...]:
    """Those of this machine: bfloat16 where it would not take ten times as long."""
    slow = processor.problems({"model": {"precision": "bf16"}})
    return ("fp32",) if slow else ("fp32", "bf16")


def profile_params(profile: str) -> dict[str, Any]:
    """Return `params.yaml` as a profile has it, whatever lies at the root."""
    params: dict[str, Any] = yaml.safe_load(render(profile))
    return params


def read_size(profile: str, plan: Plan) -> Size:
    """Read a size from a profile.

    Raises:
        ParamsError: there is no such profile.
    """
    params = profile_params(profile)

    def block(key: str, schema: Any) -> Any:
        return validate(find_block(params, key), key, schema)

    return Size(
        model=block("model", ModelSettings),
        sampling=block("sampling", Sampling),
        loss=block("loss", LossSettings),
        train=block("train", TrainSettings),
        synthesize=block("synthesize", SynthesizeSettings),
        plan=plan,
    )
