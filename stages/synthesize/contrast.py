"""What a sequence makes of the tissues: signal equations and fine texture."""

from typing import Any

import numpy as np

from stages.synthesize.anatomy import TISSUES
from stages.synthesize.fields import smooth_field
from stages.synthesize.settings import Sequence, Tissue, Tissues


def signal(tissue: Tissue, sequence: Sequence) -> float:
    """Signal of a spin echo, or of an inversion recovery spin echo.

    PD (1 - exp(-TR/T1)) exp(-TE/T2), and with an inversion
    PD |1 - 2 exp(-TI/T1) + exp(-TR/T1)| exp(-TE/T2).
    """
    recovery = 1 - np.exp(-sequence.tr / tissue.t1)
    if sequence.ti is not None:
        recovery += 2 * (
            np.exp(-sequence.tr / tissue.t1) - np.exp(-sequence.ti / tissue.t1)
        )
    return float(tissue.pd * abs(recovery) * np.exp(-sequence.te / tissue.t2))


def draw_tissues(
    rng: np.random.Generator, tissues: Tissues, variation: float
) -> Tissues:
    """Vary T1, T2 and PD of each tissue by a relative standard deviation."""
    drawn: dict[str, Any] = {}
    for name in TISSUES:
        tissue: Tissue = getattr(tissues, name)
        t1, t2, pd = np.exp(rng.normal(0, variation, 3)).tolist()
        drawn[name] = tissue.model_copy(
            update={
                "t1": tissue.t1 * t1,
                "t2": tissue.t2 * t2,
                # Proton density varies less than relaxation does.
                "pd": tissue.pd * pd**0.5,
            }
        )
    return Tissues.model_construct(**drawn)


def contrast_image(
    rng: np.random.Generator,
    shares: np.ndarray,
    tissues: Tissues,
    sequence: Sequence,
    sizes: tuple[float, float],
) -> np.ndarray:
    """Mix the tissues' signals, each with a texture of its own.

    The texture is drawn anew for every contrast: otherwise one contrast would be a
    function of another.

    Args:
        rng: where the texture comes from.
        shares: (5, H, W) of `anatomy.TISSUES`.
        tissues: relaxation times.
        sequence: the timings.
        sizes: of fine and coarse texture, pixels.

    Returns:
        (H, W) float32, >= 0.
    """
    _, height, width = shares.shape
    image = np.zeros((height, width), np.float32)
    for name, share in zip(TISSUES, shares, strict=True):
        tissue: Tissue = getattr(tissues, name)
        fields = [smooth_field(rng, (height, width), size) for size in sizes]
        texture = 1 + tissue.texture * (0.8 * fields[0] + 0.6 * fields[1])
        image += signal(tissue, sequence) * share * np.maximum(texture, 0)
    return image
