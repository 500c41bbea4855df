"""The importance pass against the plain loop: one backward pass per sample."""

import copy
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import fastmri.models
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from stages.common import planes
from stages.common.fit import Cost
from stages.common.manifest import SliceRef
from stages.common.samples import ReconSample
from stages.common.slices import ReconBatch, collate
from stages.common.training import train_reconstruction
from stages.common.varnet import VarNet, build_varnet
from stages.unlearn.importance import ENOUGH_SLICES, faithful, importance, pooled
from tests.double import in_double
from tests.unlearn.importance_ranks import measure
from tests.unlearn.noise import (
    LOSS_OF_BATCH,
    SAMPLES,
    SETTINGS,
    Given,
    empty,
    found_in,
    in_bfloat16,
    jittered,
    make_sample,
    require_close,
)
from tests.unlearn.plain_loop import plain_loop
from tests.unlearn.toy_case import LOSS, TRAIN, open_case, write_case

ROOT = Path(__file__).resolve().parents[2]


class FastMRI(fastmri.models.VarNet):
    """fastMRI's VarNet, called like ours."""

    def forward(self, kspace: Tensor, mask: Tensor, num_low: int) -> Tensor:
        kspace = torch.view_as_real(kspace)
        return super().forward(kspace, mask[:, None, None, :, None], num_low)


@pytest.fixture(params=[planes.WIDEST, 0], ids=["our kernels", "onednn"])
def model(request, one_thread, monkeypatch) -> VarNet:  # noqa: ARG001
    """A network that is small enough for our kernels, or taken for a wide one."""
    monkeypatch.setattr(planes, "WIDEST", request.param)
    return build_varnet(SETTINGS, seed=0)


@pytest.mark.parametrize("size", [1, 3, len(SAMPLES)])
def test_it_is_the_plain_loop_at_any_batch_size(model, size):
    found = found_in(model, SAMPLES, LOSS_OF_BATCH, size)
    require_close(found, plain_loop(model, SAMPLES, LOSS_OF_BATCH), allowed=1e-4)


@pytest.mark.parametrize("size", [1, 3, len(SAMPLES)])
def test_without_rounding_it_is_the_plain_loop_exactly(model, size):
    loss = in_double(LOSS_OF_BATCH)
    found = found_in(model.double(), SAMPLES, loss, size)
    require_close(found, plain_loop(model, SAMPLES, loss), allowed=1e-9)


def test_it_is_the_plain_loop_over_the_reference(model):
    """fastMRI divides by the signal of each coil: samples that have some."""
    samples = [sample for sample in SAMPLES if sample is not SAMPLES[3]]
    reference = FastMRI(**SETTINGS.model_dump(exclude={"precision"}))
    reference.load_state_dict(model.state_dict())
    loss = in_double(LOSS_OF_BATCH)
    found = found_in(model.double(), samples, loss, 4)
    expected = plain_loop(reference.double(), samples, loss)
    require_close(found, expected, allowed=1e-5)
    # Where a cascade starts from what was measured there is nothing to weigh.
    assert not expected["cascades.0.dc_weight"].any()


def test_a_slice_without_signal_does_no_harm(model):
    """Its own gradient is that of rounding errors, but a number."""
    rest = found_in(model, SAMPLES[:4], LOSS_OF_BATCH, 4)
    nothing = empty(make_sample(99))
    found = found_in(model, [nothing, *SAMPLES[:4]], LOSS_OF_BATCH, 5)
    for name, value in found.items():
        assert value.isfinite().all()
        assert (5 * value >= 4 * rest[name] * (1 - 1e-3)).all()


def test_in_bfloat16_too_the_batch_does_not_matter(model):
    half = in_bfloat16(model)
    pairs, one_batch = (
        found_in(half, SAMPLES[:4], LOSS_OF_BATCH, size) for size in (2, 4)
    )
    require_close(pairs, one_batch, allowed=1e-5)


def test_the_square_of_a_mean_is_something_else(model):
    averaged = plain_loop(model, SAMPLES[:1], LOSS_OF_BATCH)
    for name, parameter in model.named_parameters():
        loss = LOSS_OF_BATCH(model, collate(SAMPLES[:5]))
        averaged[name] = torch.autograd.grad(loss, parameter)[0].square()
    found = found_in(model, SAMPLES[:5], LOSS_OF_BATCH, 5)
    with pytest.raises(AssertionError, match="weight"):
        require_close(found, averaged, allowed=0.1)


