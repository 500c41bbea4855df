"""E2E-VarNet: fastMRI's architecture and state-dict names, with less around it.

Sriram et al., MICCAI 2020 (https://arxiv.org/abs/2004.06688). The weights are
interchangeable with `fastmri.models.VarNet` and the numbers agree to float32 rounding.
What differs is how they are reached:

- Complex tensors throughout; real/imaginary channels only inside the U-Nets.
- Undersampling is along columns, so the rows of k-space are transformed once and the
  cascades go between image and k-space by FFTs along the last axis alone.
- Centring an FFT is a modulation (a sign, for even sizes) on either side of it: the
  one on the k-space side is folded into the k-space and the one on the image side into
  `sens_maps`, once per forward pass, so that no cascade shifts anything.
- Mixed precision is confined to the U-Nets; FFTs stay in float32.
"""

import json
from pathlib import Path
from typing import Literal

import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from stages.common.coil_ops import (
    data_consistency,
    reduce_coils,
    root_sum_of_squares,
    to_image,
    unit_energy,
)
from stages.common.params import Settings
from stages.common.unet import NormUnet
from stages.common.volume import atomic_path


class ModelSettings(Settings):
    """Size of the network, in fastMRI's words, and the precision of its U-Nets."""

    num_cascades: int = Field(ge=1)
    chans: int = Field(ge=1)
    pools: int = Field(ge=1, le=4)
    sens_chans: int = Field(ge=1)
    sens_pools: int = Field(ge=1, le=4)
    precision: Literal["fp32", "bf16"]


class SensitivityModel(nn.Module):
    """Estimates coil sensitivities from the fully sampled centre."""

    def __init__(self, chans: int, num_pools: int) -> None:
        super().__init__()
        self.norm_unet = NormUnet(chans, num_pools)

    def forward(self, images: Tensor, *, bf16: bool) -> Tensor:
        """(N, coils, H, W) complex images of the centre -> maps with unit RSS."""
        batch, coils, height, width = images.shape
        maps = self.norm_unet(images.reshape(-1, height, width), bf16=bf16)
        return unit_energy(maps.reshape(batch, coils, height, width))


class VarNetBlock(nn.Module):
    """One cascade: soft data consistency and a U-Net refinement."""

    def __init__(self, chans: int, num_pools: int) -> None:
        super().__init__()
        self.model = NormUnet(chans, num_pools)
        self.dc_weight = nn.Parameter(torch.ones(1))

    def forward(
        self,
        kspace: Tensor,
        reference: Tensor,
        sampled: Tensor,
        sens_maps: Tensor,
        *,
        bf16: bool,
    ) -> Tensor:
        """Return the next k-space; rows are in image domain, columns in k-space.

        Args:
            kspace: (N, coils, H, W) complex, current estimate.
            reference: (N, coils, H, W) complex, what was measured.
            sampled: (N, W) float, 1 where sampled: the rest of `reference` is not read.
            sens_maps: (N, coils, H, W) complex, modulated like the images.
            bf16: run the U-Net in bfloat16.
        """
        combined, kspace = reduce_coils(kspace, sens_maps)
        refined = self.model(combined, bf16=bf16)
        return data_consistency(
            refined, sens_maps, kspace, reference, sampled, self.dc_weight
        )


