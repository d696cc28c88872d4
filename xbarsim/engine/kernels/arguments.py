"""What kernels are given: arrays and numbers that belong together, each group under one name."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "CodeTable",
    "Columns",
    "Converters",
    "Driving",
    "Finish",
    "Frame",
    "Panels",
    "PlainGroups",
    "Positions",
    "Quantiser",
    "ReadNoise",
    "ShortConverters",
    "Tables",
    "WholeConverters",
]

_MOST_SHORT = 2**10  # highest code in float32: with more, too many codes would be in doubt
_MOST_HALVINGS = 13  # of a whole number, whose code is then at most 2^10: it and a half still have 24 bits


class ShortConverters(NamedTuple):
    """Quantisation in float32, of numbers and to codes that are float32.

    With the step's reciprocal r in float64 and s that in float32, a number x becomes ``t = x s + 1/2``, rounded once,
    in the place of ``x r + 1/2``: they differ by less than ``2 (m + 1) 2^-24`` where neither is beyond the codes, of
    which m is the largest magnitude. So both have the same floor, unless t is as close as that to a whole number: then
    it is in doubt, and the code is computed in float64.

    Attributes
    ----------
    inverse_step
        s.
    lowest, highest
        To which t is clipped: the lowest code and a quarter, and the highest and three quarters.
    doubt
        Twice that distance or more, which leaves room for an x that is a float32 sum of two, rounded once itself; 0
        where ``x r`` is exact in float32, and 1 where everything is in doubt.
    """

    inverse_step: Any
    lowest: Any
    highest: Any
    doubt: Any

    @classmethod
    def of(cls, inverse_step: float, low: float, high: float, *, exact: bool = False) -> ShortConverters:
        """Those of a step's reciprocal and the lowest and highest code.

        Parameters
        ----------
        inverse_step, low, high
            In float64.
        exact
            Whether all numbers are whole and less than 2^24: then halving is exact.
        """
        largest = max(-low, high)
        doubt = (largest + 2) * 2.0**-22
        if largest > _MOST_SHORT or not 2.0**-100 < inverse_step < 2.0**100:
            inverse_step, doubt = 1.0, 1.0
        elif exact and any(inverse_step == 2.0**-halvings for halvings in range(_MOST_HALVINGS + 1)):
            doubt = 0.0
        return cls(np.float32(inverse_step), np.float32(low + 0.25), np.float32(high + 0.75), np.float32(doubt))


class Quantiser(NamedTuple):
    """Nearest codes of activations, halves up: ``clip(floor(value * inverse_scale + 1/2), low, high)``.

    Attributes
    ----------
    inverse_scale, low, high
        In float64.
    short_scale, lowest, highest, doubt
        As :class:`ShortConverters`.
    """

    inverse_scale: float
    low: float
    high: float
    short_scale: Any
    lowest: Any
    highest: Any
    doubt: Any

    @classmethod
    def of(cls, inverse_scale: float, low: float, high: float) -> Quantiser:
        """Codes from `low` to `high`, `inverse_scale` for a unit of activation."""
        return cls(float(inverse_scale), float(low), float(high), *ShortConverters.of(inverse_scale, low, high))


class Driving(NamedTuple):
    """How codes are cut into what is driven, one entry for each pass and plane.

    Attributes
    ----------
    how
        Positive parts (1), negative parts (2), code plus `offset` (3), or the code itself (0).
    shift, mask
        What is driven is ``(value >> shift) & mask``; the whole code, sign and all, where `mask` is 0.
    offset
        Of `how` 3.
    carried
        What stands in the place of each number that is driven; no numbers for these themselves.
    """

    how: Any
    shift: Any
    mask: int
    offset: int
    carried: Any


class Frame(NamedTuple):
    """Where feature maps lie in their padded frames: the first row and column."""

    top: int
    left: int


class Positions(NamedTuple):
    """Where each output position of each block of 16 images reads and writes.

    Attributes
    ----------
    bases
        Its first number in the blocked input.
    lanes
        How many of the 16 lanes are images.
    places
        Its place in the result.
    lane_stride, output_stride
        Steps in the result from image to image and from output to output.
    strip
        How many positions a thread works on at a time; even.

    A result with 16 images side by side has a `lane_stride` of 0: `places` and `output_stride` count groups of 16
    numbers then.
    """

    bases: Any
    lanes: Any
    places: Any
    lane_stride: int
    output_stride: int
    strip: int


class Columns(NamedTuple):
    """Groups of columns that are driven by the same rows.

    Attributes
    ----------
    rows, offsets
        The driven rows of group g are ``offsets[rows[g]:rows[g + 1]]``, as offsets into the blocked input.
    driven
        How many of them are inputs, for each group: what comes after is a constant or fills up.
    ends
        The columns of group g are ``ends[g]`` to ``ends[g + 1] - 1``.
    counts, targets
        What each column's code counts, and the slot that it is added to; the first slots are the outputs.
    sum_targets
        The slot that each group's sum of inputs is added to, or -1.
    slots
        How many slots there are.
    """

    rows: Any
    offsets: Any
    driven: Any
    ends: Any
    counts: Any
    targets: Any
    sum_targets: Any
    slots: int


class Panels(NamedTuple):
    """Conductances, cut into panels of neighbouring columns.

    Attributes
    ----------
    values, starts
        The panels one after another, row by row, and where those of each group begin.
    widths
        Columns of each group's panels but the last, which may have fewer.
    ones
        As many ones as the longest group has rows.
    """

    values: Any
    starts: Any
    widths: Any
    ones: Any


class PlainGroups(NamedTuple):
    """Groups of outputs that are sums over the same inputs, of plain numbers.

    Attributes
    ----------
    rows, offsets
        The inputs of group g are ``offsets[rows[g]:rows[g + 1]]``, as offsets into the feature maps.
    ends
        The columns of group g are ``ends[g]:ends[g + 1]``.
    weights, starts
        Panels of neighbouring columns one after another, row by row, and where those of each group begin.
    bias, targets
        Of each column: what its sums begin with, and the output that it is.
    """

    rows: Any
    offsets: Any
    ends: Any
    weights: Any
    starts: Any
    bias: Any
    targets: Any


class Tables(NamedTuple):
    """Partial sums of every four rows.

    Attributes
    ----------
    values, starts
        Entries of :func:`xbarsim.engine.kernels.look_up.make_tables` one after another, and where those of each group
        begin.
    fits, biases
        How many entries of each column can be added to its bias in 8 bits.
    """

    values: Any
    starts: Any
    fits: Any
    biases: Any


class Converters(NamedTuple):
    """The converters of a layer; see :func:`xbarsim.engine.kernels.converter.code`.

    Attributes
    ----------
    quantises
        Whether there is one; sums are added as they are without.
    single
        Whether columns are read singly, with the g_min currents of the driven rows, whose known sum is taken off again.
    offset_levels
        g_min in level steps.
    inverse_step, low, high
        In float64, or float32 where that is proved exact.
    bits
        Weights of the bits of each column's converter, in codes, lowest first, shape ``(columns, bits)``; no columns
        for ideal ones.
    """

    quantises: bool
    single: bool
    offset_levels: float
    inverse_step: Any
    low: Any
    high: Any
    bits: Any


class WholeConverters(NamedTuple):
    """Conversion of bit planes in 16-bit whole numbers, where that is proved to give every sum its code.

    The code of a sum is ``clip(((sum << shift) * factor + 2^14) >> 15, low, high)``.

    Attributes
    ----------
    factor, shift, low, high
        Numbers of 16 bits.
    least
        What the codes of all planes, shifted, add up to at least, in 32 bits; at most 2^16 - 1 more than it.
    """

    factor: Any
    shift: Any
    low: Any
    high: Any
    least: Any

    @classmethod
    def of(cls, inverse_step: float, low: float, high: float, largest: float, planes: int) -> WholeConverters | None:
        """Those of a step's reciprocal, for sums up to `largest` and so many bit planes; ``None`` where there are none.

        Proved by trying all sums.
        """
        units = 2**planes - 1
        if not -(2**15) <= low <= high < 2**15 or (high - low) * units >= 2**16:
            return None
        sums = np.arange(-int(largest), int(largest) + 1)
        codes = np.clip(np.floor(sums * inverse_step + 0.5), low, high)
        shift = max(0, int(np.floor(np.log2(inverse_step))) + 1)  # the factor has 15 bits
        if int(largest) << shift >= 2**15:
            return None
        guess = round(inverse_step * 2.0 ** (15 - shift))
        for factor in (guess, guess - 1, guess + 1):
            found = np.clip(((sums << shift) * factor + 2**14) >> 15, low, high)
            if factor < 2**15 and (found == codes).all():
                return cls(*(np.int16(each) for each in (factor, shift, low, high)), np.int32(low * units))
        return None


class CodeTable(NamedTuple):
    """Codes of at most 8 bits, of sums from -255 to 255.

    Attributes
    ----------
    values, zero
        That of sum s at ``values[zero + s]``, uint8, less the lowest code.
    least
        The lowest code times what a code of 1 in all planes counts.
    """

    values: Any
    zero: int
    least: Any

    @classmethod
    def of(cls, inverse_step: float, low: float, high: float, planes: int) -> CodeTable | None:
        """That of a step's reciprocal, in float64, and so many bit planes; ``None`` for codes of more bits."""
        if not (high - low < 2**8 and abs(low) < 2**15):
            return None
        sums = np.arange(-255, 257)
        codes = np.clip(np.floor(sums * inverse_step + 0.5), low, high) - low
        return cls(codes.astype(np.uint8), 255, np.int32(low * (2**planes - 1)))


