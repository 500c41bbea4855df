"""Bounded ascents stop where they should."""

import copy
import math

import numpy as np
import pytest
import torch

from stages.common.fit import Cost
from stages.common.losses import recon_loss
from stages.common.manifest import SliceRef
from stages.common.reconstruct import reconstruct
from stages.common.slices import collate
from stages.common.varnet import VarNet, build_varnet
from stages.unlearn import (
    grad_tau,
    neggrad_plus,
    npo,
    scrub,
)
from stages.unlearn.base import UnlearnCase
from tests.unlearn.toy_case import (
    LOSS,
    MODEL,
    TRAIN,
    loss_of,
    losses_of,
    params_of,
    same,
)

STRONG = {"lr": 0.005, "epochs": 4.0, "weight_decay": 0.0}


def apart(case: UnlearnCase, tmp_path, name: str) -> UnlearnCase:
    """The same case with a scratch and a cost of its own."""
    folder = tmp_path / name
    folder.mkdir(exist_ok=True)
    return case._replace(scratch=folder, cost=Cost())


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


def test_tau_is_the_mean_loss_of_retain_slices_that_are_like_the_known(case):
    model, data = case
    flair = [ref for ref in data.retain.refs if ref.volume_id.endswith("FLAIR")]
    assert 0 < len(flair) < len(data.retain)
    expected = losses_of(model, data.retain.restrict(flair))
    whole = grad_tau.target_loss(copy.deepcopy(model), data, slices=1000)
    assert whole == pytest.approx(np.mean(list(expected.values())), rel=1e-6)
    assert data.cost.slices_forward == len(flair)
    parts = [
        grad_tau.target_loss(copy.deepcopy(model), data._replace(seed=seed), slices=1)
        for seed in range(3)
    ]
    for part in parts:
        assert min(abs(part - value) for value in expected.values()) < 1e-6
    assert len(set(parts)) > 1  # drawn, and not always the first
    assert data.cost.slices_forward == len(flair) + 3


def test_tau_takes_all_where_nothing_is_like_the_known(case):
    _, data = case
    others = [ref for ref in data.retain.refs if ref.volume_id.endswith("T1w")]
    assert others
    assert grad_tau.like(data.forget.refs, others) == others


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
    monkeypatch.setattr(
        grad_tau, "train_on_retain_pairs", lambda *args, **_: given.append(args[2])
    )
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
