"""What the compiled kernels share: how they are compiled, and access to rows.

Images are channels-last, but for the kernels of small networks (`planes.py`): an
(N, C, H, W) tensor comes as its (N, H, W * C) rows, so that one loop over a row serves
any number of channels, vectorised, with sums kept per position in the row and folded
into channels at the end. bfloat16 comes as its bits (uint16). Each image is worked on
alone: the result does not depend on the batch.
"""

from hashlib import sha256
from pathlib import Path

import numpy as np
from numba import config, njit, types
from numba.extending import intrinsic, overload

if not config.CACHE_DIR:
    # To see whether a compiled kernel is stale, Numba looks at its own file alone.
    _sources = sorted(Path(__file__).parent.glob("*_kernels.py"))
    _digest = sha256(
        b"".join(path.read_bytes() for path in [Path(__file__), *_sources])
    )
    config.CACHE_DIR = str(
        Path(__file__).parent / "__pycache__" / f"kernels-{_digest.hexdigest()[:16]}"
    )

# Contracting a product and a sum into one rounding is all that is allowed: not a
# number stays not a number.
compiled = njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract"})
# Sums in any order as well: without it a sum along a row is not vectorised.
summing = njit(
    cache=True,
    nogil=True,
    error_model="numpy",
    fastmath={"contract", "reassoc", "nsz"},
)


@intrinsic
def _float_of_bits(_context, _bits):
    def generate(_ctx, builder, _signature, args):
        from llvmlite import ir

        return builder.bitcast(args[0], ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def _bits_of_float(_context, _value):
    def generate(_ctx, builder, _signature, args):
        from llvmlite import ir

        return builder.bitcast(args[0], ir.IntType(32))

    return types.uint32(types.float32), generate


def load(row, index):
    """A number of a row, bfloat16 as float32; a stand-in for the compiler."""
    raise NotImplementedError


@overload(load)
def _load(row, index):  # noqa: ARG001
    if row.dtype != types.uint16:
        return lambda row, index: row[index]
    return lambda row, index: _float_of_bits(
        np.uint32(np.uint32(row[index]) << np.uint32(16))
    )


def store(row, index, value):
    """Write a number into a row, rounded to its type; a stand-in for the compiler."""
    raise NotImplementedError


@overload(store)
def _store(row, index, value):  # noqa: ARG001
    def plain(row, index, value):
        row[index] = value

    def rounded(row, index, value):
        bits = _bits_of_float(np.float32(value))
        even = (bits >> np.uint32(16)) & np.uint32(1)
        row[index] = np.uint16((bits + np.uint32(0x7FFF) + even) >> np.uint32(16))

    return rounded if row.dtype == types.uint16 else plain


@compiled
def lane_sums(rows, pivot, total, square):
    """Sums of (x - pivot) and its square down the columns; the pivot is the first row.

    Without it, the variance of a nearly constant image would be rounding noise.
    """
    height, lanes = rows.shape
    row = rows[0]
    for j in range(lanes):
        pivot[j] = load(row, j)
        total[j] = 0
        square[j] = 0
    for h in range(height):
        row = rows[h]
        for j in range(lanes):
            value = load(row, j) - pivot[j]
            total[j] += value
            square[j] += value * value


@compiled
def moments(pivot, total, square, height, lanes, channels, c):
    """Mean and sum of squared deviations of a channel, from sums down its columns."""
    width = lanes // channels
    mean = 0.0
    for w in range(width):
        j = w * channels + c
        mean += pivot[j] + total[j] / height
    mean /= width
    deviation = 0.0
    for w in range(width):
        j = w * channels + c
        lane = total[j] / height
        offset = pivot[j] + lane - mean
        deviation += square[j] - height * lane * lane + height * offset * offset
    return mean, max(deviation, 0.0)
