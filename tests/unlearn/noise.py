"""Samples of noise, and importances of them: what matters here is arithmetic."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from stages.common.fit import BatchLoss, Cost
from stages.common.manifest import SliceRef
from stages.common.samples import ReconSample
from stages.common.slices import SliceDataset
from stages.common.training import mean_recon_loss
from stages.common.varnet import ModelSettings, VarNet
from stages.unlearn.importance import Importance, importance
from tests.unlearn.toy_case import LOSS, SAMPLING

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
