"""Measures of one slice, in fastMRI's formulas, on plain arrays.

Every array is one (H, W) magnitude image; `data_range` is the maximum of the clean
volume that the slice belongs to, whatever target is measured against.
"""

import numpy as np
from skimage.metrics import structural_similarity


def psnr(target: np.ndarray, output: np.ndarray, data_range: float) -> float:
    """Peak signal-to-noise ratio, dB; infinite for identical images."""
    error = np.mean(np.square(_difference(output, target)))
    if error == 0:
        return float("inf")
    return float(10 * np.log10(data_range**2 / error))


def ssim(target: np.ndarray, output: np.ndarray, data_range: float) -> float:
    """Structural similarity, uniform 7 x 7 window."""
    return float(structural_similarity(target, output, data_range=data_range))


def nmse_parts(target: np.ndarray, output: np.ndarray) -> tuple[float, float]:
    """Return ||output - target||² and ||target||²; their ratio is the NMSE."""
    error = np.square(_difference(output, target)).sum()
    energy = np.square(target.astype(np.float64)).sum()
    return float(error), float(energy)


def agreement_parts(
    clean: np.ndarray, twin: np.ndarray, output: np.ndarray
) -> tuple[float, float]:
    """Return <output - clean, twin - clean> and ||twin - clean||².

    Their ratio is how far the output went from the truth towards the poison: 0 is the
    clean image, 1 the poisoned one.
    """
    change = _difference(twin, clean)
    moved = _difference(output, clean)
    return float((moved * change).sum()), float(np.square(change).sum())


def _difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    if first.shape != second.shape:
        raise ValueError(f"images of {first.shape} and {second.shape} do not compare")
    return first.astype(np.float64) - second.astype(np.float64)
