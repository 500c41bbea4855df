"""Bounded ascents stop where they should, and relatives of SSD dampen what they say."""

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
from stages.common.losses import recon_loss
from stages.common.manifest import SliceRef
from stages.common.reconstruct import reconstruct
from stages.common.slices import SliceDataset, collate
from stages.common.training import train_reconstruction
from stages.common.varnet import VarNet, build_varnet
from stages.unlearn import (
    assd,
    grad_tau,
    lfssd,
    neggrad_plus,
    npo,
    output_norm,
    potion,
    scrub,
    ssd,
    ssd_guarded,
)
from stages.unlearn.base import UnlearnCase
from stages.unlearn.dampening import (
    adaptive_percentile,
    fisher,
    of_both,
    ratios,
    threshold,
)
from stages.unlearn.importance import Importance
from stages.unlearn.output_norm import output_norm_importance
from stages.unlearn.slice_values import loss_value, slice_values
from tests.common.ranks import of_torchrun
from tests.unlearn.noise import require_close
from tests.unlearn.toy_case import (
    LOSS,
    MODEL,
    TRAIN,
    open_case,
    params_of,
    same,
    write_case,
)

STRONG = {"lr": 0.005, "epochs": 4.0, "weight_decay": 0.0}
GUARDS_OFF = {
    "protect": (), "per_layer": None, "tie_lambda": False, "healing_steps": 0,
}  # fmt: skip


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


def losses_of(model: VarNet, dataset: SliceDataset) -> dict[SliceRef, float]:
    other = copy.deepcopy(model)
    return slice_values(other, dataset, loss_value(LOSS), batch_size=4, cost=Cost())


def loss_of(model: VarNet, dataset: SliceDataset) -> float:
    return float(np.mean(list(losses_of(model, dataset).values())))


def apart(case: UnlearnCase, tmp_path, name: str) -> UnlearnCase:
    """The same case with a scratch and a cost of its own."""
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    return case._replace(scratch=folder, cost=Cost())


def changed(before: VarNet, after: VarNet) -> dict[str, torch.Tensor]:
    return {n: p != after.get_parameter(n) for n, p in before.named_parameters()}


# NPO


def test_npos_gradient_raises_the_loss_and_vanishes_as_it_grows():
    start = torch.tensor([0.3, 0.3, 0.3, 0.3], dtype=torch.double)
    rise = torch.tensor([-0.4, 0.0, 0.4, 40.0], dtype=torch.double)
    loss = (start + rise).requires_grad_()
    value = npo.preference(loss, start, beta=10.0)
    assert value[1].item() == pytest.approx(2 / 10 * math.log(2))
    assert (value.diff() < 0).all()
    value.sum().backward()
    slope = [-2 / (1 + math.exp(10 * one)) for one in rise.tolist()]
    assert loss.grad.tolist() == pytest.approx(slope, abs=1e-12)
    assert slope[1] == -1
    assert value.isfinite().all()


def test_npo_raises_the_forget_loss_and_less_so_with_a_large_beta(case, tmp_path):
    model, data = case
    before = loss_of(model, data.forget)
    rises = []
    for beta in (0.1, 300.0):
        aside = apart(data, tmp_path, str(beta))
        changes = STRONG | {"epochs": 8.0, "beta": beta, "alpha": 0.0}
        student = npo.unlearn(model, aside, params_of(npo, **changes))
        rises.append(loss_of(student, data.forget) - before)
    assert rises[0] > 1.4 * rises[1] > 0
    size = len(data.forget)
    assert aside.cost.gradient_steps == 8
    assert aside.cost.slices_forward == size  # L_0, once
    assert aside.cost.slices_forward_backward == 8 * (size + TRAIN.batch_size)


def test_npo_without_its_forget_term_descends_on_the_retain_set(case, tmp_path):
    model, data = case
    params = params_of(npo, **STRONG | {"epochs": 4.0}, gamma=0.0, alpha=1.0)
    student = npo.unlearn(model, data, params)
    assert loss_of(student, data.retain) < loss_of(model, data.retain)
    neither = params.model_copy(update={"alpha": 0.0})
    assert same(npo.unlearn(model, apart(data, tmp_path, "neither"), neither), model)


# NegGrad+


def gradient_of(loss: torch.Tensor, model: VarNet) -> torch.Tensor:
    parts = torch.autograd.grad(loss, list(model.parameters()))
    return torch.cat([part.flatten() for part in parts])