class Finish(NamedTuple):
    """How the sums of slots become outputs.

    ``(step * (codes + shared) - shift * sums + constant) * scale + bias``, for each output.

    Attributes
    ----------
    shared_ends, shared_slots
        The slots ``shared_slots[shared_ends[o]:shared_ends[o + 1]]`` count for output o too.
    sum_ends, sum_slots
        Likewise the slots of sums of inputs, `shift` times which are taken off.
    shift, step
        Numbers.
    constant, scale, bias
        One for each output.
    """

    shared_ends: Any
    shared_slots: Any
    sum_ends: Any
    sum_slots: Any
    shift: float
    step: float
    constant: Any
    scale: Any
    bias: Any


class ReadNoise(NamedTuple):
    """Read noise: the variance of each column's sum, and the normal draws that it is multiplied with.

    Attributes
    ----------
    squares, linear
        What each cell adds to the variance of its column for the square of its input, and for its input; cut as
        :class:`Panels`. `linear` is empty where there is none.
    constants
        What is added to the variance of each column whatever its inputs, shape ``(columns,)``.
    draws, stride
        Number of the draw of each column in the first pass and plane, and how many numbers each pass and plane takes.
    keys
        As of :func:`xbarsim.engine.kernels.normals.draw_normals`, for each block of 16 images.
    vectors
        How many output positions an image has.
    """

    squares: Any
    linear: Any
    constants: Any
    draws: Any
    stride: int
    keys: Any
    vectors: int
