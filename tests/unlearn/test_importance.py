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
from torch import Tensor, nn

from stages.common.fit import BatchLoss, Cost
from stages.common.manifest import SliceRef
from stages.common.samples import ReconSample
from stages.common.slices import ReconBatch, SliceDataset, collate
from stages.common.training import mean_recon_loss, train_reconstruction
from stages.common.varnet import ModelSettings, VarNet, build_varnet
from stages.unlearn.importance import (
    ENOUGH_SLICES,
    Importance,
    faithful,
    importance,
    pooled,
)
from tests.unlearn.importance_ranks import measure
from tests.unlearn.plain_loop import plain_loop
from tests.unlearn.toy_case import LOSS, SAMPLING, TRAIN, open_case, write_case

ROOT = Path(__file__).resolve().parents[2]
LOSS_OF_BATCH = mean_recon_loss(LOSS)
SETTINGS = ModelSettings(
    num_cascades=2, chans=4, pools=2, sens_chans=3, sens_pools=1, precision="fp32"
)


class Given(SliceDataset):
    """A data set of samples that are there already."""

    def __init__(self, samples: Sequence[ReconSample]) -> None:
        super().__init__(Path(), [sample.ref for sample in samples], SAMPLING)
        self.samples = dict(zip(self.refs, samples, strict=True))

    def __getitem__(self, index: int) -> ReconSample:
        return self.samples[self.refs[index]]

    def shapes(self) -> list[tuple[int, ...]]:
        samples = [self.samples[ref] for ref in self.refs]
        return [(*one.masked_kspace.shape, *one.target.shape) for one in samples]