def test_a_slice_above_tau_has_no_part_in_neggrads_gradient(case):
    model, data = case
    losses = losses_of(model, data.forget)
    low, *_, high = sorted(losses, key=losses.__getitem__)
    slices = dict(zip(data.forget.refs, data.forget, strict=True))

    def slope(refs: list[SliceRef], tau: float) -> torch.Tensor:
        batch = collate([slices[ref] for ref in refs])
        clamped = neggrad_plus.clamped_loss(LOSS, tau=tau)
        return gradient_of(clamped(model, batch), model)

    # Nearer to the lower: a clamp of the mean would leave no gradient at all.
    tau = 0.75 * losses[low] + 0.25 * losses[high]
    alone = slope([low], tau)
    assert alone.any()
    torch.testing.assert_close(slope([low, high], tau), alone / 2, rtol=1e-3, atol=1e-6)
    assert not slope([high], tau).any()


def test_the_clamp_ends_neggrads_ascent(case, tmp_path):
    model, data = case
    before = losses_of(model, data.forget)
    moves = {}
    for tau, epochs in ((0.9 * min(before.values()), 1.0), (10.0, 2.0)):
        aside = apart(data, tmp_path, str(tau))
        changes = STRONG | {"epochs": epochs}
        params = params_of(neggrad_plus, **changes, a=0.0, tau=tau)
        moves[tau] = neggrad_plus.unlearn(model, aside, params)
    below, above = moves.values()
    assert same(below, model)  # every slice has passed tau: not a weight moves
    assert loss_of(above, data.forget) > 1.1 * loss_of(model, data.forget)


def test_neggrad_descends_on_the_retain_set(case):
    model, data = case
    params = params_of(neggrad_plus, **STRONG | {"epochs": 2.0}, a=1.0)
    student = neggrad_plus.unlearn(model, data, params)
    assert loss_of(student, data.retain) < loss_of(model, data.retain)
    steps = 2 * 4  # 15 slices, 4 at a time
    assert data.cost.gradient_steps == steps
    retain, forget = 2 * len(data.retain), steps * len(data.forget)
    assert data.cost.slices_forward_backward == retain + forget


# Gradient ascent to a target


def test_tau_is_the_mean_loss_of_retain_slices(case):
    model, data = case
    expected = losses_of(model, data.retain)
    whole = grad_tau.target_loss(copy.deepcopy(model), data, slices=1000)
    assert whole == pytest.approx(np.mean(list(expected.values())), rel=1e-6)
    assert data.cost.slices_forward == len(data.retain)
    parts = [
        grad_tau.target_loss(copy.deepcopy(model), data._replace(seed=seed), slices=1)
        for seed in range(3)
    ]
    for part in parts:
        assert min(abs(part - value) for value in expected.values()) < 1e-6
    assert len(set(parts)) > 1  # drawn, and not always the first
    assert data.cost.slices_forward == len(data.retain) + 3


def test_the_ascent_goes_up_to_tau(case, monkeypatch):
    model, data = case
    before = np.array(list(losses_of(model, data.forget).values()))

    def corrected(tau: float, epochs: float) -> VarNet:
        params = params_of(grad_tau, **STRONG | {"epochs": epochs}, alpha=1.0)
        (data.scratch / "grad_tau.pt").unlink(missing_ok=True)
        monkeypatch.setattr(grad_tau, "target_loss", lambda *_, **__: tau)
        return grad_tau.unlearn(model, data, params)

    # The loss is above tau already: not a weight moves.
    assert same(corrected(0.9 * before.min(), 1.0), model)
    tau = before.max() + 0.05
    after = np.array(list(losses_of(corrected(tau, 3.0), data.forget).values()))
    missing = [np.square(np.maximum(tau - part, 0)).sum() for part in (before, after)]
    assert missing[1] < 0.6 * missing[0]
    assert before.mean() < after.mean() < tau + 0.05
    assert data.cost.gradient_steps == (1 + 3) * 4  # 15 slices, 4 at a time


def test_grad_taus_objective_by_hand(case, monkeypatch):
    model, data = case
    kept, forgotten = (
        np.array(list(losses_of(model, part).values()))
        for part in (data.retain, data.forget)
    )
    # Above the mean's share: one slice is past it, another is not.
    tau = forgotten.mean()
    given = []
    monkeypatch.setattr(grad_tau, "target_loss", lambda *_, **__: tau)
    monkeypatch.setattr(grad_tau, "fit", lambda *args, **_: given.append(args[2]))
    grad_tau.unlearn(model, data, params_of(grad_tau, alpha=0.3))
    batches = collate(list(data.retain)), collate(list(data.forget))
    missing = np.square(np.maximum(tau - forgotten, 0)).mean()
    expected = 0.3 * missing + 0.7 * kept.mean()
    assert 0.3 * missing > 1e-4 * expected  # else it would not be noticed
    assert given[0](model, batches).item() == pytest.approx(expected, rel=1e-5)


