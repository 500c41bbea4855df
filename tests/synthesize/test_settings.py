"""Impossible cohorts are refused before any work, by the key's name."""

from typing import Any

import pytest

from stages.common.params import ParamsError, find_block, read_params, validate
from stages.synthesize.settings import BLOCKS, SynthesizeSettings


@pytest.fixture
def block() -> dict[str, Any]:
    return find_block(read_params(), "synthesize")


def test_the_committed_block_is_valid(block: dict[str, Any]) -> None:
    assert validate(block, "synthesize", BLOCKS["synthesize"])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("subjects.test", 0, r"synthesize\.subjects\.test' = 0"),
        ("matrix", 95, r"synthesize\.matrix' = 95"),
        ("slices", 0, r"synthesize\.slices' = 0"),
        ("slices", 100, r"synthesize\.extent.*100 slices .* do not fit into 48 mm"),
        ("extent", [40, 10], r"synthesize\.extent.*within -60 and 100 mm"),
        ("extent", [0, 500], r"synthesize\.extent.*within -60 and 100 mm"),
        ("contrasts", ["T1w", "T1w"], r"synthesize\.contrasts.*twice"),
        ("snr.T1w", 0, r"synthesize\.snr.*> 0"),
        ("tissues.gm.t1", -1, r"synthesize\.tissues\.gm\.t1' = -1"),
        ("matrixx", 96, r"synthesize\.matrixx' is not a parameter"),
    ],
)
def test_a_wrong_value_is_named(
    block: dict[str, Any], key: str, value: Any, message: str
) -> None:
    *parents, last = key.split(".")
    target = block
    for parent in parents:
        target = target[parent]
    target[last] = value
    with pytest.raises(ParamsError, match=message):
        validate(block, "synthesize", SynthesizeSettings)


def test_a_missing_key_is_named(block: dict[str, Any]) -> None:
    del block["fov"]
    with pytest.raises(ParamsError, match=r"'synthesize\.fov' is missing"):
        validate(block, "synthesize", SynthesizeSettings)
