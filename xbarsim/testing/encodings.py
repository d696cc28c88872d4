"""What an encoding promises."""

from __future__ import annotations

import numpy as np

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance
from xbarsim.mapping import Encoding
from xbarsim.testing.promises import call, check_value, for_all, load_hypothesis, promise, refuses

__all__ = ["check_encoding"]

_WEIGHT_BITS = (*range(2, 10), 16)
_CELL_BITS = range(1, 9)


@entrance
def check_encoding(encoding: Encoding) -> None:
    """Check that an encoding keeps the promises of :class:`xbarsim.mapping.Encoding`.

    It must be a frozen dataclass with an exact TOML round trip; hold every weight in levels of the cell; give back
    every weight it holds; be linear and treat each weight on its own; be read as the engine reads it (the sum of the
    slices times their weights, with the shift taken off, by a reference cell or digitally); and refuse weights that do
    not fit.

    Parameters
    ----------
    encoding
        The encoding, with the parameters it shall be tested with.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    ImportError
        If hypothesis is not installed.
    """
    check_instance("encoding", encoding, Encoding)
    st = load_hypothesis().strategies

    check_value(encoding, Encoding)
    promise(encoding.sides in (1, 2), "sides must be 1 or 2", f"it is {encoding.sides!r}")
    promise(encoding.name == type(encoding).__name__, "name must be that of the class", f"it is {encoding.name!r}")
    for weight_bits in _WEIGHT_BITS:
        for cell_bits in _CELL_BITS:
            _check_encoding_at(encoding, weight_bits, cell_bits)

    def alone(weight_bits: int, cell_bits: int, seed: int) -> None:
        largest = 2 ** (weight_bits - 1) - 1
        rng = np.random.default_rng(seed)
        codes = rng.integers(-largest, largest, (3, 4), endpoint=True)
        levels = encoding.encode(codes, weight_bits, cell_bits)
        for place in np.ndindex(codes.shape):
            one = encoding.encode(codes[place], weight_bits, cell_bits)
            promise(
                np.array_equal(one, levels[place]),
                "a weight's levels must not depend on the weights beside it",
                f"weight {codes[place]} has {levels[place].tolist()} in a matrix, {one.tolist()} alone",
            )
        # Sixteenths: every sum is exact.
        first, second = rng.integers(-4096, 4096, (2, 5, *levels.shape[2:])) / 16
        zero = encoding.decode(np.zeros_like(first), weight_bits, cell_bits)
        both = encoding.decode(first + second, weight_bits, cell_bits) - zero
        apart = (
            encoding.decode(first, weight_bits, cell_bits) + encoding.decode(second, weight_bits, cell_bits) - 2 * zero
        )
        promise(
            np.array_equal(both, apart),
            "decode must be linear in the levels beyond a constant",
            f"at {weight_bits} weight bits and {cell_bits} cell bits it is not",
        )

    for_all(alone, weight_bits=st.integers(2, 16), cell_bits=st.integers(1, 8), seed=st.integers(0, 2**32 - 1))


def _check_encoding_at(encoding: Encoding, weight_bits: int, cell_bits: int) -> None:
    at = f"at {weight_bits} weight bits and {cell_bits} cell bits"
    bits = weight_bits, cell_bits
    largest, highest = 2 ** (weight_bits - 1) - 1, 2**cell_bits - 1
    codes = np.arange(-largest, largest + 1)
    slices = call(f"slice_count {at}", encoding.slice_count, *bits)
    promise(
        isinstance(slices, int) and slices >= 1, "slice_count must be a whole number of 1 or more", f"{slices!r} {at}"
    )
    weights = np.asarray(call(f"slice_weights {at}", encoding.slice_weights, *bits))
    promise(
        weights.shape == (slices,) and bool((weights > 0).all()),
        "slice_weights must be positive, one for each slice",
        f"{weights.tolist()} {at}",
    )
    promise(
        bool((weights * 2.0**16 == np.rint(weights * 2.0**16)).all()) and float(weights.max()) < 2.0**24,
        "slice_weights must be multiples of 2**-16 below 2**24, so that sums of codes stay exact",
        f"{weights.tolist()} {at}",
    )
    levels = call(f"encode {at}", encoding.encode, codes, *bits)
    wanted = (codes.size, slices, encoding.sides)
    promise(
        isinstance(levels, np.ndarray) and levels.dtype == np.uint8 and levels.shape == wanted,
        "encode must give uint8 levels of shape (..., slices, sides)",
        f"{getattr(levels, 'dtype', type(levels))} of shape {np.shape(levels)} instead of {wanted} {at}",
    )
    worst = int(levels.max())
    promise(worst <= highest, "levels must be at most 2**cell_bits - 1", f"{worst} > {highest} {at}")
    whole = np.int64 if np.issubdtype(weights.dtype, np.integer) else np.float64
    for kind, answer in ((np.uint8, whole), (np.float32, np.float64)):
        decoded = call(f"decode {at}", encoding.decode, levels.astype(kind), *bits)
        wrong = np.flatnonzero(np.asarray(decoded) != codes)
        promise(
            wrong.size == 0,
            "decode must give back every weight that encode was given",
            "" if wrong.size == 0 else f"weight {codes[wrong[0]]} came back as {decoded[wrong[0]]} {at}",
        )
        promise(
            decoded.dtype == answer,
            f"decode must give {np.dtype(answer)} for {np.dtype(kind)} levels",
            f"{decoded.dtype} {at}",
        )
    held = levels.astype(np.int64)
    reference = encoding.reference_level(*bits)
    if encoding.has_reference:
        promise(encoding.sides == 1, "only an encoding of one side may have a reference column", "it has two sides")
        promise(
            0 <= reference <= highest and reference * int(weights[-1]) == 2 ** (weight_bits - 1),
            "a reference cell, read with the weight of the top slice, must take off 2**(weight_bits - 1)",
            f"reference_level is {reference!r} {at}",
        )
    else:
        promise(reference == 0, "reference_level must be 0 without a reference column", f"{reference!r} {at}")
    shift = call(f"shift {at}", encoding.shift, *bits)
    read = (held[..., 0] - held[..., 1] if encoding.sides == 2 else held[..., 0]) @ weights - shift
    if encoding.has_reference:
        read = read - reference * weights[-1]
    promise(
        np.array_equal(read, codes),
        "the shifted sum of the slices, as the engine reads them, must be the weight",
        f"weight {codes[0]} is read as {read[0]} {at}",
    )
    refuses(f"a weight of {largest + 1} {at}", encoding.encode, np.array([largest + 1]), *bits)
    refuses(f"a weight of {-largest - 1} {at}", encoding.encode, np.array([-largest - 1]), *bits)
    refuses(f"a weight of 1.0, no integer, {at}", encoding.encode, np.array([1.0]), *bits)
