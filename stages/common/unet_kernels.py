"""Normalisation, activation and pooling of a U-Net on the CPU, compiled by Numba.

What PyTorch does in several passes over memory, one kernel does in one or two. Where a
tensor lives elsewhere, `unet_ops.py` uses PyTorch's own operations. Layout of the
arrays: `compiled.py`.
"""

import numpy as np

from stages.common.compiled import compiled, lane_sums, load, moments, store


@compiled
def norm_act(x, out, inverse_std, epsilon, slope):
    """Instance norm without weights, then leaky ReLU.

    Args:
        x: (N, H, W * C) rows.
        out: the same, written.
        inverse_std: (N, C), written.
        epsilon: added to the variance.
        slope: of the leaky ReLU below zero.
    """
    images, height, lanes = x.shape
    channels = inverse_std.shape[1]
    pivot = np.empty(lanes, inverse_std.dtype)
    total, square = np.empty_like(pivot), np.empty_like(pivot)
    scale, shift = np.empty_like(pivot), np.empty_like(pivot)
    for n in range(images):
        lane_sums(x[n], pivot, total, square)
        for c in range(channels):
            mean, deviation = moments(pivot, total, square, height, lanes, channels, c)
            inverse = 1 / np.sqrt(deviation / (height * lanes // channels) + epsilon)
            inverse_std[n, c] = inverse
            for j in range(c, lanes, channels):
                scale[j] = inverse
                shift[j] = -mean * inverse
        for h in range(height):
            row, written = x[n, h], out[n, h]
            for j in range(lanes):
                value = load(row, j) * scale[j] + shift[j]
                store(written, j, max(value, value * slope))


@compiled
def norm_act_backward(grad, y, inverse_std, out, slope):
    """Gradient of `norm_act` by its output `y`, from which the normalised x follows.

    Args:
        grad: (N, H, W * C) rows.
        y: the same, output of `norm_act`.
        inverse_std: (N, C) of `norm_act`.
        out: (N, H, W * C), written.
        slope: of the leaky ReLU below zero.
    """
    images, height, lanes = grad.shape
    channels = inverse_std.shape[1]
    total = np.empty(lanes, inverse_std.dtype)
    along, scale = np.empty_like(total), np.empty_like(total)
    shift = np.empty_like(total)
    steep = inverse_std.dtype.type(1 / slope)
    for n in range(images):
        for j in range(lanes):
            total[j] = 0
            along[j] = 0
        for h in range(height):
            grad_row, row = grad[n, h], y[n, h]
            for j in range(lanes):
                value, slant = load(row, j), load(grad_row, j)
                normalised = value if value > 0 else value * steep
                slanted = slant if value > 0 else slant * slope
                total[j] += slanted
                along[j] += slanted * normalised
        count = height * lanes // channels
        for c in range(channels):
            mean, projection = 0.0, 0.0
            for j in range(c, lanes, channels):
                mean += total[j]
                projection += along[j]
            inverse = inverse_std[n, c]
            for j in range(c, lanes, channels):
                scale[j] = inverse
                shift[j] = -mean / count * inverse
                along[j] = -projection / count * inverse
        for h in range(height):
            grad_row, row, written = grad[n, h], y[n, h], out[n, h]
            for j in range(lanes):
                value, slant = load(row, j), load(grad_row, j)
                normalised = value if value > 0 else value * steep
                slanted = slant if value > 0 else slant * slope
                result = slanted * scale[j] + (shift[j] + normalised * along[j])
                store(written, j, result)


@compiled
def average_pool(x, out, pair, first):
    """2 x 2 average pooling.

    Args:
        x: (N, H, W * C) rows.
        out: (N, H // 2, W // 2 * C), written.
        pair: (W * C,), overwritten.
        first: (W // 2 * C + 1,) where an output's left input stands in a row; the last
            entry is the number of channels.
    """
    images, height, lanes = out.shape
    wide = x.shape[2]
    quarter = pair.dtype.type(0.25)
    channels = first[lanes]
    for n in range(images):
        for h in range(height):
            upper, lower, written = x[n, 2 * h], x[n, 2 * h + 1], out[n, h]
            for j in range(wide):
                pair[j] = load(upper, j) + load(lower, j)
            for j in range(lanes):
                left = first[j]
                store(written, j, quarter * (pair[left] + pair[left + channels]))


@compiled
def average_pool_backward(grad, skip, out, shared, source):
    """Gradient of `average_pool`, added to the one that came past it.

    Args:
        grad: (N, H // 2, W // 2 * C) rows, of the pooled image.
        skip: (N, H, W * C), of the image itself.
        out: the same, written.
        shared: (W // 2 * C + 1,), overwritten.
        source: (W * C,) where an input's output stands in a row; W // 2 * C for none.
    """
    images, height, lanes = skip.shape
    pooled = grad.shape[2]
    quarter = shared.dtype.type(0.25)
    shared[pooled] = 0
    for n in range(images):
        for h in range(height):
            if h % 2 == 0:
                inside = h // 2 < grad.shape[1]
                row = grad[n, h // 2 if inside else 0]
                for j in range(pooled):
                    shared[j] = quarter * load(row, j) if inside else 0
            past, written = skip[n, h], out[n, h]
            for j in range(lanes):
                store(written, j, load(past, j) + shared[source[j]])
