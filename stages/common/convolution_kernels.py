"""Convolutions of few channels on the CPU, compiled by Numba: forward and backward.

oneDNN works on eight channels or more at a time and prepares each call: with two or
four channels it takes three times as long as these. Images lie plane by plane, and the
loops run along their pixels. Called by `planes.py`. Arrays are contiguous; each image
is worked on alone, so that the result does not depend on the batch.
"""

import numpy as np
from numba import literally

from stages.common.compiled import compiled, summing
from stages.common.tile_kernels import OUTPUTS, add_up, tile_width

_GRADIENTS = 4  # outputs that `_tap_sums` takes: a core's registers hold their sums


@compiled
def convolve(x, kernel, bias, out):
    """Convolution as networks have it: 3 x 3, padded by a pixel, or 1 x 1.

    Args:
        x: (N, I, H, W).
        kernel: (O, I, 3, 3) or (O, I, 1, 1).
        bias: (O,).
        out: (N, O, H, W), written.
    """
    if kernel.shape[3] == 3:
        _convolve(3, x, kernel, bias, out)
    else:
        _convolve(1, x, kernel, bias, out)


@compiled
def _convolve(size, x, kernel, bias, out):
    literally(size)
    images, inputs, height, width = x.shape
    outputs = len(kernel)
    reach = size // 2
    wide = width + 2 * reach
    tile = tile_width(x.itemsize)
    groups = (outputs + OUTPUTS - 1) // OUTPUTS
    weights = np.zeros((groups, inputs, size * size * OUTPUTS), x.dtype)
    for o in range(outputs):
        for i in range(inputs):
            for t in range(size * size):
                at = t * OUTPUTS + o % OUTPUTS
                weights[o // OUTPUTS, i, at] = kernel[o, i, t // size, t % size]
    # A tile may reach beyond the last pixel: what it finds there is not used.
    length = height * wide - 2 * reach
    planes = np.zeros((inputs, (height + 2 * reach) * wide + tile), x.dtype)
    sums = np.empty((OUTPUTS, length + tile), x.dtype)
    for n in range(images):
        _pad(x[n], planes, reach * wide + reach, wide)
        for group in range(groups):
            for at in range(0, length, tile):
                add_up(size, planes, at, wide, weights[group], sums)
            for j in range(min(OUTPUTS, outputs - group * OUTPUTS)):
                o = group * OUTPUTS + j
                for h in range(height):
                    _shift(sums[j, h * wide :], bias[o], out[n, o, h])


@summing
def weight_gradients(x, grad, images, out):
    """Gradients of a 3 x 3 kernel, each summed over so many images.

    With rows as long as in the padded input, an output at t meets the input at t, t + 1
    and t + 2 of three rows: three long sums for each row of the kernel. The padding
    meets the image as a product with 0, which spreads what is not finite further than
    PyTorch does, within its input and output channel.

    Args:
        x: (N, I, H, W), input of `convolve`.
        grad: (N, O, H, W), gradient for its output.
        images: whose gradients are summed.
        out: (N / images, O, I, 3, 3), written.
    """
    total, inputs, height, width = x.shape
    outputs = grad.shape[1]
    wide = width + 2
    planes = np.zeros((inputs, (height + 2) * wide), x.dtype)
    more = -outputs % _GRADIENTS
    grads = np.zeros((outputs + more, height * wide), x.dtype)
    length = height * wide - 2  # zeros follow, beyond which there is no input
    out[:] = 0
    for n in range(total):
        _pad(x[n], planes, wide + 1, wide)
        _pad(grad[n], grads, 0, wide)
        for o in range(0, outputs, _GRADIENTS):
            for i in range(inputs):
                for k in range(3):
                    sums = _tap_sums(
                        planes[i, k * wide :],
                        grads[o, :length],
                        grads[o + 1],
                        grads[o + 2],
                        grads[o + 3],
                    )
                    for j in range(min(_GRADIENTS, outputs - o)):
                        for s in range(3):
                            out[n // images, o + j, i, k, s] += sums[j][s]


@summing
def mix_gradients(x, grad, images, out):
    """Gradients of the matrix of a 1 x 1 kernel, each summed over so many images.

    Args:
        x: (N, I, pixels), input of `convolve`.
        grad: (N, O, pixels), gradient for its output.
        images: whose gradients are summed.
        out: (N / images, O, I), written.
    """
    total, inputs, pixels = x.shape
    outputs = grad.shape[1]
    nothing = np.zeros(pixels, x.dtype)
    out[:] = 0
    for n in range(total):
        for o in range(0, outputs, 4):
            for i in range(0, inputs, 2):
                sums = _products(
                    x[n, i],
                    _channel(x[n], i + 1, nothing),
                    grad[n, o],
                    _channel(grad[n], o + 1, nothing),
                    _channel(grad[n], o + 2, nothing),
                    _channel(grad[n], o + 3, nothing),
                )
                for j in range(min(4, outputs - o)):
                    for s in range(min(2, inputs - i)):
                        out[n // images, o + j, i + s] += sums[j][s]


@compiled
def spread(x, out):
    """Four planes into one of twice the size: (N, 4, H, W) -> (N, 2 H, 2 W).

    Plane 2 a + b gives the pixels in odd or even rows (a) and columns (b).
    """
    images, _, height, width = x.shape
    for n in range(images):
        for h in range(height):
            for a in range(2):
                left, right = x[n, 2 * a, h], x[n, 2 * a + 1, h]
                row = out[n, 2 * h + a]
                for w in range(width):
                    row[2 * w] = left[w]
                    row[2 * w + 1] = right[w]


@compiled
def gather(x, out):
    """Undo `spread`: (N, 2 H, 2 W) -> (N, 4, H, W)."""
    images, _, height, width = out.shape
    for n in range(images):
        for h in range(height):
            for a in range(2):
                left, right = out[n, 2 * a, h], out[n, 2 * a + 1, h]
                row = x[n, 2 * h + a]
                for w in range(width):
                    left[w] = row[2 * w]
                    right[w] = row[2 * w + 1]


@compiled
def _copy(source, target):
    for w in range(len(target)):
        target[w] = source[w]


@compiled
def _shift(source, amount, target):
    for w in range(len(target)):
        target[w] = source[w] + amount


@compiled
def _pad(image, planes, start, wide):
    """Copy (C, H, W) into rows of `wide` pixels, whose rest stays as it is."""
    channels, height, width = image.shape
    for c in range(channels):
        for h in range(height):
            at = start + h * wide
            _copy(image[c, h], planes[c, at : at + width])


@compiled
def _channel(planes, c, nothing):
    """A plane; beyond the last one there is nothing."""
    return planes[c] if c < len(planes) else nothing


@summing
def _tap_sums(row, g, h, p, q):
    zero = row.dtype.type(0)
    g0 = g1 = g2 = h0 = h1 = h2 = p0 = p1 = p2 = q0 = q1 = q2 = zero
    for t in range(len(g)):
        a, b, c, d = g[t], h[t], p[t], q[t]
        u, v, w = row[t], row[t + 1], row[t + 2]
        g0 += a * u
        g1 += a * v
        g2 += a * w
        h0 += b * u
        h1 += b * v
        h2 += b * w
        p0 += c * u
        p1 += c * v
        p2 += c * w
        q0 += d * u
        q1 += d * v
        q2 += d * w
    return (g0, g1, g2), (h0, h1, h2), (p0, p1, p2), (q0, q1, q2)


@summing
def _products(x, y, p, q, r, s):
    zero = x.dtype.type(0)
    p0 = p1 = q0 = q1 = r0 = r1 = s0 = s1 = zero
    for t in range(len(x)):
        a, b = x[t], y[t]
        c, d, e, f = p[t], q[t], r[t], s[t]
        p0 += c * a
        p1 += c * b
        q0 += d * a
        q1 += d * b
        r0 += e * a
        r1 += e * b
        s0 += f * a
        s1 += f * b
    return (p0, p1), (q0, q1), (r0, r1), (s0, s1)
