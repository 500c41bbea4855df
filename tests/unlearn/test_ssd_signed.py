"""What signed dampening scales down, how far, and what it never looks at."""

import copy

import pytest
import torch

from stages.common.reconstruct import reconstruct
from stages.common.sampled_lines import lines_error
from stages.common.slices import collate
from stages.unlearn import ssd_signed
from stages.unlearn.mend import held_out
from stages.unlearn.slice_values import loss_value
from tests.unlearn.test_mend import spoil_targets
from tests.unlearn.toy_case import KNOWN, open_case, params_of, same, write_case

pytestmark = pytest.mark.usefixtures("tiny_cohort")


def objective(case, **changes):
    params = params_of(ssd_signed, **changes)
    trusted, doubtful = list(case.retain.refs), list(case.forget.refs)
    return ssd_signed.Objective(case, params, trusted, doubtful)


def unlearned(tmp_path, name, **changes):
    model, case = open_case(tmp_path / name)
    return ssd_signed.unlearn(model, case, params_of(ssd_signed, **changes))


def test_what_should_grow_stays_and_what_should_shrink_never_turns():
    model = torch.nn.Linear(6, 1, bias=False)
    weight = torch.tensor([[2.0, 2.0, -2.0, 0.5, 0.0, 2.0]])
    model.weight.data = weight.clone()
    gradient = {"weight": torch.tensor([[0.2, -0.2, 0.2, 0.4, 0.3, 0.3]]).double()}
    kept = {"weight": torch.tensor([[0.01, 0.01, 0.01, 0.01, 0.01, 0.0]])}
    ssd_signed.dampen(model, gradient, kept, kappa=0.25)
    # 0.25 * 0.2 / 0.1 = 0.5 nearer to zero; 0.25 * 0.4 / 0.1 = 1 would turn 0.5.
    expected = torch.tensor([[1.5, 2.0, -2.0, 0.0, 0.0, 2.0]])
    torch.testing.assert_close(model.weight.data, expected)


def test_the_gradient_is_that_of_the_whole_objective(tmp_path):
    write_case()
    model, case = open_case(tmp_path)
    found = objective(case, weight=0.7).gradient(copy.deepcopy(model))
    params = params_of(ssd_signed)
    retain, forget = (
        collate([part[index] for index in range(len(part))])
        for part in (case.retain, case.forget)
    )
    model.train()
    loss = loss_value(case.loss)(reconstruct(model, retain), retain).mean()
    held = held_out(forget, share=params.held_out, seed=(case.seed,))
    lines = lines_error(model, forget, held, centre=params.centre).mean()
    (loss + 0.7 * lines).backward()
    for name, weight in model.named_parameters():
        largest = float(weight.grad.abs().max())
        torch.testing.assert_close(
            found[name].float(), weight.grad, rtol=1e-3, atol=1e-3 * largest
        )


def test_the_objective_goes_down_and_every_factor_is_in_the_unit_interval(tmp_path):
    write_case()
    model, case = open_case(tmp_path / "look")
    corrected = unlearned(tmp_path, "run", sift=False)
    judge = objective(case)
    assert judge.value(copy.deepcopy(corrected)) < judge.value(copy.deepcopy(model))
    before = dict(model.named_parameters())
    for name, weight in corrected.named_parameters():
        assert (weight * before[name] >= 0).all()
        assert (weight.abs() <= before[name].abs()).all()


@pytest.mark.parametrize(("values", "kappas"), [([1, 2], 0), ([3, 2, 1, 1], 2)])
def test_the_search_stops_where_the_objective_does_not_fall(
    tmp_path, monkeypatch, values, kappas
):
    write_case()
    model, _ = open_case(tmp_path / "look")
    answers, seen = iter(values), []
    monkeypatch.setattr(ssd_signed.Objective, "value", lambda *_: next(answers))
    scale = ssd_signed.dampen

    def dampen(*args, kappa):
        seen.append(kappa)
        scale(*args, kappa=kappa)

    monkeypatch.setattr(ssd_signed, "dampen", dampen)
    corrected = unlearned(tmp_path, "run", first=0.001)
    assert seen == [0.001 * 2**number for number in range(kappas + 1)]
    assert same(model, corrected) == (kappas == 0)


def test_targets_of_known_poison_say_nothing(tmp_path):
    write_case()
    before = unlearned(tmp_path, "before", sift=False)
    spoil_targets(KNOWN)
    assert same(before, unlearned(tmp_path, "after", sift=False))


def test_where_all_is_doubtful_nothing_is_known(tmp_path, monkeypatch):
    write_case()
    monkeypatch.setattr(ssd_signed, "suspects", lambda values, _: list(values))
    with pytest.raises(ValueError, match="every slice of the retain set contradicts"):
        unlearned(tmp_path, "all")


@pytest.mark.parametrize(
    ("most", "found"), [(2, [0, 2]), (5, [0, 1, 2, 3, 4]), (9, [0, 1, 2, 3, 4])]
)
def test_judged_slices_are_spread(most, found):
    assert ssd_signed.spread(range(5), most) == found
