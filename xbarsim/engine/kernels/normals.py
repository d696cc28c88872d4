"""Standard normal draws by their number: any of them alone, in any order, on any thread.

Random words are those of Philox4x32-10 (Salmon et al. 2011, doi:10.1145/2063384.2063405): four words of 32 bits for
each key and counter. Two words make two normals by Box and Muller (1958, doi:10.1214/aoms/1177706645). Both are defined
in :mod:`xbarsim.engine.noise`, in NumPy, operation by operation: what stands here gives the same numbers, bit for bit,
for 16 images at a time.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from xbarsim.engine.kernels.processor import has_feature
from xbarsim.engine.kernels.vectors import INT32, INT64, LANES, data, everywhere
from xbarsim.foundation.compiling import kernel

__all__ = [
    "COSINE",
    "KEY_ROWS",
    "LANE_ORDER",
    "LOGARITHM",
    "MULTIPLIERS",
    "ROUNDS",
    "SINE",
    "STEPS",
    "WORDS",
    "add_noise",
    "draw_normals",
]

ROUNDS = 10
WORDS = 4  # random words, and so normals, of one counter
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
STEPS = (0x9E3779B9, 0xBB67AE85)  # added to the two words of a key from round to round

#: Coefficients, lowest power first, with the least largest error: -log(1 + f) / f for 1 + f from sqrt(1/2) to sqrt(2)
#: (relative 1.7e-7); sin(d) / d and cos(d) in powers of d^2, for d from -pi/4 to pi/4 (3e-9 and 3e-8).
LOGARITHM = (
    -0.9999999403953552,
    0.5000036358833313,
    -0.33335059881210327,
    0.24969908595085144,
    -0.1990017294883728,
    0.17250847816467285,
    -0.16222524642944336,
    0.10106763988733292,
)
SINE = (1.0, -0.16666650772094727, 0.008332036435604095, -0.00019504022202454507)
COSINE = (1.0, -0.4999985694885254, 0.041655026376247406, -0.0013585909036919475)

_AT_ONCE = 16 if has_feature("avx512f") else 8  # images, as many as a register holds words of 32 bits

#: Images as the words of their keys lie in memory: of those at once the even ones, then the odd ones.
LANE_ORDER = tuple(
    first + lane for first in range(0, LANES, _AT_ONCE) for lane in (*range(0, _AT_ONCE, 2), *range(1, _AT_ONCE, 2))
)
#: Rows of 16 words for 16 images: both key words of each round, then the last two words of the counter.
KEY_ROWS = 2 * ROUNDS + 2

_SQRT_HALF_BITS = 0x3F3504F3  # of the float32 nearest to sqrt(1/2)
_WIDE = _AT_ONCE // 2  # words in lanes of 64 bits


class _Emitter:
    """Writes Philox and Box-Muller for the images that are drawn for at once."""

    def __init__(self, builder: Any) -> None:
        self.builder = builder
        self.float = ir.VectorType(ir.FloatType(), _AT_ONCE)
        self.word = ir.VectorType(INT32, _AT_ONCE)
        self.wide = ir.VectorType(INT64, _WIDE)

    def number(self, value: float) -> Any:
        """A float32 in every lane."""
        return ir.Constant(self.float, [float(np.float32(value))] * _AT_ONCE)

    def bits(self, value: int) -> Any:
        """A word in every lane."""
        return ir.Constant(self.word, [value] * _AT_ONCE)

    def wide_bits(self, value: int) -> Any:
        """A word in every wide lane."""
        return ir.Constant(self.wide, [value] * _WIDE)

    def philox(self, counter: list[Any], key: Any) -> list[Any]:
        """Four random words, each in the lower halves of wide lanes.

        `counter` are four words in such lanes, `key` gives the key word of a round. The upper halves may hold anything:
        a product looks at the lower ones alone.
        """
        builder, low = self.builder, self.wide_bits(0xFFFFFFFF)
        a, b, c, d = counter
        for r in range(ROUNDS):
            first = builder.mul(builder.and_(a, low), self.wide_bits(MULTIPLIERS[0]))
            second = builder.mul(builder.and_(c, low), self.wide_bits(MULTIPLIERS[1]))
            upper = [builder.lshr(each, self.wide_bits(32)) for each in (first, second)]
            a = builder.xor(builder.xor(upper[1], b), key(r, 0))
            c = builder.xor(builder.xor(upper[0], d), key(r, 1))
            b, d = second, first
        return [a, b, c, d]

    def interleaved(self, even: Any, odd: Any) -> Any:
        """The words of the lower halves of two vectors, in turns."""
        builder = self.builder
        lower = builder.and_(even, self.wide_bits(0xFFFFFFFF))
        return builder.bitcast(builder.or_(lower, builder.shl(odd, self.wide_bits(32))), self.word)

    def polynomial(self, coefficients: tuple[float, ...], x: Any) -> Any:
        """By Horner's rule, each product and sum rounded."""
        value = self.number(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            value = self.builder.fadd(self.builder.fmul(value, x), self.number(coefficient))
        return value

    def real(self, words: Any) -> Any:
        """Words below 2^31 as float32."""
        return self.builder.sitofp(words, self.float)

    def box_muller(self, radius: Any, angle: Any) -> list[Any]:
        """Two normals of two words; see :func:`xbarsim.engine.noise.box_muller`, which this follows line by line."""
        builder = self.builder
        upper = builder.fmul(self.real(builder.lshr(radius, self.bits(8))), self.number(2.0**-24))
        rest = builder.shl(builder.and_(radius, self.bits(255)), self.bits(8))
        rest = builder.or_(rest, builder.and_(angle, self.bits(255)))
        lower = builder.fmul(builder.fadd(self.real(rest), self.number(0.5)), self.number(2.0**-40))
        uniform = builder.bitcast(builder.fadd(upper, lower), self.word)
        exponent = builder.ashr(builder.sub(uniform, self.bits(_SQRT_HALF_BITS)), self.bits(23))
        mantissa = builder.bitcast(builder.sub(uniform, builder.shl(exponent, self.bits(23))), self.float)
        over = builder.fsub(mantissa, self.number(1.0))
        logarithm = builder.fadd(
            builder.fmul(over, self.polynomial(LOGARITHM, over)),
            builder.fmul(self.real(exponent), self.number(-math.log(2.0))),
        )
        kind = ir.FunctionType(self.float, [self.float])
        name = f"llvm.sqrt.v{_AT_ONCE}f32"
        root = builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [logarithm])
        turn = builder.and_(builder.lshr(angle, self.bits(7)), self.bits(2**23 - 2))
        turn = builder.sub(turn, self.bits(2**22 - 1))
        turned = builder.fmul(self.real(turn), self.number(math.pi / 2**24))
        square = builder.fmul(turned, turned)
        sine = builder.fmul(turned, self.polynomial(SINE, square))
        cosine = self.polynomial(COSINE, square)
        signs = [builder.and_(each, self.bits(2**31)) for each in (angle, builder.shl(angle, self.bits(1)))]
        both = [builder.fsub(cosine, sine), builder.fadd(cosine, sine)]
        sized = [builder.bitcast(builder.fmul(root, each), self.word) for each in both]
        return [builder.bitcast(builder.xor(each, sign), self.float) for each, sign in zip(sized, signs, strict=True)]


