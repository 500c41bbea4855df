"""What is tried: the trials of a method, all drawn before the first one is run.

Points are drawn at random, by Optuna, and by nothing that a trial has found. A search
that an objective leads would look where that objective points, and the others, and the
truth, could choose from its finds alone. So each objective picks from the same trials,
and what they lose against the truth can be compared.
"""

import json
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)

from stages.tune.settings import Range

Values = dict[str, Any]


def distributions(space: Mapping[str, Range]) -> dict[str, BaseDistribution]:
    """The search space in Optuna's words; choices go by their JSON text."""
    return {name: _distribution(space[name]) for name in sorted(space)}


def _distribution(values: Range) -> BaseDistribution:
    if values.choices is not None:
        return CategoricalDistribution([json.dumps(c) for c in values.choices])
    low, high = values.ends()
    if values.whole:
        return IntDistribution(low, high, log=bool(values.log))
    return FloatDistribution(low, high, log=bool(values.log))


def encoded(values: Mapping[str, Any], space: Mapping[str, Range]) -> Values:
    """Values of a method's block as Optuna stores them."""
    return {name: _encoded(values[name], space[name]) for name in sorted(space)}


def _encoded(value: Any, values: Range) -> Any:
    if values.choices is None:
        return value
    # The text of the choice: 2 and 2.0 are one.
    return json.dumps(values.choices[values.choices.index(value)])


def decoded(values: Mapping[str, Any], space: Mapping[str, Range]) -> Values:
    """The way back from `encoded`."""
    return {
        name: json.loads(value) if space[name].choices is not None else value
        for name, value in values.items()
    }


def draw_plan(
    space: Mapping[str, Range], own: Mapping[str, Any], *, budget: int, seed: int
) -> list[Values]:
    """Draw the trials of a method.

    Args:
        space: parameter -> values.
        own: the method's block of `params.yaml`, which the first trial has.
        budget: number of trials; a larger one adds to those of a smaller one.
        seed: of the draws; methods with equal spaces are given equal points.

    Returns:
        One value per parameter of the space, for each trial.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    found = distributions(space)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    drawn = [study.ask(found).params for _ in range(budget - 1)]
    first = {name: own[name] for name in sorted(space)}
    return [first, *(decoded(values, space) for values in drawn)]