class VarNet(nn.Module):
    """The network: sensitivities, then `num_cascades` cascades, then RSS."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        self.sens_net = SensitivityModel(settings.sens_chans, settings.sens_pools)
        self.cascades = nn.ModuleList(
            VarNetBlock(settings.chans, settings.pools)
            for _ in range(settings.num_cascades)
        )

    def forward(
        self, masked_kspace: Tensor, mask: Tensor, num_low_frequencies: int
    ) -> Tensor:
        """Reconstruct slices.

        Args:
            masked_kspace: (N, coils, H, W) complex64, centred, orthonormal FFT.
            mask: (N, W) bool, sampled columns.
            num_low_frequencies: fully sampled centre columns.

        Returns:
            (N, H, W) float32 magnitude image in the scale of the k-space.

        Raises:
            ValueError: the shapes do not fit.
        """
        if masked_kspace.ndim != 4 or not masked_kspace.is_complex():
            raise ValueError(
                f"masked_kspace is {masked_kspace.dtype} {tuple(masked_kspace.shape)}, "
                "expected complex (N, coils, H, W)"
            )
        if mask.shape != (masked_kspace.shape[0], masked_kspace.shape[-1]):
            raise ValueError(
                f"mask is {tuple(mask.shape)}, expected one column mask per slice for "
                f"k-space {tuple(masked_kspace.shape)}"
            )
        bf16 = self.settings.precision == "bf16"
        width = masked_kspace.shape[-1]
        _, after = _centring(width, masked_kspace.device)
        reference = hybrid_kspace(masked_kspace)
        acs = _centre_columns(width, num_low_frequencies, mask.device)
        centre_images = to_image(reference * acs) * after
        # In the cascades an image carries conj(after); the maps take it up, so that
        # combining coils gives the true image and expanding it the modulated ones.
        sens_maps = self.sens_net(centre_images, bf16=bf16) * after.conj()
        # What lies outside the mask is no measurement, even where it is given.
        sampled = mask.to(sens_maps.real.dtype)
        kspace = reference
        for cascade in self.cascades:
            kspace = cascade(kspace, reference, sampled, sens_maps, bf16=bf16)
        return root_sum_of_squares(to_image(kspace))


def hybrid_kspace(kspace: Tensor) -> Tensor:
    """K-space as the cascades have it: rows in image domain, columns modulated.

    The centred orthonormal inverse FFT along rows is done once for all cascades; a
    plain inverse FFT along columns then gives centred images but for a phase.

    Args:
        kspace: (N, coils, H, W) complex, centred.

    Returns:
        The same shape. Columns stay columns, and energies stay.
    """
    columns, _ = _centring(kspace.shape[-1], kspace.device)
    before, after = _centring(kspace.shape[-2], kspace.device)
    modulated = torch.fft.ifft(kspace * before[:, None], dim=-2, norm="ortho")
    return modulated * after[:, None] * columns


def _centring(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Factors that turn a plain inverse FFT into a centred one.

    With c = size // 2, the centred transform is
    x[n] = after[n] * ifft(before * k)[n], where before[m] = exp(-2 pi i m c / size) and
    after[n] = exp(-2 pi i (n c - c^2) / size). For an even size both are signs.

    Returns:
        before, after: (size,) complex64.
    """
    centre = size // 2
    index = torch.arange(size, device=device)
    # Reduced modulo the period as integers, so that signs come out exact.
    before = torch.remainder(-index * centre, size)
    after = torch.remainder(centre * centre - index * centre, size)
    return _phase(before, size), _phase(after, size)


def _phase(steps: Tensor, size: int) -> Tensor:
    angle = steps.double() * (2 * torch.pi / size)
    return torch.polar(torch.ones_like(angle), angle).to(torch.complex64)


def _centre_columns(width: int, count: int, device: torch.device) -> Tensor:
    """(W,) float, 1 on the `count` centre columns, as fastMRI places them."""
    start = (width - count + 1) // 2
    columns = torch.zeros(width, device=device)
    columns[start : start + count] = 1
    return columns


def build_varnet(settings: ModelSettings, *, seed: int) -> VarNet:
    """Make a VarNet with PyTorch's default initialisation from a private seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return VarNet(settings)


def save_checkpoint(path: Path, model: VarNet) -> None:
    """Write weights and settings as safetensors, whole or not at all."""
    weights = {
        name: value.detach().cpu().contiguous()
        for name, value in model.state_dict().items()
    }
    metadata = {"model": json.dumps(model.settings.model_dump(), sort_keys=True)}
    with atomic_path(path) as temporary:
        save_file(weights, temporary, metadata=metadata)


def load_checkpoint(path: Path) -> VarNet:
    """Read a checkpoint written by `save_checkpoint`; names and shapes must all match.

    Raises:
        ValueError: the file is missing, damaged or holds another architecture.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: run `dvc repro` for its cell")
    try:
        with safe_open(path, framework="pt") as file:
            settings = json.loads(file.metadata()["model"])
            weights = {name: file.get_tensor(name) for name in file.keys()}
            model = VarNet(ModelSettings(**settings))
            model.load_state_dict(weights)
    # A JSON or pydantic error is a ValueError; other names or shapes a RuntimeError.
    except (
        SafetensorError, KeyError, TypeError, ValueError, RuntimeError, OSError,
    ) as error:  # fmt: skip
        raise ValueError(
            f"{path} is no MendMRI checkpoint ({error}): delete it and run `dvc repro`"
        ) from None
    return model
