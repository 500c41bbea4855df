"""Relatives of SSD dampen what they say, and nothing else."""

import copy
import math

import h5py
import numpy as np
import pytest
import torch
from torch import nn

from stages.common import paths
from stages.common.devices import rank
from stages.common.fit import Cost
from stages.common.reconstruct import reconstruct
from stages.common.slices import collate
from stages.common.varnet import VarNet
from stages.unlearn import (
    assd,
    lfssd,
    output_norm,
    potion,
    ssd,
    ssd_guarded,
)
from stages.unlearn.dampening import (
    adaptive_percentile,
    fisher,
    ratios,
    threshold,
)
from stages.unlearn.importance import Importance
from stages.unlearn.output_norm import output_norm_importance, output_norms
from tests.common.ranks import of_torchrun
from tests.unlearn.noise import require_close
from tests.unlearn.toy_case import (
    loss_of,
    open_case,
    params_of,
    same,
)

GUARDS_OFF = {
    "protect": (), "per_layer": None, "tie_lambda": False, "healing_steps": 0,
}  # fmt: skip


def changed(before: VarNet, after: VarNet) -> dict[str, torch.Tensor]:
    return {n: p != after.get_parameter(n) for n, p in before.named_parameters()}


# ASSD


def test_the_percentile_and_the_threshold_by_hand():
    assert adaptive_percentile(0.0) == 100
    assert adaptive_percentile(0.06) == pytest.approx(100 - math.log(7))
    assert adaptive_percentile(1e300) == 0
    forget = {"a": torch.tensor([1.0, 4.0, 0.0]), "b": torch.tensor([[9.0], [0.0]])}
    whole = {"a": torch.tensor([1.0, 2.0, 1.0]), "b": torch.tensor([[3.0], [0.0]])}
    found = ratios(forget, whole)
    assert sorted(found) == [0, 1, 2, 3]  # 0 / 0 is no ratio
    assert threshold(found, 50.0) == pytest.approx(1.5, rel=1e-5)
    assert threshold(found, 100.0) > 3
    assert threshold(np.array([]), 50.0) == math.inf


def test_assd_dampens_the_share_that_its_rule_gives(case):
    model, data = case
    student = assd.unlearn(model, data, assd.Params())
    forget, whole = fisher(copy.deepcopy(model), data)
    found = ratios(forget, whole)
    share = math.log(1 + 100 * 3 / 18) / 100
    moved = changed(model, student)
    count = sum(int(part.sum()) for part in moved.values())
    assert abs(count - share * found.size) <= 1
    cut = np.sort(found)[-count]
    assert cut > 1  # else some of those that are selected would keep their value
    for name, part in moved.items():
        chosen = forget[name].double() / whole[name].double() >= cut * (1 - 1e-6)
        assert not (part & ~chosen).any(), name
        # lambda is 1: as far down as the ratio is above 1.
        dampened = model.get_parameter(name) * whole[name] / forget[name]
        torch.testing.assert_close(
            student.get_parameter(name)[part], dampened[part], rtol=1e-4, atol=1e-8
        )


# LFSSD and Potion


@pytest.mark.parametrize("power", [1, 2])
def test_the_output_norms_importance_is_its_definition(case, power):
    model, data = case
    cost = Cost()
    found = output_norm_importance(model, data.forget, power=power, cost=cost, desc="")
    parameters = dict(model.named_parameters())
    expected = {name: torch.zeros_like(p) for name, p in parameters.items()}
    for sample in data.forget:
        batch = collate([sample])
        size = (reconstruct(model, batch) / sample.max_value).norm() ** power
        # Up to the number of pixels.
        size = size / sample.target.numel() ** (power / 2)
        for name, part in zip(
            parameters,
            torch.autograd.grad(size, list(parameters.values())),
            strict=True,
        ):
            expected[name] += part.abs() / len(data.forget)
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name], value, rtol=1e-3, atol=1e-4 * value.max().item() + 1e-8
        )
    assert cost == Cost(slices_forward_backward=len(data.forget))


def test_two_ranks_find_the_output_norms_of_one_process(case, monkeypatch):
    """3 slices, so 2 and 1: the mean of two means would be another number."""
    model, data = case

    def measure() -> tuple[Importance, Cost]:
        cost = Cost()
        found = output_norm_importance(
            model, data.forget, power=2, cost=cost, desc="norm"
        )
        return found, cost

    alone, spent = measure()
    parts: list[torch.Tensor] = []

    def add(tensor: torch.Tensor) -> torch.Tensor:
        """Rank 1 comes first and leaves its parts; rank 0 adds its own."""
        if rank():
            parts.append(tensor)
            return tensor
        return parts.pop(0) + tensor

    monkeypatch.setattr(output_norm, "sum_over_ranks", add)
    for number in (1, 0):
        for name, value in of_torchrun(number).items():
            monkeypatch.setenv(name, value)
        together, cost = measure()
        assert cost == spent
    assert not parts
    require_close(together, alone, allowed=1e-6)


def rewrite_targets() -> None:
    """Other images in the place of all exported targets; the scale is the same."""
    rng = np.random.default_rng(5)
    for path in (paths.case("s") / "targets").iterdir():
        with h5py.File(path, "r+") as file:
            image = file["reconstruction_rss"]
            image[...] = rng.random(image.shape) * file.attrs["max"]


