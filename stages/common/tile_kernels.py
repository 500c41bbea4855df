"""The inner loop of a small convolution, in vector instructions.

Numba's compiler turns a loop into vectors only if it is the innermost one, and then
each sum goes to memory and back for every input channel. Here two outputs at five
vectors of pixels (forty, of float32 and AVX2) are summed over all input channels in the
registers of a core: five loads serve ten products.
"""

from itertools import chain
from typing import Any

from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from stages.common.compiled import compiled

OUTPUTS = 2
_VECTORS = 5  # 10 sums, 2 weights and what is loaded: 16 registers have room for them
_BYTES = 64 if get_host_cpu_features().get("avx512f") else 32  # of a vector
_CONTRACT = ("contract",)  # a product and a sum in one rounding


@compiled
def tile_width(itemsize):
    """Pixels that `add_up` works on at a time."""
    return _VECTORS * _BYTES // itemsize


@intrinsic
def add_up(_typing, size, planes, at, wide, weights, sums):  # noqa: ARG001
    """Write two outputs at `tile_width` pixels; for the compiler.

    Args:
        size: 3 or 1, of the kernel; a literal.
        planes: (I, at least at + tile + what the kernel reaches) inputs.
        at: the first pixel that the kernel's first weight meets; the first one written.
        wide: pixels from one row to the next.
        weights: (I, size * size * OUTPUTS), outputs innermost.
        sums: (OUTPUTS, at least at + tile), written.
    """
    signature = types.void(size, planes, types.intp, types.intp, weights, sums)
    if not isinstance(size, types.IntegerLiteral):
        return None
    bits = planes.dtype.bitwidth
    lanes, edge = 8 * _BYTES // bits, size.literal_value

    def generate(context: Any, builder: Any, _signature: Any, args: Any) -> Any:
        inputs, weight, out = (
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(
                (planes, weights, sums), (args[1], args[4], args[5]), strict=True
            )
        )
        start, row = args[2], args[3]
        vector = ir.VectorType(context.get_value_type(planes.dtype), lanes)
        index = start.type
        totals = [
            [cgutils.alloca_once(builder, vector) for _ in range(_VECTORS)]
            for _ in range(OUTPUTS)
        ]

        def pointer(base: Any, offset: Any) -> Any:
            return builder.bitcast(builder.gep(base, [offset]), vector.as_pointer())

        def everywhere(base: Any, offset: int) -> Any:
            number = builder.load(builder.gep(base, [index(offset)]))
            unset = ir.Constant(vector, ir.Undefined)
            first = builder.insert_element(unset, number, ir.IntType(32)(0))
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), lanes), None)
            return builder.shuffle_vector(first, unset, zeros)

        for total in chain(*totals):
            builder.store(ir.Constant(vector, None), total)
        channels, pitch = cgutils.unpack_tuple(builder, inputs.shape, 2)
        with cgutils.for_range(builder, channels) as loop:
            offset = builder.add(builder.mul(loop.index, pitch), start)
            plane = builder.gep(inputs.data, [offset])
            taps = index(edge * edge * OUTPUTS)
            kernel = builder.gep(weight.data, [builder.mul(loop.index, taps)])
            for h in range(edge):
                line = builder.gep(plane, [builder.mul(row, index(h))])
                for w in range(edge):
                    first = (h * edge + w) * OUTPUTS
                    factors = [everywhere(kernel, first + o) for o in range(OUTPUTS)]
                    for v in range(_VECTORS):
                        x = builder.load(
                            pointer(line, index(w + v * lanes)), align=bits // 8
                        )
                        for factor, total in zip(factors, totals, strict=True):
                            product = builder.fmul(factor, x, flags=_CONTRACT)
                            added = builder.fadd(
                                product, builder.load(total[v]), flags=_CONTRACT
                            )
                            builder.store(added, total[v])
        _, pitch = cgutils.unpack_tuple(builder, out.shape, 2)
        for o in range(OUTPUTS):
            line = builder.gep(
                out.data, [builder.add(builder.mul(pitch, index(o)), start)]
            )
            for v in range(_VECTORS):
                builder.store(
                    builder.load(totals[o][v]),
                    pointer(line, index(v * lanes)),
                    align=bits // 8,
                )
        return context.get_dummy_value()

    return signature, generate
