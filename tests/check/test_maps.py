"""Mistakes in the blocks `maps` and `aftermath` are named before any work."""

import pytest
import yaml

from stages.check.profile import render
from stages.check.validate import find_problems


@pytest.mark.parametrize(
    ("axis", "value", "message"),
    [
        ("scenarios", ["mislabel-3"], "'aftermath.scenarios' has 'mislabel-3'"),
        ("sequence", ["sdd"], "Did you mean 'ssd'?"),
        ("requests", 1, "'aftermath.requests' = 1"),
        ("retrain_epochs", [2, 2], "'aftermath.retrain_epochs' = [2, 2]"),
        ("retrain_epochs", [0, 2], "each above the one before"),
        ("relearn", {"steps": [4, 2]}, "each above the one before"),
    ],
)
def test_a_mistake_in_aftermath_is_named(axis, value, message):
    params = yaml.safe_load(render("default"))
    block = params["aftermath"]
    block[axis] = block[axis] | value if isinstance(value, dict) else value
    assert message in "\n".join(find_problems(params))


@pytest.mark.parametrize(
    ("axis", "value", "message"),
    [
        ("scenarios", ["mislabel-3"], "'maps.known.scenarios' has 'mislabel-3'"),
        ("methods", ["sdd"], "Did you mean 'ssd'?"),
        ("methods", [], "'maps.known.methods' = []"),
        ("method", ["ssd"], "Did you mean 'methods'?"),
    ],
)
def test_a_mistake_is_named(axis, value, message):
    params = yaml.safe_load(render("maps"))
    assert find_problems(params) == []
    params["maps"]["known"][axis] = value
    assert message in "\n".join(find_problems(params))
