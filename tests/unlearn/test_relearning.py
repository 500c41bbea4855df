"""Published methods that fine-tune or subtract: where each goes, and what it moves."""

import copy

import pytest
import torch

from stages.common.fit import Cost
from stages.common.slices import collate
from stages.common.training import (
    mean_recon_loss,
    train_reconstruction,
    validation_row,
)
from stages.unlearn import (
    bad_teacher,
    finetune_full,
    noisy_label,
    salun,
    task_negation,
)
from stages.unlearn.noisy_targets import relabelled
from tests.unlearn.killed import aside, assert_resumes
from tests.unlearn.toy_case import LOSS, TRAIN, open_case, params_of, same, write_case


@pytest.fixture
def case(tiny_cohort, tmp_path):  # noqa: ARG001
    write_case()
    return open_case(tmp_path / "scratch")


def test_finetune_full_is_as_long_as_training(case):
    model, data = case
    params = params_of(finetune_full, epochs=None, lr=0.003)
    student = finetune_full.unlearn(model, data, params)
    assert data.cost.gradient_steps == TRAIN.epochs * 4  # 15 slices, 4 at a time
    before, after = (
        validation_row(
            copy.deepcopy(one), [collate(list(data.retain))], LOSS
        )["val_loss"]
        for one in (model, student)
    )  # fmt: skip
    assert after < before


def test_task_negation_is_a_line_away_from_the_teacher(case, tmp_path):
    model, data = case
    blind = data._replace(retain=None)  # whose use would be an error
    params = params_of(task_negation, lr=0.003, epochs=4.0)
    told = task_negation.teacher_params(params)
    teacher = bad_teacher.overfit(model, aside(data, tmp_path / "teacher"), told)
    students = {
        scale: task_negation.unlearn(
            model,
            aside(blind, tmp_path / str(scale)),
            params.model_copy(update={"scale": scale}),
        )
        for scale in (0.0, 0.5, 1.0)
    }
    assert same(students[0.0], model)
    assert not same(teacher, model)
    for scale, student in students.items():
        for name, theta in model.named_parameters():
            line = theta.double() - scale * (
                teacher.get_parameter(name).double() - theta.double()
            )
            found = student.get_parameter(name).double()
            torch.testing.assert_close(found, line, rtol=1e-6, atol=1e-8)


def test_noise_is_a_slices_own_and_in_units_of_its_maximum(case):
    _, data = case
    batch = collate([*data.forget, *list(data.retain)[:2]])
    known = data.forget.refs[:2]
    noisy = relabelled(batch, known, noise=0.1, seed=5)
    assert torch.equal(noisy.target[2:], batch.target[2:])
    bright = batch.target[:2] > 0.5 * batch.max_value[:2, None, None]
    added = (noisy.target - batch.target)[:2] / batch.max_value[:2, None, None]
    assert added[bright].std().item() == pytest.approx(0.1, rel=0.1)
    assert (noisy.target >= 0).all()
    # Whatever batch it comes in; another seed draws another noise.
    alone = relabelled(collate([data.forget[1]]), known, noise=0.1, seed=5)
    assert torch.equal(alone.target[0], noisy.target[1])
    other = relabelled(batch, known, noise=0.1, seed=6)
    assert not torch.equal(other.target[0], noisy.target[0])
    assert not torch.equal(added[0], added[1])


def test_without_noise_a_noisy_label_is_the_label(case):
    model, data = case
    params = params_of(noisy_label, noise=0.0)
    student = noisy_label.unlearn(model, data, params)
    plain = copy.deepcopy(model)
    train_reconstruction(
        plain,
        data.forget.restrict([*data.forget.refs, *data.retain.refs]),
        params,
        LOSS,
        steps=5,
        batch_size=TRAIN.batch_size,
        seed=data.seed,
        cost=Cost(),
        desc="",
    )
    assert same(student, plain)
    assert data.cost.slices_forward_backward == data.total


def test_salun_moves_the_salient_weights_alone_bit_for_bit(case, tmp_path):
    model, data = case
    params = params_of(salun, share=0.2, weight_decay=0.5, noise=0.3)
    student = salun.unlearn(model, data, params)
    measured = salun.forget_gradient(model, aside(data, tmp_path / "mask"))
    masks = salun.salient(measured, 0.2)
    changed = {
        name: student.get_parameter(name) != weight
        for name, weight in model.named_parameters()
    }
    assert not any((changed[name] & ~mask).any() for name, mask in masks.items())
    total, chosen, went = (
        sum(int(part.sum()) for part in parts)
        for parts in (
            [torch.ones_like(mask) for mask in masks.values()],
            masks.values(),
            changed.values(),
        )
    )
    assert chosen == round(0.2 * total)
    assert went > 0.9 * chosen
    assert data.cost.slices_forward_backward == len(data.forget) + data.total
    # Planted: without the mask nearly everything moves.
    plain = noisy_label.Params(**params.model_dump(exclude={"share"}))
    free = noisy_label.unlearn(model, aside(data, tmp_path / "free"), plain)
    elsewhere = sum(
        int(((free.get_parameter(name) != weight) & ~masks[name]).sum())
        for name, weight in model.named_parameters()
    )
    assert elsewhere > 0.9 * (total - chosen)


def test_salun_clips_the_gradient_of_what_moves(case, tmp_path, monkeypatch):
    """What may not move is no part of the norm that is clipped."""
    model, data = case
    norms: dict[float, list[float]] = {}
    clip = torch.nn.utils.clip_grad_norm_
    for share in (0.01, 1.0):
        seen = norms.setdefault(share, [])
        monkeypatch.setattr(
            torch.nn.utils,
            "clip_grad_norm_",
            lambda *given, seen=seen: seen.append(found := clip(*given)) or found,
        )
        params = params_of(salun, share=share)
        salun.unlearn(model, aside(data, tmp_path / str(share)), params)
    assert norms[0.01][0] < 0.9 * norms[1.0][0]


def test_saliency_is_the_summed_gradient_with_its_signs(case):
    model, data = case
    found = salun.forget_gradient(model, data)
    whole = collate(list(data.forget))
    loss = mean_recon_loss(LOSS)(model, whole) * len(data.forget)
    loss.backward()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(
            found[name].float(), weight.grad, rtol=1e-3, atol=1e-4
        )
    given = {"a": torch.tensor([-5.0, 1.0]), "b": torch.tensor([[2.0], [-3.0]])}
    masks = salun.salient(given, 0.5)
    assert masks["a"].tolist() == [True, False]
    assert masks["b"].tolist() == [[False], [True]]


@pytest.mark.parametrize("method", [task_negation, salun])
def test_a_killed_run_goes_on_where_it_was(case, method):
    assert_resumes(method, *case, params_of(method, epochs=2.0))