@intrinsic
def draw_normals(typing_context: Any, keys: Any, block: Any, vector: Any, number: Any, normals: Any, place: Any) -> Any:
    """Four normals of each of 16 images: ``normals[place + 16 w + i]`` is draw 4 number + w of a vector of image i.

    `keys` (blocks, `KEY_ROWS`, 16) uint64, of which `block` is used, with its images in `LANE_ORDER`; `normals`
    float32.
    """
    signature = types.void(keys, types.int64, types.int64, types.int64, normals, types.int64)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        emit = _Emitter(builder)
        start = builder.mul(arguments[1], ir.Constant(INT64, KEY_ROWS * LANES))
        origin = builder.gep(data(context, builder, signature.args[0], arguments[0]), [start])
        target = builder.gep(data(context, builder, signature.args[4], arguments[4]), [arguments[5]])
        known = [everywhere(builder, arguments[3], emit.wide), everywhere(builder, arguments[2], emit.wide)]

        def row(number: int, lane: int) -> Any:
            place = builder.gep(origin, [ir.Constant(INT64, number * LANES + lane)])
            return builder.load(builder.bitcast(place, emit.wide.as_pointer()), align=8)

        for half in range(0, LANES, _AT_ONCE):
            halves = []
            for first in (half, half + _WIDE):
                counter = [*known, row(2 * ROUNDS, first), row(2 * ROUNDS + 1, first)]
                halves.append(emit.philox(counter, lambda r, word, first=first: row(2 * r + word, first)))
            words = [emit.interleaved(even, odd) for even, odd in zip(*halves, strict=True)]
            drawn = emit.box_muller(words[0], words[1]) + emit.box_muller(words[2], words[3])
            for word, each in enumerate(drawn):
                place = builder.gep(target, [ir.Constant(INT64, word * LANES + half)])
                builder.store(each, builder.bitcast(place, emit.float.as_pointer()), align=4)
        return context.get_dummy_value()

    return signature, generate


@kernel(parallel=True)
def add_noise(keys: Any, variances: Any, scale: Any, bias: Any, quiet: Any, result: Any) -> None:
    """``result = (quiet + sqrt(variances) * normal) * scale + bias``, the normal of each output of each vector.

    `keys` as of :func:`draw_normals`; `quiet`, `variances` and `result`, filled, (images, outputs, vectors); `scale`
    and `bias` (outputs,).
    """
    images, outputs, vectors = quiet.shape
    for job in prange(keys.shape[0] * vectors):
        block, v = job // vectors, job % vectors
        normals = np.empty(WORDS * LANES, np.float32)
        for o in range(outputs):
            if o % WORDS == 0:
                draw_normals(keys, block, v, o // WORDS, normals, 0)
            for i in range(min(LANES, images - block * LANES)):
                image = block * LANES + i
                noise = np.sqrt(variances[image, o, v]) * np.float64(normals[o % WORDS * LANES + i])
                result[image, o, v] = (quiet[image, o, v] + noise) * scale[o] + bias[o]
