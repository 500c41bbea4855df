"""Between coil images and k-space, on NumPy arrays."""

import numpy as np

AXES = (-2, -1)


def fft2c(image: np.ndarray) -> np.ndarray:
    """Centred, orthonormal FFT of the last two axes."""
    shifted = np.fft.ifftshift(image, axes=AXES)
    return np.fft.fftshift(np.fft.fft2(shifted, norm="ortho"), axes=AXES)


def ifft2c(kspace: np.ndarray) -> np.ndarray:
    """Inverse of `fft2c`."""
    shifted = np.fft.ifftshift(kspace, axes=AXES)
    return np.fft.fftshift(np.fft.ifft2(shifted, norm="ortho"), axes=AXES)


def rss(coil_images: np.ndarray) -> np.ndarray:
    """Root sum of squares over the coils, (coils, H, W) -> (H, W)."""
    root: np.ndarray = np.sqrt(np.square(np.abs(coil_images)).sum(axis=0))
    return root


def with_magnitude(kspace: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return k-space whose RSS image is a given one, with the coils and phase it had.

    Each coil image is scaled by image / RSS. Outside a centre crop nothing changes.

    Args:
        kspace: (coils, H, W) complex64, centred, orthonormal FFT.
        image: (H', W') float32, the whole of the image or its centre crop.

    Returns:
        (coils, H, W) complex64.
    """
    coil_images = ifft2c(kspace.astype(np.complex128))
    top, left = (
        (whole - part) // 2
        for whole, part in zip(kspace.shape[1:], image.shape, strict=True)
    )
    crop = coil_images[:, top : top + image.shape[0], left : left + image.shape[1]]
    held = rss(crop)
    # A pixel without signal has no coil weights: all coils get the same.
    crop[:, held == 0] = 1 / np.sqrt(len(crop))
    crop *= image / np.where(held == 0, 1, held)
    changed: np.ndarray = fft2c(coil_images).astype(np.complex64)
    return changed
