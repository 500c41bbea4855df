"""SSD by its formulas: importance sample by sample, dampening weight by weight."""

import math

import pytest
import torch
from torch import Tensor, nn

from stages.common.fit import Cost
from stages.common.slices import ReconBatch, collate
from stages.common.training import mean_recon_loss
from stages.unlearn.importance import importance, pooled
from stages.unlearn.ssd import dampen
from tests.unlearn.toy_case import LOSS, open_case, write_case


class Linear(nn.Module):
    """One weight a column: a model whose gradients are known in closed form."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, width))
        self.unused = nn.Parameter(torch.ones(1))


def columns(batch: ReconBatch) -> Tensor:
    """(N, W): the energy of each column, 0 where it was not sampled."""
    return batch.masked_kspace.abs().square().sum((1, 2))


def square_loss(model: Linear, batch: ReconBatch) -> Tensor:
    """mean_i (w . a_i)^2, whose gradient for one sample is 2 (w . a_i) a_i."""
    return (columns(batch) @ model.weight).square().mean() + 0 * model.unused.sum()


@pytest.fixture
def case(tiny_cohort, tmp_path):  # noqa: ARG001
    write_case()
    return open_case(tmp_path / "scratch")


def test_importance_is_the_mean_square_of_each_samples_gradient(case):
    _, data = case
    model = Linear(32)
    cost = Cost()
    found = importance(model, data.retain, square_loss, cost=cost, desc="")
    rows = torch.cat([columns(collate([sample])) for sample in data.retain]).double()
    weight = model.weight.detach().double()
    gradients = 2 * (rows @ weight)[:, None] * rows
    exact = gradients.square().mean(0)
    assert torch.allclose(found["weight"].double(), exact, rtol=1e-4)
    averaged = gradients.mean(0).square()
    assert not torch.allclose(found["weight"].double(), averaged, rtol=0.05)
    assert not found["unused"].any()
    assert cost.slices_forward_backward == len(data.retain)
    assert cost.gradient_steps == 0


def plain_importance(model, dataset, *, together: int) -> dict[str, Tensor]:
    """The loop written out; `together` > 1 is the mistake of squaring a mean."""
    squares = {name: torch.zeros_like(p) for name, p in model.named_parameters()}
    loss = mean_recon_loss(LOSS)
    starts = range(0, len(dataset), together)
    for start in starts:
        samples = [
            dataset[i] for i in range(start, min(start + together, len(dataset)))
        ]
        model.zero_grad()
        loss(model, collate(samples)).backward()
        for name, parameter in model.named_parameters():
            squares[name] += parameter.grad.square() / len(starts)
    return squares


def close(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return all(torch.allclose(a[name], b[name], rtol=1e-3) for name in b)


def test_importance_of_a_varnet_is_the_plain_loop(case):
    model, data = case
    loss = mean_recon_loss(LOSS)
    found = importance(model, data.retain, loss, cost=Cost(), desc="")
    assert close(found, plain_importance(model, data.retain, together=1))
    # Planted: what averages over a batch before it squares is another number.
    assert not close(found, plain_importance(model, data.retain, together=4))


def test_parts_pool_to_the_whole(case):
    model, data = case
    loss = mean_recon_loss(LOSS)
    parts = [
        (len(part), importance(model, part, loss, cost=Cost(), desc=""))
        for part in (data.forget, data.retain)
    ]
    whole = data.forget.restrict(data.forget.refs + data.retain.refs)
    assert close(pooled(parts), importance(model, whole, loss, cost=Cost(), desc=""))


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
