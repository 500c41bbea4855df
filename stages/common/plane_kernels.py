"""What `unet_kernels.py` does, for images that lie plane by plane.

A sum over a plane stays in registers there, and mean and deviation take a pass each: no
digits are lost to a mean that is large beside the deviation.
"""

import numpy as np

from stages.common.compiled import summing


@summing
def norm_act(x, out, inverse_std, epsilon, slope):
    """Instance norm without weights, then leaky ReLU.

    Args:
        x: (planes, H, W).
        out: the same, written.
        inverse_std: (planes,), written.
        epsilon: added to the variance.
        slope: of the leaky ReLU below zero.
    """
    planes, height, width = x.shape
    for n in range(planes):
        mean, deviation = 0.0, 0.0
        for h in range(height):
            mean += _total(x[n, h])
        mean /= height * width
        middle = x.dtype.type(mean)
        for h in range(height):
            deviation += _deviation(x[n, h], middle)
        inverse = x.dtype.type(1 / np.sqrt(deviation / (height * width) + epsilon))
        inverse_std[n] = inverse
        for h in range(height):
            row, written = x[n, h], out[n, h]
            for w in range(width):
                value = (row[w] - middle) * inverse
                written[w] = max(value, value * slope)


@summing
def norm_act_backward(grad, y, inverse_std, out, slope):
    """Gradient of `norm_act` by its output `y`: all (planes, H, W)."""
    planes, height, width = grad.shape
    steep = y.dtype.type(1 / slope)
    for n in range(planes):
        total, along = 0.0, 0.0
        for h in range(height):
            sums = _slanted(grad[n, h], y[n, h], slope, steep)
            total += sums[0]
            along += sums[1]
        inverse = inverse_std[n]
        shift = y.dtype.type(-total / (height * width))
        tilt = y.dtype.type(-along / (height * width))
        for h in range(height):
            slant, row, written = grad[n, h], y[n, h], out[n, h]
            for w in range(width):
                normalised = row[w] if row[w] > 0 else row[w] * steep
                slanted = slant[w] if row[w] > 0 else slant[w] * slope
                written[w] = (slanted + shift + normalised * tilt) * inverse


@summing
def average_pool(x, out):
    """2 x 2 average pooling: (planes, H, W) -> (planes, H // 2, W // 2)."""
    planes, height, width = out.shape
    quarter = x.dtype.type(0.25)
    for n in range(planes):
        for h in range(height):
            upper, lower, written = x[n, 2 * h], x[n, 2 * h + 1], out[n, h]
            for w in range(width):
                above = upper[2 * w] + upper[2 * w + 1]
                below = lower[2 * w] + lower[2 * w + 1]
                written[w] = quarter * (above + below)


@summing
def average_pool_backward(grad, skip, out):
    """Gradient of `average_pool`, added to the one that came past it.

    Args:
        grad: (planes, H // 2, W // 2), of the pooled image.
        skip: (planes, H, W), of the image itself.
        out: the same, written.
    """
    planes, height, width = grad.shape
    quarter = grad.dtype.type(0.25)
    for n in range(planes):
        for h in range(skip.shape[1]):
            past, written = skip[n, h], out[n, h]
            pooled = 0  # an odd last row or column has been left out
            if h // 2 < height:
                row, pooled = grad[n, h // 2], width
                for w in range(width):
                    share = quarter * row[w]
                    written[2 * w] = past[2 * w] + share
                    written[2 * w + 1] = past[2 * w + 1] + share
            for w in range(2 * pooled, len(past)):
                written[w] = past[w]


@summing
def _total(row):
    total = row.dtype.type(0)
    for w in range(len(row)):
        total += row[w]
    return total


@summing
def _deviation(row, mean):
    total = row.dtype.type(0)
    for w in range(len(row)):
        total += (row[w] - mean) * (row[w] - mean)
    return total


@summing
def _slanted(grad, y, slope, steep):
    """Sums of the gradient before the ReLU, and of it times the normalised image."""
    total = along = grad.dtype.type(0)
    for w in range(len(grad)):
        normalised = y[w] if y[w] > 0 else y[w] * steep
        slanted = grad[w] if y[w] > 0 else grad[w] * slope
        total += slanted
        along += slanted * normalised
    return total, along
