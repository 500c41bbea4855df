"""What tests of the published methods share: runs aside, and runs that are killed."""

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from torch import Tensor

from stages.common import fit
from stages.common.fit import Cost
from stages.common.varnet import VarNet
from stages.unlearn.base import UnlearnCase
from tests.unlearn.toy_case import same


def aside(data: UnlearnCase, scratch: Path) -> UnlearnCase:
    """The same case for another run: nothing to pick up, nothing spent."""
    return data._replace(scratch=scratch, cost=Cost())


def assert_resumes(
    method: ModuleType, model: VarNet, data: UnlearnCase, params: Any
) -> None:
    """Killed before its last step, a method ends where an unbroken run does."""
    unbroken = aside(data, data.scratch / "unbroken")
    whole = method.unlearn(model, unbroken, params)
    total, taken, step = unbroken.cost.gradient_steps, 0, fit._Run.step

    def breaking(run: fit._Run, loss: Tensor) -> None:
        nonlocal taken
        if taken == total - 1:
            raise KeyboardInterrupt
        taken += 1
        step(run, loss)

    broken = aside(data, data.scratch / "broken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fit._Run, "step", breaking)
        with pytest.raises(KeyboardInterrupt):
            method.unlearn(model, broken, params)
    assert list(broken.scratch.iterdir())
    again = broken._replace(cost=Cost())
    assert same(method.unlearn(model, again, params), whole)
    assert again.cost == unbroken.cost
