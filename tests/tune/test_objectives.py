"""Objectives and plan: what they measure, and that nothing leaks into them."""

import copy

import numpy as np
import pytest
import torch

from stages.common import paths
from stages.common.metrics import ssim
from stages.common.reconstruct import reconstruct
from stages.common.slices import SliceDataset, make_loader
from stages.common.varnet import load_checkpoint
from stages.tune.data import load_data
from stages.tune.lines import held_error, held_lines, line_errors
from stages.tune.objectives import (
    OBJECTIVES,
    BrokenModelError,
    HowToMeasure,
    look_before,
    measure,
)
from stages.tune.plan import draw_plan
from stages.tune.settings import Range, TuneSettings
from tests.tune.toy_search import TUNE
from tests.unlearn.toy_case import SAMPLING, write_case

HOW = HowToMeasure(alpha=0.3, held_lines=0.25, seed=71, batch_size=4)
SPACE = {
    "lr": Range(low=0.001, high=0.1, log=True),
    "k": Range(low=1, high=4, log=False),
    "protect": Range(choices=(["a"], [])),
}
OWN = {"lr": 0.01, "k": 2, "protect": ["a"], "epochs": 1}


@pytest.fixture
def data(make_cohort):
    make_cohort(train=3, val=2)
    write_case()
    return load_data("s", TuneSettings(**TUNE), SAMPLING)


@pytest.fixture
def poisoned(data):  # noqa: ARG001
    return load_checkpoint(paths.case("s") / "model.safetensors").eval()


def test_held_lines_are_sampled_and_outside_of_the_centre(data):
    (batch,) = make_loader(data.known, batch_size=4)
    held = held_lines(batch, share=0.25, seed=71)
    assert held.any(1).all()
    assert not (held & ~batch.mask).any()
    width, low = batch.mask.shape[-1], batch.num_low_frequencies
    start = (width - low + 1) // 2
    assert not held[:, start : start + low].any()
    assert not torch.equal(held, held_lines(batch, share=0.25, seed=72))


@torch.no_grad()
def test_a_network_is_not_shown_what_it_has_to_predict(data, poisoned):
    """Held lines a thousand times larger: seen, they would be followed."""
    (batch,) = make_loader(data.known, batch_size=4)
    held = held_lines(batch, share=0.25, seed=71)
    before = held_error(poisoned, batch, held)
    factor = torch.where(held, 1000.0, 1.0)[:, None, None]
    loud = batch._replace(masked_kspace=batch.masked_kspace * factor)
    errors = held_error(poisoned, loud, held)
    assert errors.abs().max() < 0.1  # dB: 0 is a prediction of nothing
    assert (before - errors).abs().max() > 0.1


def test_targets_do_not_shape_what_lines_say(data, poisoned):
    said = line_errors(poisoned, data.known, share=0.25, seed=71, batch_size=4)
    clean = SliceDataset(paths.kspace("train"), data.known.refs, SAMPLING)
    assert said == line_errors(poisoned, clean, share=0.25, seed=71, batch_size=4)


def test_an_error_is_relative_to_each_held_column(data, poisoned, monkeypatch):
    (batch,) = make_loader(data.known, batch_size=4)
    held = held_lines(batch, share=0.5, seed=71)
    first, *others = (row.nonzero().flatten() for row in held)
    size = torch.ones(held.shape[1])
    size[first] = torch.logspace(-3, 3, len(first))  # of columns, which does not count
    measured = (batch.mask * size)[:, None, None] * torch.ones(1, 4, 8, 1)
    # What is predicted where nothing was measured is no error of these.
    predicted = torch.where(batch.mask[:, None, None], 0.9 * measured, 1e30)
    predicted[1, ..., others[0]] = 0
    pair = predicted.to(torch.complex64), measured.to(torch.complex64)
    monkeypatch.setattr("stages.tune.lines._last_cascade", lambda *_: pair)
    errors = held_error(poisoned, batch, held)
    assert errors.tolist() == pytest.approx([20, 0, 20], abs=1e-4)


def test_the_poisoned_model_has_changed_nothing(data, poisoned):
    before = look_before(poisoned, data, HOW)
    values = measure(poisoned, data, before, HOW)
    assert tuple(values) == OBJECTIVES
    kept = mean_ssim(poisoned, data.trusted)
    assert values["changed_trusted"] == pytest.approx(kept / 2, abs=1e-4)
    expected = 0.3 * kept + 0.7 * (1 - mean_ssim(poisoned, data.known))
    assert values["score_trusted"] == pytest.approx(expected, abs=1e-4)
    expected = 0.3 * mean_ssim(poisoned, data.holdout)
    expected += 0.7 * (1 - mean_ssim(poisoned, data.known))
    assert values["score_holdout"] == pytest.approx(expected, abs=1e-4)
    other = copy.deepcopy(poisoned)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(0)
    changed = measure(other, data, before, HOW)
    moved = changed["changed_trusted"] * 2 - mean_ssim(other, data.trusted)
    share = len(data.known) * moved
    assert share == pytest.approx(round(share), abs=1e-3)


@torch.no_grad()
def mean_ssim(model, dataset) -> float:
    values = []
    for batch in make_loader(dataset, batch_size=4):
        output = reconstruct(model, batch)
        values += [
            ssim(target.numpy(), image.numpy(), float(top))
            for target, image, top in zip(
                batch.target, output, batch.max_value, strict=True
            )
        ]
    return float(np.mean(values))


def test_a_broken_model_is_told(data, poisoned):
    before = look_before(poisoned, data, HOW)
    with torch.no_grad():
        next(poisoned.parameters()).fill_(torch.nan)
    with pytest.raises(BrokenModelError, match="not finite"):
        measure(poisoned, data, before, HOW)


def test_a_plan_begins_with_the_own_values_and_grows():
    plan = draw_plan(SPACE, OWN, budget=20, seed=1)
    assert plan[0] == {"lr": 0.01, "k": 2, "protect": ["a"]}
    assert draw_plan(SPACE, OWN, budget=5, seed=1) == plan[:5]
    assert draw_plan(SPACE, OWN, budget=5, seed=2)[1:] != plan[1:5]
    for values in plan:
        assert all(SPACE[name].holds(value) for name, value in values.items())
    assert {values["k"] for values in plan} == {1, 2, 3, 4}
    assert {len(values["protect"]) for values in plan} == {0, 1}
