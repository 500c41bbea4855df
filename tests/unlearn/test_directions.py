"""Each gradient method goes where its formula points."""

import copy

import pytest
import torch
from torch import Tensor

from stages.common.fit import Cost
from stages.common.reconstruct import reconstruct
from stages.common.slices import SliceDataset, make_loader
from stages.common.training import train_reconstruction, validation_row
from stages.common.varnet import VarNet
from stages.unlearn import bad_teacher, finetune, gradient_ascent, retrain
from tests.unlearn.toy_case import LOSS, TRAIN, open_case, params_of, same, write_case

STRONG = {"lr": 0.003, "epochs": 4.0}


@pytest.fixture
def case(tiny_cohort, tmp_path):  # noqa: ARG001
    """A model that has learnt a little of everything, and its case."""
    write_case()
    model, data = open_case(tmp_path / "scratch")
    whole = data.forget.restrict(data.forget.refs + data.retain.refs)
    train_reconstruction(
        model, whole, TRAIN, LOSS, steps=25, batch_size=4, seed=1, cost=Cost(), desc=""
    )
    return model, data


def loss_of(model: VarNet, dataset: SliceDataset) -> float:
    loader = make_loader(dataset, batch_size=4)
    return validation_row(copy.deepcopy(model), loader, LOSS)["val_loss"]


@torch.no_grad()
def images(model: VarNet, dataset: SliceDataset) -> Tensor:
    batch = next(iter(make_loader(dataset, batch_size=len(dataset))))
    return reconstruct(model, batch)


def test_gradient_ascent_raises_the_forget_loss(case):
    model, data = case
    params = params_of(gradient_ascent, lr=0.02, epochs=6.0)
    student = gradient_ascent.unlearn(model, data, params)
    assert loss_of(student, data.forget) > loss_of(model, data.forget)
    assert data.cost.gradient_steps == 6
    assert data.cost.slices_forward_backward == 6 * len(data.forget)


def test_gradient_ascent_is_no_longer_than_its_clipped_steps(case):
    model, data = case
    params = params_of(gradient_ascent, lr=0.02, epochs=6.0, clip_norm=0.01)
    student = gradient_ascent.unlearn(model, data, params)
    pairs = zip(student.parameters(), model.parameters(), strict=True)
    walk = sum((a - b).square().sum().item() for a, b in pairs) ** 0.5
    assert 0 < walk <= 6 * 0.02 * 0.01 * (1 + 1e-4)


def test_finetune_lowers_the_retain_loss(case):
    model, data = case
    student = finetune.unlearn(model, data, params_of(finetune, **STRONG))
    assert loss_of(student, data.retain) < loss_of(model, data.retain)
    # As many steps as the control `continue`: epochs count the whole training set.
    assert data.cost.gradient_steps == 4 * 5


def test_retrain_forgets_where_it_started(case):
    model, data = case
    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(2)
    first = retrain.unlearn(model, data, retrain.Params())
    (data.scratch / "retrain.pt").unlink()
    assert same(first, retrain.unlearn(other, data, retrain.Params()))


def test_the_bad_teacher_is_overfit_and_its_surplus_is_subtracted(case, tmp_path):
    model, data = case
    params = params_of(
        bad_teacher, **STRONG, teacher_lr=0.003, teacher_epochs=20.0, gamma=1.0
    )
    aside = data._replace(scratch=tmp_path / "teacher", cost=Cost())
    teacher = bad_teacher.overfit(model, aside, params)
    assert loss_of(teacher, data.forget) < loss_of(model, data.forget)
    student = bad_teacher.unlearn(model, data, params)
    before = images(model, data.forget)
    surplus = images(teacher, data.forget) - before
    moved = images(student, data.forget) - before
    cosine = (moved * surplus).sum() / (moved.norm() * surplus.norm())
    assert cosine < -0.1
    assert loss_of(student, data.forget) > loss_of(model, data.forget)
    # Planted: a student that adds the surplus instead has the other sign.
    aside = data._replace(scratch=tmp_path / "planted", cost=Cost())
    wrong = params.model_copy(update={"gamma": -1.0})
    followed = images(bad_teacher.unlearn(model, aside, wrong), data.forget) - before
    assert (followed * surplus).sum() > 0


def test_the_bad_teachers_work_is_counted(case):
    model, data = case
    params = params_of(bad_teacher, epochs=3.0, teacher_epochs=2.0)
    bad_teacher.unlearn(model, data, params)
    assert data.cost.gradient_steps == 5
    forget, retain = len(data.forget), TRAIN.batch_size
    assert data.cost.slices_forward_backward == 2 * forget + 3 * (forget + retain)
    assert data.cost.slices_forward == 3 * (2 * forget + retain)
