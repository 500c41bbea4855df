"""Mistakes in the `tune` block are named before any trial."""

import copy

import pytest
import yaml

from stages.check.profile import render
from stages.check.validate import find_problems


@pytest.fixture(scope="module")
def valid():
    return yaml.safe_load(render("default"))


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        ("scenarios", ["mislabel-3"], "'tune.scenarios' has 'mislabel-3'"),
        ("methods", {}, "'tune.methods' = {}"),
        ("methods.sdd", {"a": {"choices": [1, 2]}}, "Did you mean 'ssd'?"),
        ("methods.ssd", {}, "'tune.methods.ssd' = {}"),
        ("methods.ssd.alhpa", {"choices": [1, 2]}, "Did you mean 'alpha'?"),
        ("methods.ssd.alpha.low", 200.0, "low = 200.0 must be below high = "),
        ("methods.ssd.alpha.low", 0.0, "low = 0.0 must be above 0 where log is true"),
        ("methods.ssd.alpha.low", 1.0, "'unlearn.ssd.alpha' = 0.1 is not in"),
        ("methods.ssd.alpha.choices", [1, 2], "give choices, two at least, or low"),
        ("methods.ssd.alpha", {"low": 0.1, "high": 1.0}, "give low, high and log"),
        (
            "methods.salun.share.high",
            1.5,
            "'tune.methods.salun.share' holds 1.5, which the method does not take: "
            "Input should be less than or equal to 1",
        ),
        (
            "methods.cf_k.sens_net.choices",
            [False, "perhaps"],
            "'tune.methods.cf_k.sens_net' holds 'perhaps'",
        ),
        ("budget", 0, "'tune.budget' = 0"),
        ("trusted", 8, "'tune.trusted' = 8 leaves none of the 8 validation subjects"),
    ],
)
def test_a_mistake_is_named(valid, keys, value, message):
    params = copy.deepcopy(valid)
    block = params["tune"]
    *path, last = keys.split(".")
    for key in path:
        block = block[key]
    block[last] = value
    found = find_problems(params)
    assert any(message in line for line in found), found


def test_a_method_without_a_block_is_named(valid):
    params = copy.deepcopy(valid)
    del params["unlearn"]["salun"]
    assert "'unlearn.salun' is missing: tune.methods has salun" in find_problems(params)
