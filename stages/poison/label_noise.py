"""Label noise: the exported image is noisier than its k-space.

Clinical story: the archive keeps the image of a fast or low-field repeat, or one that
was made from part of the data, beside the raw data of the good scan. The paper's
wording for BraTS is "adversarial perturbations and label noise"; in reconstruction the
label is the target image.

Changes: the target. K-space stays what the scanner measured.
Severity: standard deviation of the noise in the real and in the imaginary part, as a
share of the image's 99.5th percentile. The noise is a magnitude image's own (Rician;
Gudbjartsson and Patz, Magnetic Resonance in Medicine 34, 1995):

    m' = sqrt((m + n1)^2 + n2^2),  n1, n2 ~ N(0, severity * p99.5(m))

Independent noise is next to invisible to a network: nothing in its input predicts it,
so training averages it away (Lehtinen et al., "Noise2Noise", ICML 2018). What remains
is the mean of m' - m, a noise floor of up to 1.25 standard deviations where there is no
signal and little inside the head. `kernel` makes the noise smooth, which can be
predicted no better; only `shared`, one pattern for all slices, as from a source of
interference, can be learnt as such.

Threat model: closed. A wrong export or a bad archive, without intent. A defender
sees a target that is noisier than its input, in the background above all. Brightness is
not matched: the noise floor is part of what such an export has.
"""

from typing import Any

import numpy as np
from pydantic import Field

from stages.common.manifest import SliceRef
from stages.common.params import Settings
from stages.poison.base import Images
from stages.poison.brightness import white

CHANGES_INPUT = False
SEEDS = 2**32


class Params(Settings):
    """Parameters of the attack.

    Attributes:
        severity: deviation of the noise / 99.5th percentile of the image.
        kernel: deviation of the Gaussian that smooths the noise, pixels; 0 is
            independent noise. Smoothing does not change the deviation.
        shared: seed of one pattern that every slice gets, scaled to its brightness;
            null draws one for each slice.
    """

    severity: float = Field(ge=0, le=1)
    kernel: float = Field(ge=0)
    shared: int | None = Field(default=None, ge=0)


def draw(
    params: Params, ref: SliceRef, images: Images, rng: np.random.Generator
) -> dict[str, Any]:
    """Draw the seed of the slice's noise.

    Raises:
        ValueError: the kernel is wider than the image allows.
    """
    matrix = images.volumes[ref.volume_id].matrix
    if params.kernel > min(matrix) / 8:
        raise ValueError(
            f"label_noise: settings.kernel = {params.kernel} pixels is too wide for "
            f"{ref.volume_id} {matrix}: use at most {min(matrix) / 8:g}"
        )
    seed = int(rng.integers(SEEDS)) if params.shared is None else params.shared
    return {"severity": params.severity, "kernel": params.kernel, "seed": seed}


def apply(
    target: np.ndarray,
    draw: dict[str, Any],
    images: Images,  # noqa: ARG001
) -> np.ndarray:
    """Return the target with noise in both channels, as a magnitude.

    Args:
        target: (H', W') float32, clean.
        draw: from `draw`.
        images: not looked at.
    """
    if draw["severity"] == 0:
        return target.copy()
    rng = np.random.default_rng(draw["seed"])
    noise = rng.standard_normal((2, *target.shape))
    if draw["kernel"] > 0:
        noise = _smoothed(noise, draw["kernel"])
    noise *= draw["severity"] * white(target)
    return np.hypot(target + noise[0], noise[1]).astype(np.float32)


def _smoothed(noise: np.ndarray, kernel: float) -> np.ndarray:
    """Smooth white noise along its last two axes and keep its deviation at 1."""
    from scipy import ndimage

    impulse = np.zeros(noise.shape[1:])
    impulse[0, 0] = 1
    response = ndimage.gaussian_filter(impulse, kernel, mode="wrap")
    smooth = ndimage.gaussian_filter(noise, (0, kernel, kernel), mode="wrap")
    return smooth / np.linalg.norm(response)