def make_sample(
    number: int, *, shape: tuple[int, int, int] = (3, 32, 32), crop: int = 32
) -> ReconSample:
    """Noise under a mask: what matters here is arithmetic."""
    generator = torch.Generator().manual_seed(number)
    coils, _, width = shape
    mask = torch.rand(width, generator=generator) < 0.4
    mask[width // 2 - 3 : width // 2 + 3] = True
    kspace = torch.randn(shape, dtype=torch.complex64, generator=generator)
    scale = torch.linspace(3, 0.3, coils)[:, None, None]
    return ReconSample(
        masked_kspace=kspace * scale * mask,
        mask=mask,
        num_low_frequencies=4,
        target=torch.rand(crop, crop, generator=generator) * (number % 3 + 1),
        max_value=4.0,
        ref=SliceRef("noise", number),
    )


def empty(sample: ReconSample) -> ReconSample:
    """The same slice without any signal."""
    return sample._replace(
        masked_kspace=torch.zeros_like(sample.masked_kspace),
        target=torch.zeros_like(sample.target),
    )


def with_dead_coil(sample: ReconSample) -> ReconSample:
    kspace = sample.masked_kspace.clone()
    kspace[1] = 0
    return sample._replace(masked_kspace=kspace)


SAMPLES = [make_sample(number) for number in range(5)]
SAMPLES[3] = with_dead_coil(SAMPLES[3])
# Of odd size, so padded, with fewer coils and a smaller target.
SAMPLES += [make_sample(5 + n, shape=(2, 37, 29), crop=24) for n in range(3)]


def found_in(
    model: nn.Module, samples: Sequence[ReconSample], batch_loss: BatchLoss, size: int
) -> Importance:
    return importance(
        model, Given(samples), batch_loss, cost=Cost(), desc="", batch_size=size
    )


def require_close(found: Importance, expected: Importance, *, allowed: float) -> None:
    """Differences relative to each tensor's maximum; what is 0 must be 0."""
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        assert found[name].shape == value.shape
        assert found[name].dtype == value.dtype
        assert value.isfinite().all()
        difference = (found[name] - value).abs().max()
        assert difference <= allowed * value.max(), name


def in_double(batch_loss: BatchLoss) -> BatchLoss:
    def converted(model: VarNet, batch: ReconBatch) -> Tensor:
        batch = batch._replace(
            masked_kspace=batch.masked_kspace.to(torch.complex128),
            target=batch.target.double(),
            max_value=batch.max_value.double(),
        )
        return batch_loss(model, batch)

    return converted


class FastMRI(fastmri.models.VarNet):
    """fastMRI's VarNet, called like ours."""

    def forward(self, kspace: Tensor, mask: Tensor, num_low: int) -> Tensor:
        kspace = torch.view_as_real(kspace)
        return super().forward(kspace, mask[:, None, None, :, None], num_low)


def jittered(samples: Sequence[ReconSample], count: int) -> list[ReconSample]:
    """More samples, each with noise of its own."""
    generator = torch.Generator().manual_seed(0)
    made = []
    for number in range(count):
        sample = samples[number % len(samples)]
        noise = torch.randn(
            sample.masked_kspace.shape, dtype=torch.complex64, generator=generator
        )
        kspace = sample.masked_kspace + 0.02 * noise * sample.mask
        ref = SliceRef("jittered", number)
        made.append(sample._replace(masked_kspace=kspace, ref=ref))
    return made


def in_bfloat16(model: VarNet) -> VarNet:
    other = VarNet(model.settings.model_copy(update={"precision": "bf16"}))
    other.load_state_dict(model.state_dict())
    return other


@pytest.fixture
def model() -> VarNet:
    # With this seed a ReLU is on another side when convolutions run on a batch.
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


class Columns(nn.Module):
    """One weight per column: a model whose gradients are known in closed form."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = nn.Conv2d(width, 1, 1)

    def forward(self, batch: ReconBatch) -> Tensor:
        return self.layer(energies(batch)[..., None, None]).flatten()


def energies(batch: ReconBatch) -> Tensor:
    """(N, W): the energy of each column, 0 where it was not sampled."""
    return batch.masked_kspace.abs().square().mean((1, 2))


def square_loss(model: Columns, batch: ReconBatch) -> Tensor:
    """(w . a_i + b)^2, whose gradient for one sample is 2 (w . a_i + b) (a_i, 1)."""
    return batch.mean(model(batch).square())


def test_gradients_by_hand():
    model = Columns(32)
    found = found_in(model, SAMPLES[:5], square_loss, 2)
    rows = energies(collate(SAMPLES[:5]))
    outer = 2 * model(collate(SAMPLES[:5])).detach()
    expected = (outer[:, None] * rows).square().mean(0)
    torch.testing.assert_close(found["layer.weight"].flatten(), expected)
    torch.testing.assert_close(found["layer.bias"], outer.square().mean(0)[None])


def layers(*modules: nn.Module) -> tuple[nn.Module, BatchLoss]:
    """A network of any layers on the k-space's parts, and a loss without meaning."""
    model = nn.Sequential(*modules)

    def batch_loss(_: nn.Module, batch: ReconBatch) -> Tensor:
        images = torch.view_as_real(batch.masked_kspace[:, 0]).permute(0, 3, 1, 2)
        return batch.mean(_(images).square().mean((1, 2, 3)))

    return model, batch_loss


def test_any_convolution_will_do():
    model, loss = layers(
        nn.Conv2d(2, 4, 3, stride=2, padding=(1, 0), bias=True),
        nn.Tanh(),
        nn.Conv2d(4, 4, 3, dilation=2, groups=2),
        nn.ConvTranspose2d(4, 3, 3, stride=2, output_padding=1, bias=True),
    )
    found = found_in(model, SAMPLES, loss, 3)
    require_close(found, plain_loop(model, SAMPLES, loss), allowed=1e-4)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (nn.BatchNorm2d(2), "1.weight: there is no rule .* a BatchNorm2d sample by"),
        (nn.Linear(32, 2), "1.weight: there is no rule .* a Linear sample by sample"),
        (nn.PReLU(), "1.weight: there is no rule for the gradient of a PReLU"),
        (nn.Conv2d(2, 2, 3, padding="same"), "1.weight: there is no rule"),
        (nn.Conv2d(2, 2, 3, padding_mode="circular"), "1.weight: there is no rule"),
    ],
)
def test_a_parameter_without_a_rule_is_named(module, message):
    model, loss = layers(nn.Conv2d(2, 2, 1), module)
    with pytest.raises(ValueError, match=message):
        found_in(model, SAMPLES, loss, 3)


def test_a_module_that_is_not_called_once_is_named():
    shared = nn.Conv2d(2, 2, 1)
    model, loss = layers(shared, nn.Tanh(), shared)
    with pytest.raises(ValueError, match=r"^0.weight: the loss calls its layer twice"):
        found_in(model, SAMPLES, loss, 3)
    model, loss = layers(nn.Conv2d(2, 2, 1))
    model.register_module("idle", nn.Conv2d(2, 2, 1))
    model.forward = lambda x: model[0](x)
    with pytest.raises(ValueError, match=r"^idle.weight: the loss never calls its l"):
        found_in(model, SAMPLES, loss, 3)
    assert not any("forward" in vars(module) for module in model.children())


def test_images_that_belong_to_no_sample_are_refused():
    model, loss = layers(nn.Conv2d(2, 2, 1))
    model.forward = lambda x: model[0](torch.cat([x, x[:1]]))[: len(x)]
    with pytest.raises(ValueError, match=r"0.weight: .* given 4 images for 3 samples"):
        found_in(model, SAMPLES, loss, 3)


def test_bad_input_is_refused(model):
    broken = SAMPLES[2]._replace(target=SAMPLES[2].target * torch.nan)
    with pytest.raises(ValueError, match=r"gradient that is not finite: look for dam"):
        found_in(model, [*SAMPLES, broken], LOSS_OF_BATCH, 3)
    with pytest.raises(ValueError, match=r"a data set without slices has no imp"):
        found_in(model, [], LOSS_OF_BATCH, 3)


@pytest.mark.usefixtures("tiny_cohort")
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
