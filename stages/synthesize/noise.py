"""From coil images to noisy k-space, and back to the target."""

import numpy as np


def fft2c(image: np.ndarray) -> np.ndarray:
    """Centred orthonormal FFT over the last two axes."""
    axes = (-2, -1)
    shifted = np.fft.ifftshift(image, axes=axes)
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=axes)


def ifft2c(kspace: np.ndarray) -> np.ndarray:
    """Inverse of `fft2c`."""
    axes = (-2, -1)
    shifted = np.fft.ifftshift(kspace, axes=axes)
    return np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=axes)


def crop_kspace(kspace: np.ndarray, matrix: int) -> np.ndarray:
    """Keep the low frequencies that are acquired, at the scale of the fine image."""
    start = kspace.shape[-1] // 2 - matrix // 2
    keep = slice(start, start + matrix)
    return kspace[..., keep, keep] * (matrix / kspace.shape[-1])


def complex_noise(
    rng: np.random.Generator, shape: tuple[int, ...], sigma: float
) -> np.ndarray:
    """White receiver noise: `sigma` is the deviation of each of its two parts."""
    parts = rng.standard_normal((*shape, 2)) * sigma
    return parts[..., 0] + 1j * parts[..., 1]


def rss_target(kspace: np.ndarray) -> np.ndarray:
    """Root sum of squares of what is stored.

    Args:
        kspace: (slices, coils, H, W) complex64.

    Returns:
        (slices, H, W) float32.
    """
    images = ifft2c(kspace.astype(np.complex128))
    return np.sqrt((np.abs(images) ** 2).sum(axis=1)).astype(np.float32)
