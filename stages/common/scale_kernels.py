"""Scaling of complex images around a U-Net on the CPU, compiled by Numba.

Rows are those of `compiled.py`, with real and imaginary part as two channels.
"""

import numpy as np

from stages.common.compiled import compiled, lane_sums, load, moments, store


@compiled
def standardise(x, out, mean, std, top, left):
    """Zero mean and unit (unbiased) deviation for each part of a complex image, padded.

    Args:
        x: (N, H, 2 W) real and imaginary parts.
        out: (N, H', 2 W') written inside the padding, which the caller has zeroed.
        mean, std: (N, 2), written; the deviation of a constant image is given as 1.
        top, left: rows above and entries before the image in `out`.
    """
    images, height, lanes = x.shape
    pivot = np.empty(lanes, mean.dtype)
    total, square = np.empty_like(pivot), np.empty_like(pivot)
    scale, shift = np.empty_like(pivot), np.empty_like(pivot)
    for n in range(images):
        lane_sums(x[n], pivot, total, square)
        for c in range(2):
            middle, deviation = moments(pivot, total, square, height, lanes, 2, c)
            spread = np.sqrt(deviation / max(height * lanes // 2 - 1, 1))
            mean[n, c] = middle
            std[n, c] = spread if spread > 0 else 1.0
            for j in range(c, lanes, 2):
                scale[j] = 1 / std[n, c]
                shift[j] = -mean[n, c] / std[n, c]
        for h in range(height):
            row, written = x[n, h], out[n, top + h, left : left + lanes]
            for j in range(lanes):
                store(written, j, row[j] * scale[j] + shift[j])


@compiled
def standardise_backward(grad, x, mean, std, grad_mean, grad_std, out, top, left):
    """Gradient of `standardise`, given those of its output, mean and deviation."""
    images, height, lanes = x.shape
    total = np.empty(lanes, mean.dtype)
    along, scale = np.empty_like(total), np.empty_like(total)
    slope, shift = np.empty_like(total), np.empty_like(total)
    count = height * lanes // 2
    for n in range(images):
        for j in range(lanes):
            total[j] = 0
            along[j] = 0
            scale[j] = mean[n, j % 2]
        for h in range(height):
            row, slant = x[n, h], grad[n, top + h, left : left + lanes]
            for j in range(lanes):
                value = load(slant, j)
                total[j] += value
                along[j] += value * (row[j] - scale[j])
        for c in range(2):
            summed, projected = 0.0, 0.0
            for j in range(c, lanes, 2):
                summed += total[j]
                projected += along[j]
            inverse = 1 / std[n, c]
            # d std / d x = (x - mean) / ((count - 1) std)
            tilt = (grad_std[n, c] - projected * inverse * inverse) * inverse
            tilt /= max(count - 1, 1)
            level = (grad_mean[n, c] - summed * inverse) / count - tilt * mean[n, c]
            for j in range(c, lanes, 2):
                scale[j] = inverse
                slope[j] = tilt
                shift[j] = level
        for h in range(height):
            row, slant = x[n, h], grad[n, top + h, left : left + lanes]
            written = out[n, h]
            for j in range(lanes):
                written[j] = load(slant, j) * scale[j] + (row[j] * slope[j] + shift[j])


@compiled
def restore(y, mean, std, out, top, left):
    """Undo `standardise`: cut the padding off, scale and shift each part.

    Args:
        y: (N, H', 2 W') rows with padding.
        mean, std: (N, 2) of `standardise`.
        out: (N, H, 2 W), written.
        top, left: as there.
    """
    images, height, lanes = out.shape
    scale = np.empty(lanes, mean.dtype)
    shift = np.empty_like(scale)
    for n in range(images):
        for j in range(lanes):
            scale[j] = std[n, j % 2]
            shift[j] = mean[n, j % 2]
        for h in range(height):
            row, written = y[n, top + h, left : left + lanes], out[n, h]
            for j in range(lanes):
                written[j] = load(row, j) * scale[j] + shift[j]


@compiled
def restore_backward(grad, y, std, out, grad_mean, grad_std, top, left):
    """Gradient of `restore`: `out` (zeroed by the caller), of the mean, of the std."""
    images, height, lanes = grad.shape
    total = np.empty(lanes, std.dtype)
    along, scale = np.empty_like(total), np.empty_like(total)
    for n in range(images):
        for j in range(lanes):
            total[j] = 0
            along[j] = 0
            scale[j] = std[n, j % 2]
        for h in range(height):
            row, slant = y[n, top + h, left : left + lanes], grad[n, h]
            written = out[n, top + h, left : left + lanes]
            for j in range(lanes):
                total[j] += slant[j]
                along[j] += slant[j] * load(row, j)
                store(written, j, slant[j] * scale[j])
        for c in range(2):
            grad_mean[n, c] = 0
            grad_std[n, c] = 0
            for j in range(c, lanes, 2):
                grad_mean[n, c] += total[j]
                grad_std[n, c] += along[j]
