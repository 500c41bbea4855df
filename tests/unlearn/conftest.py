"""A model that has learnt something, for methods that undo it."""

import copy

import pytest

from stages.common.fit import Cost
from stages.common.training import train_reconstruction
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase
from tests.unlearn.toy_case import (
    LOSS,
    TRAIN,
    open_case,
    write_case,
)


@pytest.fixture(scope="module")
def trained() -> list[VarNet]:
    """The trained model, once a test has needed it: the cohort is always the same."""
    return []


@pytest.fixture
def case(tiny_cohort, tmp_path, trained) -> tuple[VarNet, UnlearnCase]:  # noqa: ARG001
    """A model that has learnt a little of everything, and its case."""
    write_case()
    model, data = open_case(tmp_path / "scratch")
    if not trained:
        whole = data.forget.restrict(data.forget.refs + data.retain.refs)
        train_reconstruction(
            model, whole, TRAIN, LOSS, steps=12, batch_size=4, seed=1, cost=Cost(),
            desc="",
        )  # fmt: skip
        trained.append(model)
    return copy.deepcopy(trained[0]), data
