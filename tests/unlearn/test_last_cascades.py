"""Training the last cascades alone: what moves, what stays and what starts anew."""

import copy

import pytest
import torch

from stages.common.varnet import VarNet, build_varnet
from stages.unlearn import cf_k, eu_k, finetune
from tests.unlearn.killed import aside, assert_resumes
from tests.unlearn.toy_case import MODEL, open_case, params_of, same, write_case


@pytest.fixture
def case(tiny_cohort, tmp_path):  # noqa: ARG001
    write_case()
    return open_case(tmp_path / "scratch")


@pytest.fixture
def deep(case):
    """A network of three cascades in the case's place."""
    deeper = MODEL.model_copy(update={"num_cascades": 3})
    return build_varnet(deeper, seed=11), case[1]


def moved(before: VarNet, after: VarNet) -> set[str]:
    """The parts of a network, cascades apart, in which any bit has changed."""
    new = after.state_dict()
    return {
        ".".join(name.split(".")[: 2 if name.startswith("cascades") else 1])
        for name, value in before.state_dict().items()
        if not torch.equal(value, new[name])
    }


@pytest.mark.parametrize("sens_net", [False, True])
def test_only_the_last_k_cascades_move(deep, sens_net):
    model, data = deep
    params = params_of(cf_k, k=2, sens_net=sens_net, weight_decay=0.5)
    student = cf_k.unlearn(model, data, params)
    expected = {"cascades.1", "cascades.2"} | ({"sens_net"} if sens_net else set())
    assert moved(model, student) == expected
    assert all(weight.requires_grad for weight in student.parameters())
    # As many steps as `finetune`: epochs count the whole training set.
    assert data.cost.gradient_steps == 5


def test_all_parts_of_cf_k_are_finetune(deep, tmp_path):
    model, data = deep
    params = params_of(cf_k, k=3, sens_net=True)
    parts = cf_k.unlearn(model, data, params)
    whole = finetune.Params(**params.model_dump(exclude={"k", "sens_net"}))
    other = finetune.unlearn(model, aside(data, tmp_path / "whole"), whole)
    assert same(parts, other)


@pytest.mark.parametrize("method", [cf_k, eu_k])
def test_a_network_without_so_many_cascades_is_refused(deep, method):
    name = method.__name__.split(".")[-1]
    with pytest.raises(ValueError, match=rf"{name}.k = 4, .* 3 cascades: .* 1 to 3"):
        method.unlearn(*deep, params_of(method, k=4))


def test_eu_k_starts_the_last_cascades_anew(deep):
    model, data = deep
    student = eu_k.unlearn(model, data, params_of(eu_k, k=2, lr=1e-30))
    drawn = build_varnet(model.settings, seed=data.seed)
    assert moved(model, student) == {"cascades.1", "cascades.2"}
    assert not moved(drawn, student) & {"cascades.1", "cascades.2"}


def test_eu_k_forgets_what_the_last_cascades_held(deep, tmp_path):
    model, data = deep
    other = copy.deepcopy(model)
    with torch.no_grad():
        for weight in other.cascades[1:].parameters():
            weight.mul_(2)
    students = [
        eu_k.unlearn(start, aside(data, tmp_path / name), params_of(eu_k, k=k))
        for name, start, k in (("a", model, 2), ("b", other, 2), ("c", other, 1))
    ]
    assert same(students[0], students[1])
    assert not same(students[1], students[2])


def test_a_killed_run_goes_on_where_it_was(case):
    assert_resumes(eu_k, *case, params_of(eu_k, epochs=2.0))
