"""Squared weight gradients of small convolutions, compiled by Numba.

For one image with few channels PyTorch takes an algorithm of its own: in a network's
first layer, from two channels to eight, this needs a fourth of its time. Called by
`sample_convolution.py` on the CPU. Layout of the arrays: `stages/common/compiled.py`.
"""

import numpy as np
from numba import njit

import stages.common.compiled  # noqa: F401  where Numba keeps its cache

# Sums in any order, or they would not be vectorised; not a number stays not a number.
_summing = njit(
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath={"contract", "reassoc", "nsz"},
)
OUTPUTS = 4  # at a time: 12 sums, which the registers of a core hold


@_summing
def add_squares(x, grad, images, squares):
    """Add g^2 of each sample, g being the gradient of a 3 x 3 kernel; stride 1.

    Args:
        x: (samples * images, H, W * inputs) rows, padded by a pixel when convolved.
        grad: (samples * images, H, W * outputs) rows.
        images: of each sample, whose gradients are summed before the square.
        squares: (outputs, inputs, 3, 3), added to.
    """
    total, height, lanes = x.shape
    outputs, inputs = squares.shape[:2]
    width = lanes // inputs + 2
    more = -outputs % OUTPUTS
    planes = np.zeros((inputs, (height + 2) * width), x.dtype)
    grads = np.zeros((outputs + more, height * width), x.dtype)
    kernel = np.empty((outputs + more, inputs, 3, 3), x.dtype)
    for first in range(0, total, images):
        kernel[:] = 0
        for n in range(first, first + images):
            for h in range(height):
                _to_planes(x[n, h], planes, (h + 1) * width + 1, inputs)
                _to_planes(grad[n, h], grads, h * width, outputs)
            _add_products(planes, grads, kernel, width)
        squares += kernel[:outputs] * kernel[:outputs]


@_summing
def _to_planes(row, planes, start, channels):
    for c in range(channels):
        plane = planes[c]
        for w in range(len(row) // channels):
            plane[start + w] = row[w * channels + c]


@_summing
def _add_products(planes, grads, kernel, width):
    """Add the gradient of one image.

    With rows as long as in the padded input, an output at l meets the input at l, l + 1
    and l + 2 of three rows: three long sums for each row of the kernel.
    """
    outputs, length = grads.shape
    length -= 2  # zeros, beyond which there is no input
    for i in range(len(planes)):
        for k in range(3):
            row = planes[i, k * width :]
            for o in range(0, outputs, OUTPUTS):
                sums = _sums(
                    row,
                    grads[o, :length],
                    grads[o + 1, :length],
                    grads[o + 2, :length],
                    grads[o + 3, :length],
                )
                for j in range(OUTPUTS):
                    for s in range(3):
                        kernel[o + j, i, k, s] += sums[j][s]


@_summing
def _sums(row, g, h, p, q):
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