def test_lfssd_dampens_by_the_squared_norm_and_looks_at_no_target(case, tmp_path):
    model, data = case
    params = lfssd.Params(alpha=1.05, lam=0.8)
    before = lfssd.unlearn(model, data, params)
    assert data.cost == Cost(slices_forward_backward=data.total)
    expected = copy.deepcopy(model)
    ssd.dampen(expected, *output_norms(model, data, power=2), alpha=1.05, lam=0.8)
    assert same(before, expected)
    seen = ssd.unlearn(model, data, ssd.Params(alpha=1.05, lam=1.0))
    rewrite_targets()
    _, other = open_case(tmp_path / "other")
    assert same(before, lfssd.unlearn(model, other, params))
    assert not same(before, model)
    assert not same(seen, ssd.unlearn(model, other, ssd.Params(alpha=1.05, lam=1.0)))


def test_potion_stops_at_the_first_round_that_meets_rho(case, monkeypatch):
    model, data = case
    answers = iter([0.8, 0.7, 0.6, 0.5, 0.1])  # down to 0.7 of the first
    monkeypatch.setattr(potion, "agreement", lambda *_: next(answers))
    params = params_of(potion, rho=0.7, growth=1.1, max_rounds=9)
    student = potion.unlearn(model, data, params)
    assert next(answers) == 0.1  # nobody asked for a fourth round

    forget, whole = output_norms(model, data, power=1)
    share = 3 / 18 / 25 * 1.1**2
    alpha = threshold(ratios(forget, whole), adaptive_percentile(share))
    expected = copy.deepcopy(model)
    ssd.dampen(expected, forget, whole, alpha=alpha, lam=1.0)
    assert same(student, expected)
    assert not same(student, model)


def test_potions_rounds_have_an_end_and_are_counted(case, caplog):
    model, data = case
    student = potion.unlearn(model, data, params_of(potion, rho=0.0, max_rounds=3))
    assert "still above 0.000 after 3 rounds" in caplog.text
    size = len(data.forget)
    assert data.cost == Cost(data.total, 4 * size, 0)
    assert potion.agreement(student, data) != potion.agreement(model, data)


# Guarded SSD


def test_without_guards_it_is_ssd_to_the_bit(case):
    model, data = case
    params = params_of(ssd_guarded, alpha=1.1, lam=0.7, **GUARDS_OFF)
    plain = ssd.unlearn(model, data, ssd.Params(alpha=1.1, lam=0.7))
    assert same(ssd_guarded.unlearn(model, data, params), plain)
    assert not same(plain, model)
    assert data.cost == Cost(slices_forward_backward=2 * data.total)


def test_protected_weights_keep_every_bit(case):
    model, data = case
    guards = GUARDS_OFF | {"protect": ("dc_weight", "sens_net")}
    params = params_of(ssd_guarded, alpha=0.1, lam=0.1, **guards)
    moved = changed(model, ssd_guarded.unlearn(model, data, params))
    kept = {n for n in moved if n.startswith("sens_net") or n.endswith("dc_weight")}
    assert len(kept) > 1
    assert not any(moved[name].any() for name in kept)
    assert all(moved[name].any() for name in set(moved) - kept)


class Weights(nn.Module):
    """Two tensors whose ratios are of different size."""

    def __init__(self) -> None:
        super().__init__()
        self.small = nn.Parameter(torch.ones(100))
        self.large = nn.Parameter(torch.ones(100))
        self.single = nn.Parameter(torch.ones(1))
        self.unused = nn.Parameter(torch.ones(3))


def test_thresholds_of_each_layer_and_dampening_from_one():
    ratio = torch.linspace(1, 2, 100)
    forget = {"small": ratio, "large": 50 * ratio, "single": torch.tensor([3.0])}
    whole = {name: torch.ones_like(value) for name, value in forget.items()}
    for part in (forget, whole):
        part["unused"] = torch.zeros(3)

    def dampened(**changes) -> Weights:
        model = Weights()
        params = params_of(ssd_guarded, alpha=2.5, lam=1.0, **GUARDS_OFF | changes)
        ssd_guarded.dampen(model, forget, whole, params)
        return model

    for_all = dampened()
    assert for_all.small.eq(1).all()
    assert for_all.large.lt(1).all()
    layers = dampened(per_layer=90.0)
    for tensor in (layers.small, layers.large):
        assert tensor.lt(1).nonzero().flatten().tolist() == list(range(90, 100))
    assert layers.large.max() == 1
    assert torch.allclose(layers.large[90:], 1 / (50 * ratio[90:]))
    # A weight is not above its own percentile, and nothing / nothing is no ratio.
    assert layers.single.eq(1).all()
    assert layers.unused.eq(1).all()
    tied = dampened(per_layer=90.0, tie_lambda=True)
    assert torch.allclose(tied.large, tied.small, rtol=1e-4)
    assert 0.99 < tied.large[90] < 1
    assert tied.large[99].item() == pytest.approx(threshold(ratio.numpy(), 90.0) / 2)


def test_healing_trains_on_the_retain_set(case):
    model, data = case
    guards = GUARDS_OFF | {"healing_steps": 4, "lr": 0.003}
    params = params_of(ssd_guarded, alpha=0.1, lam=0.1, **guards)
    healed = ssd_guarded.unlearn(model, data, params)
    sick = ssd.unlearn(model, data, ssd.Params(alpha=0.1, lam=0.1))
    assert loss_of(healed, data.retain) < loss_of(sick, data.retain)
    # Both were measured on everything; 4 steps are a pass over 15 slices.
    assert data.cost == Cost(2 * data.total + len(data.retain), 0, 4)