def test_every_sample_is_visited_once_and_counted(model):
    seen: list[SliceRef] = []

    def watched(model: VarNet, batch: ReconBatch) -> Tensor:
        seen.extend(batch.refs)
        return LOSS_OF_BATCH(model, batch)

    cost = Cost()
    importance(model, Given(SAMPLES), watched, cost=cost, desc="", batch_size=2)
    assert sorted(seen) == sorted(sample.ref for sample in SAMPLES)
    assert cost == Cost(slices_forward_backward=len(SAMPLES))


def test_parts_pool_to_the_whole(model):
    parts = [SAMPLES[:2], SAMPLES[2:]]
    each = [(len(part), found_in(model, part, LOSS_OF_BATCH, 2)) for part in parts]
    expected = plain_loop(model, SAMPLES, LOSS_OF_BATCH)
    require_close(pooled(each), expected, allowed=1e-4)


def test_few_slices_are_measured_in_float32(model):
    half = in_bfloat16(model)
    few = faithful(half, slices=ENOUGH_SLICES - 1)
    found, expected = (
        found_in(one, SAMPLES[:2], LOSS_OF_BATCH, 2) for one in (few, model)
    )
    require_close(found, expected, allowed=0)
    assert few.get_parameter("cascades.0.dc_weight") is half.cascades[0].dc_weight
    assert half.settings.precision == "bf16"
    assert faithful(half, slices=ENOUGH_SLICES) is half


def test_it_leaves_the_model_as_it_was_and_repeats_to_the_bit(model):
    weights = copy.deepcopy(model.state_dict())
    model.sens_net.requires_grad_(False)
    first, second = (found_in(model, SAMPLES, LOSS_OF_BATCH, 3) for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(torch.equal(weights[name], p) for name, p in model.state_dict().items())
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (not name.startswith("sens_net"))
        assert first[name].any() == (name != "cascades.0.dc_weight")
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not any("forward" in vars(module) for module in model.modules())


def test_bad_input_is_refused(model):
    broken = SAMPLES[2]._replace(target=SAMPLES[2].target * torch.nan)
    with pytest.raises(ValueError, match=r"gradient that is not finite: look for dam"):
        found_in(model, [*SAMPLES, broken], LOSS_OF_BATCH, 3)
    with pytest.raises(ValueError, match=r"a data set without slices has no imp"):
        found_in(model, [], LOSS_OF_BATCH, 3)


@pytest.mark.usefixtures("tiny_cohort", "one_thread")
def test_two_ranks_find_what_one_process_finds(tmp_path):
    write_case()
    command = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m"]
    subprocess.run(
        [
            *(sys.executable, "-m", *command, "tests.unlearn.importance_ranks"),
            str(tmp_path),
        ],
        env=os.environ
        | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MENDMRI_DEVICE": "cpu"},
        check=True,
        timeout=300,
    )
    alone, cost = measure(tmp_path)
    for rank in range(2):
        found, spent = torch.load(tmp_path / f"{rank}.pt")
        assert spent == vars(cost)
        for mine, theirs in zip(alone, found, strict=True):
            require_close(theirs, mine, allowed=1e-6)


@pytest.mark.usefixtures("tiny_cohort")
def test_in_bfloat16_the_ranking_of_the_weights_stays(tmp_path):
    """Over as many slices as it is used for, and not over any number of them."""
    write_case()
    _, case = open_case(tmp_path / "scratch")
    model = build_varnet(SETTINGS, seed=0)
    train_reconstruction(
        model, case.retain, TRAIN, LOSS, steps=30, batch_size=4, seed=1, cost=Cost(),
        desc="",
    )  # fmt: skip
    samples = [*case.forget, *case.retain]

    def correlation(samples: Sequence[ReconSample]) -> float:
        flat = [
            torch.cat([
                values.flatten()
                for values in found_in(one, samples, LOSS_OF_BATCH, 8).values()
            ])
            for one in (model, in_bfloat16(model))
        ]  # fmt: skip
        return spearmanr(*flat).statistic

    assert (
        correlation(jittered(samples, ENOUGH_SLICES))
        >= 0.999
        > correlation(samples[:1])
    )