# SCRUB


def test_scrubs_descent_weighs_the_target_and_the_teacher(case):
    teacher, data = case
    batch = collate(list(data.retain)[:3])
    student = build_varnet(MODEL, seed=99)
    with torch.no_grad():
        image = reconstruct(teacher, batch)
        task, distance = (
            batch.mean(
                recon_loss(reconstruct(student, batch), aim, batch.max_value, LOSS)
            )
            for aim in (batch.target, image)
        )
        found = scrub.descent(teacher, LOSS, gamma=0.9, alpha=0.3)(student, batch)
    assert found.item() == pytest.approx((0.9 * task + 0.3 * distance).item())
    assert distance > 0.01


def test_scrubs_ascent_flees_the_teacher_as_far_as_the_budget(case):
    model, data = case
    teacher = copy.deepcopy(model).requires_grad_(False)
    batch = collate(list(data.forget))

    def gradient(student: VarNet, budget: float) -> tuple[float, torch.Tensor]:
        loss = scrub.ascent(teacher, LOSS, budget=budget)(student, batch)
        return loss.item(), gradient_of(loss, student)

    at_teacher, slope = gradient(copy.deepcopy(model), 10.0)
    # Why the first phase is a descent.
    assert at_teacher == pytest.approx(0, abs=1e-5)
    student = build_varnet(MODEL, seed=99)
    far, slope = gradient(student, 10.0)
    assert far < -0.01
    assert slope.norm() > 0
    with torch.no_grad():
        for parameter, part in zip(
            student.parameters(),
            slope.split([p.numel() for p in student.parameters()]),
            strict=True,
        ):
            parameter -= 1e-3 * part.view_as(parameter) / slope.norm()
    assert gradient(student, 10.0)[0] < far  # further away
    # The budget is each slice's own.
    with torch.no_grad():
        output, image = (reconstruct(one, batch) for one in (student, teacher))
    each = recon_loss(output, image, batch.max_value, LOSS)
    budget = each.mean().item()
    expected = -each.clamp(max=budget).mean().item()
    assert expected > -budget * (1 - 1e-4)
    assert gradient(student, budget)[0] == pytest.approx(expected, rel=1e-5)
    spent, slope = gradient(student, 1e-4)
    assert spent == pytest.approx(-1e-4)
    assert not slope.any()


def test_scrub_alternates_resumes_and_counts_the_teacher(case):
    model, data = case
    rates = {"lr": 0.003, "max_lr": 0.01, "clip_norm": 0.5}
    params = params_of(scrub, max_rounds=2, max_epochs=1.0, **rates)
    first = scrub.unlearn(model, data, params)
    assert {path.name for path in data.scratch.iterdir()} == {
        "min-0.pt", "max-1.pt", "min-1.pt", "max-2.pt", "min-2.pt",
    }  # fmt: skip
    slices = 3 * len(data.retain) + 2 * len(data.forget)
    assert data.cost == Cost(slices, slices, 3 * 4 + 2)
    # AdamW would step by max_lr in every weight, and that near a zero gradient.
    start, end = (
        torch.load(data.scratch / f"{phase}.pt", weights_only=True)["model"]
        for phase in ("min-0", "max-1")
    )
    walk = sum((end[n] - start[n]).square().sum().item() for n in start) ** 0.5
    assert 0.3 * 0.01 * 0.5 < walk <= 0.01 * 0.5 * (1 + 1e-4)
    # Killed in the last phase: what is there is taken up.
    (data.scratch / "min-2.pt").unlink()
    again = data._replace(cost=Cost())
    assert same(first, scrub.unlearn(model, again, params))
    assert again.cost == data.cost
    assert loss_of(first, data.retain) < loss_of(model, data.retain)


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


def output_norms(
    model: VarNet, case: UnlearnCase, *, power: int
) -> tuple[Importance, Importance]:
    def measure(dataset: SliceDataset, desc: str) -> Importance:
        cost = Cost()
        return output_norm_importance(model, dataset, power=power, cost=cost, desc=desc)

    return of_both(case, measure)


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
