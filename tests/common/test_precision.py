"""Which precision is taken on which processor."""

import logging

import pytest
import torch

from stages.common import precision
from stages.common.precision import runs_bf16

CPU = torch.device("cpu")


@pytest.fixture
def processor(monkeypatch):
    """Set what the processor can do."""

    def has(**capabilities):
        precision.has_bf16.cache_clear()
        precision._warn.cache_clear()
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)

    yield has
    precision.has_bf16.cache_clear()
    precision._warn.cache_clear()


@pytest.mark.parametrize("name", ["amx_bf16", "avx512_bf16", "bf16"])
def test_auto_is_bfloat16_where_there_are_instructions_for_it(processor, name):
    processor(avx2=True, **{name: True})
    assert runs_bf16("auto", CPU)
    assert not runs_bf16("fp32", CPU)


def test_auto_is_float32_elsewhere_and_bf16_is_taken_at_its_word(processor, caplog):
    processor(avx2=True, avx512_bf16=False)
    with caplog.at_level(logging.WARNING):
        assert not runs_bf16("auto", CPU)
        assert not caplog.text
        assert runs_bf16("bf16", CPU)
        assert runs_bf16("bf16", CPU)
    assert caplog.text.count("'auto' would take float32 here") == 1


def test_a_device_that_nobody_knows_runs_float32():
    assert not runs_bf16("auto", torch.device("meta"))
