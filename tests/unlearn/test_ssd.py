"""SSD by its formula: dampening weight by weight."""

import math

import pytest
import torch
from torch import nn

from stages.common.training import mean_recon_loss
from stages.unlearn.ssd import Params, dampen, unlearn
from tests.unlearn.plain_loop import plain_loop
from tests.unlearn.toy_case import LOSS, open_case, write_case


class Linear(nn.Module):
    """Weights to dampen, and one that no sample has used."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, width))
        self.unused = nn.Parameter(torch.ones(1))


@pytest.mark.usefixtures("tiny_cohort")
def test_the_importances_are_those_of_single_samples(tmp_path):
    """F_f over the forget set, F_D over everything, whatever training's batch size."""
    write_case()
    model, case = open_case(tmp_path / "scratch")
    loss = mean_recon_loss(LOSS)
    forget = list(case.forget)
    f, d = (plain_loop(model, part, loss) for part in (forget, [*forget, *case.retain]))
    # Between all and none selected, and not all of those dampened.
    params = Params(alpha=1.1, lam=1.2)
    student = unlearn(model, case, params)
    ratios, factors = [], []
    for name, weight in model.named_parameters():
        ratio = f[name] / d[name].clamp_min(1e-30)
        dampened = (params.lam / ratio).clamp(max=1)
        factor = torch.where(ratio > params.alpha, dampened, torch.ones(()))
        # At the threshold rounding decides.
        clear = (ratio - params.alpha).abs() > 1e-3
        after = student.get_parameter(name)
        torch.testing.assert_close(
            after[clear], (weight * factor)[clear], rtol=1e-3, atol=1e-6
        )
        ratios.append(ratio.flatten())
        factors.append(factor.flatten())
    chosen, scaled = torch.cat(ratios) > params.alpha, torch.cat(factors) < 1
    assert 0.05 < scaled.float().mean() < chosen.float().mean() < 0.95
    assert case.cost.slices_forward_backward == case.total


@pytest.mark.parametrize(("alpha", "lam"), [(0.1, 0.1), (1.0, 1.0), (2.0, 0.5)])
def test_dampening_by_hand(alpha, lam):
    forget = [0.0, 0.0, 1.0, 1.0, 4.0, 1e-38, 3.0]
    everything = [0.0, 2.0, 0.0, 2.0, 1.0, 1e-38, 1.0]
    model = Linear(len(forget))
    before = model.weight.detach().clone()
    dampen(
        model,
        {"weight": torch.tensor(forget), "unused": torch.zeros(1)},
        {"weight": torch.tensor(everything), "unused": torch.zeros(1)},
        alpha=alpha,
        lam=lam,
    )
    for index, (f, d) in enumerate(zip(forget, everything, strict=True)):
        factor = min(lam * d / f, 1.0) if f > alpha * d else 1.0
        expected = before[index].item() * factor
        assert math.isclose(model.weight[index].item(), expected, rel_tol=1e-4), index
    assert model.unused.item() == 1.0


def test_dampening_never_grows_a_weight_nor_turns_its_sign():
    generator = torch.Generator().manual_seed(0)
    model = Linear(1000)
    before = model.weight.detach().clone()
    scale = torch.rand(2, 1000, generator=generator).pow(8)
    parts = [{"weight": row, "unused": torch.zeros(1)} for row in scale]
    dampen(model, *parts, alpha=0.5, lam=2.0)
    after = model.weight.detach()
    assert (after.abs() <= before.abs()).all()
    assert (after * before >= 0).all()
    assert not torch.equal(after, before)
