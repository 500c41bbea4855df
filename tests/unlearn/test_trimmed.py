"""Trimming a batch's highest losses: what is left out, and when."""

from collections.abc import Callable

import pytest
import torch

from stages.common.losses import recon_loss
from stages.common.reconstruct import reconstruct
from stages.common.slices import collate
from stages.common.training import mean_recon_loss
from stages.unlearn import retrain, trimmed
from tests.unlearn.killed import aside, assert_resumes
from tests.unlearn.toy_case import LOSS, TRAIN, open_case, params_of, same, write_case


@pytest.fixture
def case(tiny_cohort, tmp_path):  # noqa: ARG001
    write_case()
    return open_case(tmp_path / "scratch")


def test_untrimmed_it_is_retrain(case, tmp_path):
    model, data = case
    exact = retrain.unlearn(model, data, retrain.Params())
    for name, share, after in (("none", 0.0, 0.0), ("late", 0.5, 1.0)):
        params = trimmed.Params(share=share, after=after)
        assert same(exact, trimmed.unlearn(model, aside(data, tmp_path / name), params))
    params = trimmed.Params(share=0.5, after=0.0)
    assert not same(exact, trimmed.unlearn(model, aside(data, tmp_path / "x"), params))


def test_planted_outliers_have_no_influence(case):
    model, data = case
    batch = collate(list(data.retain)[:5])

    def gradient(planted: Callable[[torch.Tensor], torch.Tensor], share: float):
        target = batch.target.clone()
        target[[1, 3]] = planted(target[[1, 3]])
        bad = batch._replace(target=target)
        model.zero_grad()
        losses = recon_loss(reconstruct(model, bad), bad.target, bad.max_value, LOSS)
        trimmed.trimmed_mean(losses, bad, share).backward()
        return [weight.grad.clone() for weight in model.parameters()]

    def differ(share: float) -> bool:
        pairs = zip(
            gradient(lambda x: 50 - x, share),
            gradient(lambda x: 90 + x.flip(-1), share),
            strict=True,
        )
        return any(not torch.equal(first, second) for first, second in pairs)

    assert not differ(0.4)
    assert differ(0.2)  # planted: one of the two stays
    # What is left is the plain mean of the others.
    kept = collate([list(data.retain)[number] for number in (0, 2, 4)])
    model.zero_grad()
    found = gradient(lambda x: 50 - x, 0.4)
    model.zero_grad()
    mean_recon_loss(LOSS)(model, kept).backward()
    for weight, value in zip(model.parameters(), found, strict=True):
        torch.testing.assert_close(value, weight.grad, rtol=1e-3, atol=1e-5)


def test_a_batch_that_is_too_small_to_trim_is_refused(case):
    model, data = case
    single = data._replace(train=TRAIN.model_copy(update={"batch_size": 1}))
    with pytest.raises(ValueError, match=r"share = 0.25 .* of 1: .*batch_size to 4"):
        trimmed.unlearn(model, single, trimmed.Params(share=0.25, after=0.0))
    assert trimmed.left_out(100, 0.29) == 29


def test_a_killed_run_goes_on_where_it_was(case):
    """It is trimmed from its second epoch on, whatever it has been through."""
    assert_resumes(trimmed, *case, params_of(trimmed))
