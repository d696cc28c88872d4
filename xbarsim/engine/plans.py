"""Plans: what has to be computed for one layer of one die, and the cheapest exact way to do it.

Everything that is linear and frozen once a die is made folds into matrices; what is left decides the plan.

=================  ==============================================================  =====================================
plan               when                                                            work
=================  ==============================================================  =====================================
exact              whole levels, no converter error possible on this die           one exact product
folded             no converter                                                    one product (and one for read noise)
tiled              a converter for each read, one plane                            one product for each group of tiles
bitplane           a converter for each read, whole levels, several planes         look-up, or AND + popcount, on bits
bitplane-analog    the same with conductances off the levels, or read noise        one product for each plane and group
=================  ==============================================================  =====================================

Every sum runs in a fixed order (see :mod:`xbarsim.engine.kernels`), so no result depends on threads or on batch size.
Whole levels are summed exactly: float32 where all sums stay below 2^24, else float64. Conductances off the levels are
summed in float32 by default, which can move a value by some 1e-6 of its range and so, rarely, a code by one step; with
``precision="double"`` they are summed in float64, which is exact on their grid of 2^-16 level steps and equal to the
reference bit for bit.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.design import ConverterErrors, Readout
from xbarsim.engine import kernels
from xbarsim.engine.reference import activations, held_variances, hold, input_passes
from xbarsim.mapping import MappedMatrix

__all__ = [
    "Noise",
    "Plan",
    "Scaling",
    "Window",
    "choose_plan",
    "clipped_share",
    "largest_conversion",
    "largest_reads",
    "make_plan",
]

FloatArray = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

_FLOAT32_INTEGERS = 2.0**24  # every integer up to here is a float32
_BLOCK = 2048  # vectors worked on at a time; bounds memory, changes no result
_BLOCKED_BYTES = 64 * 2**20  # blocked or unfolded inputs held at a time; bounds memory, changes no result
_STRIP_BYTES = 128 * 2**10  # sums that a thread works on at a time: they should stay in its cache
_CHUNK_ROWS = 256  # rows summed in one go; a long float32 sum would lose digits


@dataclass(frozen=True)
class Noise:
    """Read noise of one layer of one die.

    Parameters
    ----------
    spread
        Standard deviation of each cell's conductance at one read, in level units, shape ``(tiles, rows, columns)``.
    key
        Key of the counter-based generator that the draws of image n come from; they depend on the key and n alone.
    linear, constant
        Variance that each cell of a driven row adds for each unit of its plane code, and whatever its code, in level
        units squared, of the same shape; ``None`` for none.
    """

    spread: Array
    key: int
    linear: Array | None = None
    constant: Array | None = None

    def coefficients(self) -> list[tuple[int, FloatArray]]:
        """Each cell's variance as a polynomial of its plane code: powers and coefficients, as they are held."""
        lower = [(power, hold(term)) for power, term in ((1, self.linear), (0, self.constant)) if term is not None]
        return [(2, held_variances(self.spread)), *lower]

    def normals(self, image: int, shape: tuple[int, ...]) -> FloatArray:
        """Standard normal draws of one image."""
        bits = np.random.Philox(key=self.key, counter=[0, 0, 0, image])
        return np.random.Generator(bits).standard_normal(shape)


@dataclass(frozen=True)
class _Group:
    """Tiles driven by the same rows at a time, side by side: columns sorted by side and slice, outputs last."""

    activation: int  # which of the tiles' reads drives these rows
    rows: Array  # (driven,) logical input of each driven row
    tiles: Array  # (tiles here,)
    outputs: Array  # (outputs here,) logical output
    owners: Array  # (outputs here,) index into `tiles`
    places: Array  # (outputs here,) position of the output in its tile
    values: Array  # (driven, sides, slices, outputs here) level units
    references: Array  # (driven, tiles here) level units of the reference columns, or no tiles

    def inputs(self, driven: Array) -> Array:
        """The driven rows' codes; a view where the rows are neighbours."""
        first, last = int(self.rows[0]), int(self.rows[-1])
        if last - first + 1 == len(self.rows):
            return driven[:, first : last + 1]
        return driven[:, self.rows]


def _reads(mapped: MappedMatrix, readout: Readout) -> int:
    """Conversions of one activation of one tile."""
    return mapped.mapping.columns // 2 if readout.subtraction == "analog" else mapped.mapping.columns


def _groups(mapped: MappedMatrix, cells: Array, readout: Readout) -> list[_Group]:
    mapping = mapped.mapping
    weight_columns = mapping.outputs_per_tile * mapping.slices * mapping.sides
    groups = []
    for row_group in mapped.row_groups:
        tiles = np.asarray(row_group.tiles)
        owners, places = np.nonzero(mapped.tile_outputs[tiles] >= 0)
        for activation, rows in activations(mapped.tile_rows[tiles[0]] >= 0, readout):
            here = cells[tiles][:, rows]
            blocks = here[:, :, :weight_columns].reshape(
                len(tiles), len(rows), mapping.outputs_per_tile, mapping.slices, mapping.sides
            )
            values = np.moveaxis(blocks, (1, 2, 4, 3), (0, 4, 2, 3))  # driven, tiles, sides, slices, places
            values = np.moveaxis(values, 1, 3)[:, :, :, owners, places]
            references = here[:, :, -1].T if mapping.has_reference else np.zeros((len(rows), 0), cells.dtype)
            groups.append(
                _Group(
                    activation=activation,
                    rows=mapped.tile_rows[tiles[0]][rows].astype(np.int64),
                    tiles=tiles,
                    outputs=mapped.tile_outputs[tiles][owners, places].astype(np.int64),
                    owners=owners.astype(np.int64),
                    places=places.astype(np.int64),
                    values=np.ascontiguousarray(values),
                    references=np.ascontiguousarray(references),
                )
            )
    return groups


@dataclass(frozen=True, kw_only=True)
class Window:
    """How the inputs of each output are picked from feature maps.

    Parameters
    ----------
    kernel, stride, dilation
        As (height, width).
    padding
        Zeros around the maps: left, right, top, bottom.
    """

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Output height and width for maps of this size, before padding."""
        left, right, top, bottom = self.padding
        return (
            (height + top + bottom - self.dilation[0] * (self.kernel[0] - 1) - 1) // self.stride[0] + 1,
            (width + left + right - self.dilation[1] * (self.kernel[1] - 1) - 1) // self.stride[1] + 1,
        )


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """How activations become input codes, and products become activations.

    Parameters
    ----------
    inverse_scale
        Input codes for one unit of activation.
    low, high
        Lowest and highest input code.
    scale, bias
        An output is product times `scale` plus `bias`; shape ``(outputs,)``.
    """

    inverse_scale: float
    low: int
    high: int
    scale: FloatArray
    bias: FloatArray


@dataclass(frozen=True)
class _Columns:
    """The columns of one group of tiles, as a program reads them."""

    rows: Array  # (driven,) logical inputs
    values: FloatArray  # (driven, columns) level units, pairs subtracted where that is analog
    weights: FloatArray  # (columns,) what a code counts
    targets: Array  # (columns,) the slot it is added to; the first slots are the outputs
    sum_slot: int = -1  # the slot of the sum of the inputs, or -1


@dataclass(frozen=True)
class _Corrections:
    """Slots that outputs take off, `factor` times, before (`inside`) or after their codes are scaled."""

    slots: int
    taken: tuple[tuple[Array, int], ...] = ()  # outputs, slot
    factor: float = 0.0
    inside: bool = False


class _Program:
    """A layer laid out for the kernels: what all of them need, and how a batch is cut up for them.

    Parameters
    ----------
    readout
        Planes, signs and converter.
    groups
        Columns of each group of tiles.
    outputs
        How many outputs the layer has.
    corrections
        What outputs take off.
    constant
        Added to the outputs, or ``None``.
    constants
        1 if the last row of every group is no input but a constant of 1, else 0.
    """

    dtype: Any = np.float32  # of the blocked inputs
    scratch: Any = np.float32  # in which they are quantised
    slot_bytes = 8

    def __init__(
        self,
        readout: Readout,
        groups: list[_Columns],
        outputs: int,
        corrections: _Corrections,
        constant: FloatArray | None,
        constants: int = 0,
    ) -> None:
        self._readout = readout
        self._outputs = outputs
        self._slots = corrections.slots
        self._rows = _joined([group.rows for group in groups], np.int64)
        self._constants = constants
        self._group_rows = _ends([len(group.rows) for group in groups])
        self._group_columns = _ends([group.values.shape[1] for group in groups])
        self._column_weights = _joined([group.weights for group in groups], np.float64)
        self._column_targets = _joined([group.targets for group in groups], np.int64)
        self._sum_targets = np.array([group.sum_slot for group in groups], dtype=np.int64)
        taken: list[list[int]] = [[] for _ in range(outputs)]
        for affected, slot in corrections.taken:
            for output in affected:
                taken[int(output)].append(slot)
        self._corrections = (
            _ends([len(slots) for slots in taken]),
            np.array([slot for slots in taken for slot in slots], dtype=np.int64),
            corrections.inside,
            float(corrections.factor),
        )
        self._constant = np.zeros(outputs) if constant is None else constant.astype(np.float64)

    def _driven(self) -> tuple[Array, Array, int]:
        """How each pass and plane is driven: kind, shift and mask, as :func:`kernels.block_inputs` takes them."""
        raise NotImplementedError

    def _launch(
        self, blocked: Array, places: tuple[Any, ...], offsets: Array, strip: int, scaled: tuple[Any, ...]
    ) -> None:
        """Run the kernel; `places` says where positions are, and `scaled` how outputs are scaled and where they go."""
        raise NotImplementedError

    def run(self, maps: Array, window: Window, scaling: Scaling, result: Array) -> bool:
        """Run feature maps ``(images, channels, height, width)``, float32, into `result`.

        `result` has shape ``(images, outputs, positions)`` and says the precision of the answer. Returns whether all
        inputs
        were finite.
        """
        images, channels, height, width = maps.shape
        left, right, top, bottom = window.padding
        padded_height, padded_width = height + top + bottom, width + left + right
        out_height, out_width = window.output_size(height, width)
        how, shift, mask = self._driven()
        stored = channels + self._constants  # a constant row is a channel of ones
        numbers = stored * padded_height * padded_width * kernels.LANES  # of one block of images
        blocks_at_once = max(1, _BLOCKED_BYTES // (numbers * len(how) * np.dtype(self.dtype).itemsize))
        channel, rest = np.divmod(self._rows, window.kernel[0] * window.kernel[1])
        y, x = np.divmod(rest, window.kernel[1])
        offsets = (channel * padded_height + y * window.dilation[0]) * padded_width + x * window.dilation[1]
        i, j = np.divmod(np.arange(out_height * out_width), out_width)
        starts = (i * window.stride[0] * padded_width + j * window.stride[1]) * kernels.LANES
        positions = len(starts)
        strip = int(np.clip(_STRIP_BYTES // (self._slots * kernels.LANES * self.slot_bytes), 2, 16)) // 2 * 2
        finite = True
        for first in range(0, images, blocks_at_once * kernels.LANES):
            part = maps[first : first + blocks_at_once * kernels.LANES]
            blocks = -(-len(part) // kernels.LANES)
            shape = (len(how), blocks, stored, padded_height, padded_width, kernels.LANES)
            blocked = _workspace(int(np.prod(shape)), self.dtype)
            finite &= kernels.block_inputs(
                part,
                scaling.inverse_scale,
                float(scaling.low),
                float(scaling.high),
                top,
                left,
                how,
                shift,
                mask,
                2 ** (self._readout.input_bits - 1),
                shape,
                np.empty(0, self.scratch),
                blocked,
            )
            block = np.repeat(np.arange(blocks), positions)
            places = (
                block * numbers + np.tile(starts, blocks),
                np.minimum(len(part) - block * kernels.LANES, kernels.LANES),
                (first + block * kernels.LANES) * self._outputs * positions + np.tile(np.arange(positions), blocks),
                self._outputs * positions,
                positions,
            )
            step = 1.0 if self._readout.step is None else self._readout.step
            scaled = (*self._corrections, step, self._constant, scaling.scale, scaling.bias, result.reshape(-1))
            self._launch(blocked.reshape(len(how), -1), places, offsets * kernels.LANES, strip, scaled)
        return finite


class _SumProgram(_Program):
    """Sums by fused multiply-add, in float32 or float64; for :func:`kernels.products`.

    Parameters
    ----------
    bits
        Weights of the bits of each group's converters, shapes ``(columns, bits)``, or ``None``.
    converted
        Whether columns pass a converter, plane by plane; otherwise codes are driven whole, signs and all.
    precision
        ``"single"`` or ``"double"`` for numbers that are not whole.
    """

    def __init__(
        self,
        readout: Readout,
        groups: list[_Columns],
        outputs: int,
        corrections: _Corrections,
        constant: FloatArray | None,
        constants: int = 0,
        bits: list[FloatArray] | None = None,
        *,
        converted: bool,
        precision: str,
    ) -> None:
        super().__init__(readout, groups, outputs, corrections, constant, constants)
        self._converted = converted
        self._bits = np.ascontiguousarray(np.concatenate(bits)) if bits else np.empty((0, 0))
        largest = max((float(np.abs(g.values).sum(axis=0).max(initial=0.0)) for g in groups), default=0.0)
        largest *= readout.max_plane if converted else readout.max_input
        whole = all(bool((g.values == np.rint(g.values)).all()) for g in groups)
        single = largest < _FLOAT32_INTEGERS if whole else precision == "single"
        self.dtype = self.scratch = np.float32 if single else np.float64
        width = kernels.panel_width(self.dtype)
        panels = [
            np.ascontiguousarray(group.values[:, first : first + width], dtype=self.dtype).reshape(-1)
            for group in groups
            for first in range(0, group.values.shape[1], width)
        ]
        self._panels = _joined(panels, self.dtype)
        self._panel_starts = _ends([group.values.size for group in groups])[:-1]
        self._ones = np.ones(max((len(group.rows) for group in groups), default=1), self.dtype)
        self._plane_weights = np.ones(1)
        if converted:
            shifts = [plane * readout.dac_bits for plane in range(readout.planes)]
            self._plane_weights = np.array([sign * 2.0**shift for _, sign in _passes(readout) for shift in shifts])

    def _driven(self) -> tuple[Array, Array, int]:
        readout = self._readout
        passes = _passes(readout)
        if not self._converted or (readout.planes == 1 and not readout.signed):  # the code itself
            return np.zeros(1, np.int64), np.zeros(1, np.int64), 0
        shifts = [plane * readout.dac_bits for plane in range(readout.planes)]
        how = np.array([kind for kind, _ in passes for _ in shifts], dtype=np.int64)
        return how, np.array(shifts * len(passes), dtype=np.int64), readout.max_plane

    def _launch(
        self, blocked: Array, places: tuple[Any, ...], offsets: Array, strip: int, scaled: tuple[Any, ...]
    ) -> None:
        readout = self._readout
        step = 1.0 if readout.step is None else readout.step
        kernels.products(  # type: ignore[call-arg]
            blocked,
            self._plane_weights,
            *places,
            self._group_rows,
            offsets,
            self._constants,
            self._group_columns,
            self._panels,
            self._panel_starts,
            self._column_weights,
            self._column_targets,
            self._ones,
            self._sum_targets,
            self._converted and readout.subtraction == "digital",
            readout.offset_levels,
            self._converted and readout.step is not None,
            1.0 / step,
            float(readout.low),
            float(readout.high),
            self._bits,
            self._slots,
            strip,
            *scaled[:4],
            step if self._converted else 1.0,
            *scaled[5:],
        )


class _BitSerialProgram(_Program):
    """Sums of bit planes by table look-up; for :func:`kernels.bit_serial_products`.

    Raises
    ------
    ValueError
        If the layer or the machine does not meet the kernel's bounds; :class:`BitplanePlan` then counts bits.
    """

    dtype = np.uint8
    slot_bytes = 4

    def __init__(
        self,
        readout: Readout,
        groups: list[_Columns],
        outputs: int,
        corrections: _Corrections,
        constant: FloatArray | None,
    ) -> None:
        assert readout.step is not None
        driven = [len(group.rows) for group in groups]
        padded = [
            _Columns(
                np.concatenate([group.rows, np.repeat(group.rows[-1:], -len(group.rows) % 4)]),
                np.concatenate([group.values, np.zeros((-len(group.rows) % 4, group.values.shape[1]))]),
                group.weights,
                group.targets,
                group.sum_slot,
            )
            for group in groups
        ]
        super().__init__(readout, padded, outputs, corrections, constant)
        entry = max(
            (float(np.abs(g.values.reshape(-1, 4, g.values.shape[1])).sum(axis=1).max(initial=0.0)) for g in padded),
            default=0.0,
        )
        largest = max((float(np.abs(g.values).sum(axis=0).max(initial=0.0)) for g in groups), default=0.0)
        codes = max(-readout.low, readout.high)
        counted = np.bincount(self._column_targets, np.abs(self._column_weights)).max(initial=0.0) * codes * 2.0**8
        counted = max(counted, sum(driven) * 2.0**8) * len(_passes(readout))
        inverse = _exact_inverse(readout, largest * readout.max_plane)
        if (
            not kernels.HAS_BYTE_SHUFFLE
            or readout.input_bits > 8
            or (readout.subtraction == "digital" and readout.offset_levels > 0)
            or entry > 127
            or largest * readout.max_plane > 2**15 - 1
            or codes * 2**8 > _FLOAT32_INTEGERS
            or counted > 2**31 - 1
            or inverse is None
        ):
            raise ValueError("out of the bounds of table look-up")
        self._fits = int(127 // max(entry, 1))
        self._converter = inverse, np.float32(readout.low), np.float32(readout.high)
        self._group_driven = np.array(driven, dtype=np.int64)
        tables = []
        for group in padded:
            table = np.empty((group.values.shape[1], len(group.rows) // 4, 16), np.int8)
            kernels.make_tables(group.values, table)
            tables.append(table.reshape(-1))
        self._table_starts = _ends([len(table) for table in tables])[:-1]
        self._tables = _joined(tables, np.int8)
        self._signs = np.array([int(sign) for _, sign in _passes(readout)], dtype=np.int64)

    def _driven(self) -> tuple[Array, Array, int]:
        how = np.array([kind for kind, _ in _passes(self._readout)], dtype=np.int64)
        return how, np.zeros(len(how), np.int64), 255

    def _launch(
        self, blocked: Array, places: tuple[Any, ...], offsets: Array, strip: int, scaled: tuple[Any, ...]
    ) -> None:
        readout = self._readout
        kernels.bit_serial_products(  # type: ignore[call-arg]
            blocked,
            self._signs,
            *places,
            self._group_rows,
            self._group_driven,
            offsets,
            self._group_columns,
            self._tables,
            self._table_starts,
            self._fits,
            self._column_weights,
            self._column_targets,
            self._sum_targets,
            readout.dac_bits,
            readout.planes,
            *self._converter,
            self._slots,
            strip,
            *scaled,
        )


def _joined(arrays: list[Array], dtype: Any) -> Array:
    return np.concatenate([np.zeros(0, dtype), *arrays]).astype(dtype, copy=False)


def _ends(sizes: list[int]) -> Array:
    return np.cumsum([0, *sizes]).astype(np.int64)


def _passes(readout: Readout) -> list[tuple[int, float]]:
    """How each pass drives the codes, as :func:`kernels.block_inputs` counts the ways, and the sign of its result."""
    if not readout.signed:
        return [(0, 1.0)]
    return [(1, 1.0), (2, -1.0)] if readout.signed_inputs == "two_pass" else [(3, 1.0)]


def _exact_inverse(readout: Readout, largest: float) -> np.float32 | None:
    """A float32 reciprocal of the step that gives every whole sum up to `largest` its float64 code, or ``None``.

    Proved by trying all sums.
    """
    assert readout.step is not None
    sums = np.arange(-int(largest), int(largest) + 1)
    codes = np.floor(sums * (1.0 / readout.step) + 0.5)
    guess = np.float32(1.0 / readout.step)
    for candidate in (guess, np.nextafter(guess, np.float32(0)), np.nextafter(guess, np.float32(2))):
        if (np.floor(sums.astype(np.float32) * candidate + np.float32(0.5)) == codes).all():
            return np.float32(candidate)
    return None


class Plan:
    """One layer of one die, ready to multiply.

    Attributes
    ----------
    name
        One of the plans in the module's table.
    reason
        Why this plan was chosen, in words.
    """

    name: str = ""

    def __init__(
        self,
        mapped: MappedMatrix,
        cells: Array,
        readout: Readout,
        noise: Noise | None,
        reason: str,
        precision: str,
        errors: ConverterErrors | None,
    ) -> None:
        self.mapped = mapped
        self.readout = readout
        self.noise = noise
        self.errors = errors
        self.reason = reason
        self._program: _Program | None = None

    @classmethod
    def plan_name(cls, readout: Readout) -> str:
        """The plan's name for layers read like this."""
        return cls.name

    @property
    def kernel(self) -> str:
        """What runs it: ``"products"``, ``"look-up"``, ``"popcount"``, or ``"numpy"`` where reads are noisy or err."""
        if self._program is not None:
            return "look-up" if isinstance(self._program, _BitSerialProgram) else "products"
        return "popcount" if isinstance(self, BitplanePlan) else "numpy"

    def multiply(self, codes: Array, *, first_image: int = 0) -> FloatArray:
        """Multiply input codes with the layer's matrix as this die does it.

        Parameters
        ----------
        codes
            Integer codes, shape ``(images, positions, inputs)``.
        first_image
            Number of the first image in its data set; read noise is drawn by image number.

        Returns
        -------
        ndarray
            Shape ``(images, positions, outputs)``, float64, in units of input code times weight code.
        """
        images, positions, inputs = codes.shape
        outputs = self.mapped.shape[1]
        result = np.empty((images, positions, outputs))
        if self._program is not None:
            maps = codes.reshape(images * positions, 1, 1, inputs).astype(np.float32)
            bound = 2**self.readout.input_bits
            unscaled = Scaling(
                inverse_scale=1.0, low=-bound, high=bound, scale=np.ones(outputs), bias=np.zeros(outputs)
            )
            self._program.run(maps, Window(kernel=(1, inputs)), unscaled, result.reshape(-1, outputs, 1))
            return result
        if self.noise is None:
            vectors = codes.reshape(images * positions, inputs)
            flat = result.reshape(images * positions, outputs)
            for start in range(0, len(vectors), _BLOCK):
                flat[start : start + _BLOCK] = self._vectors(vectors[start : start + _BLOCK], None)
            return result
        for image in range(images):
            normals = self.noise.normals(first_image + image, (positions, *self._draws()))
            result[image] = self._vectors(codes[image], normals)
        return result

    def run(
        self, maps: Array, window: Window, scaling: Scaling, *, first_image: int = 0
    ) -> tuple[npt.NDArray[np.float32], bool]:
        """Run a layer on activations: quantise, pad, multiply, scale.

        Parameters
        ----------
        maps
            Float32, shape ``(images, channels, height, width)``.
        window
            Kernel, stride, dilation and zero padding.
        scaling
            Codes of the activations, and scale and bias of the outputs.
        first_image
            As for :meth:`multiply`.

        Returns
        -------
        ndarray
            Float32, shape ``(images, outputs, out height, out width)``.
        bool
            Whether all activations were finite.
        """
        height, width = window.output_size(*maps.shape[2:])
        outputs = self.mapped.shape[1]
        result = np.empty((len(maps), outputs, height, width), np.float32)
        if self._program is not None:
            finite = self._program.run(maps, window, scaling, result.reshape(len(maps), outputs, -1))
            return result, finite
        codes = np.empty(maps.shape, np.int32)
        finite = kernels.quantise(maps.reshape(-1), scaling.inverse_scale, scaling.low, scaling.high, codes.reshape(-1))
        left, right, top, bottom = window.padding
        padded = np.pad(codes, ((0, 0), (0, 0), (top, bottom), (left, right)))
        inputs = maps.shape[1] * window.kernel[0] * window.kernel[1]
        at_once = max(1, _BLOCKED_BYTES // (4 * inputs * height * width))
        for start in range(0, len(maps), at_once):
            part = padded[start : start + at_once]
            columns = np.empty((len(part), height, width, maps.shape[1], *window.kernel), np.int32)
            kernels.im2col(part, *window.kernel, window.stride, window.dilation, columns)
            product = self.multiply(columns.reshape(len(part), height * width, inputs), first_image=first_image + start)
            scaled = (product * scaling.scale + scaling.bias).astype(np.float32)
            result[start : start + at_once] = scaled.transpose(0, 2, 1).reshape(len(part), outputs, height, width)
        return result, finite

    def _vectors(self, codes: Array, normals: FloatArray | None) -> FloatArray:
        raise NotImplementedError

    def _draws(self) -> tuple[int, ...]:
        """Shape of the normal draws of one vector."""
        mapping, readout = self.mapped.mapping, self.readout
        reads = _reads(self.mapped, readout) * readout.activations(mapping.rows)
        return readout.passes, readout.planes, self.mapped.tiles, reads


class _LinearPlan(Plan):
    """Plans without converters: one product with the effective matrix."""

    def __init__(
        self,
        mapped: MappedMatrix,
        cells: Array,
        readout: Readout,
        noise: Noise | None,
        reason: str,
        precision: str,
        errors: ConverterErrors | None,
    ) -> None:
        super().__init__(mapped, cells, readout, noise, reason, precision, errors)
        mapping = mapped.mapping
        slice_weights = mapping.encoding.slice_weights(mapping.weight_bits, mapping.cell_bits).astype(np.float64)
        shift = 0.0 if mapping.sides == 2 or mapping.has_reference else 2.0 ** (mapping.weight_bits - 1)
        groups, sums = [], -mapped.codes().astype(np.int64).sum(axis=0).astype(np.float64)
        for group in _groups(mapped, cells.astype(np.float64), readout):
            values = group.values[:, 0] - group.values[:, 1] if mapping.sides == 2 else group.values[:, 0]
            columns = np.einsum("ksn,s->kn", values, slice_weights) - shift
            if mapping.has_reference:
                columns -= slice_weights[-1] * group.references[:, group.owners]
            sums[group.outputs] += columns.sum(axis=0)
            for first in range(0, len(columns), _CHUNK_ROWS):
                part = slice(first, first + _CHUNK_ROWS)
                ones = np.ones(columns.shape[1])
                groups.append(_Columns(group.rows[part], columns[part], ones, group.outputs))
        constant = _input_offset(readout, sums)
        outputs = mapped.shape[1]
        program = _SumProgram(
            readout,
            groups,
            outputs,
            _Corrections(outputs),
            constant,
            converted=False,
            precision=precision,
        )
        if noise is None:
            self._program = program
            return
        self._noiseless = program
        self._variances = []
        for power, held in noise.coefficients():
            variances = np.zeros(mapped.shape)
            for group in _groups(mapped, held, readout):
                variance = np.einsum("kisn,s->kn", group.values, slice_weights**2)
                variances[np.ix_(group.rows, group.outputs)] = variance
            self._variances.append((power, variances))

    def _vectors(self, codes: Array, normals: FloatArray | None) -> FloatArray:
        readout, outputs = self.readout, self.mapped.shape[1]
        result = np.empty((len(codes), outputs))
        bound = 2**readout.input_bits
        unscaled = Scaling(inverse_scale=1.0, low=-bound, high=bound, scale=np.ones(outputs), bias=np.zeros(outputs))
        maps = codes.reshape(len(codes), 1, 1, -1).astype(np.float32)
        self._noiseless.run(maps, Window(kernel=(1, codes.shape[1])), unscaled, result.reshape(-1, outputs, 1))
        total = np.zeros_like(result)
        for power, variances in self._variances:
            driven_by = np.zeros(codes.shape)  # the codes to that power, weighted by plane
            for _, driven in input_passes(codes, readout):
                for plane in range(readout.planes):
                    shift = plane * readout.dac_bits
                    driven_by += 4.0**shift * ((driven >> shift) & readout.max_plane).astype(np.float64) ** power
            total += _in_order(driven_by, variances)
        return np.asarray(result + np.sqrt(total) * normals)

    def _draws(self) -> tuple[int, ...]:
        return (self.mapped.shape[1],)


class ExactPlan(_LinearPlan):
    """Whole levels and no possible converter error: an integer product."""

    name = "exact"


class FoldedPlan(_LinearPlan):
    """No converter: an effective matrix, and read noise by its exact distribution for each output."""

    name = "folded"


class TiledPlan(Plan):
    """A converter for each read: a product for each plane and group of tiles, converted and added."""

    def __init__(
        self,
        mapped: MappedMatrix,
        cells: Array,
        readout: Readout,
        noise: Noise | None,
        reason: str,
        precision: str,
        errors: ConverterErrors | None,
    ) -> None:
        super().__init__(mapped, cells, readout, noise, reason, precision, errors)
        self.name = self.plan_name(readout)
        self._groups = _groups(mapped, cells.astype(np.float64), readout)
        if noise is not None:
            self._prepare_reads()
            return
        offset, weights = (None, None) if errors is None else (errors.offset, errors.weights)
        columns, slots, corrections = _converted_columns(mapped, self._groups, readout)
        if offset is not None:  # one more row, driven by 1 in every read
            columns = [
                replace(
                    group_columns,
                    rows=np.append(group_columns.rows, mapped.shape[0]),
                    values=np.vstack([group_columns.values, self._per_column(group, self._activated(group, offset))]),
                )
                for group, group_columns in zip(self._groups, columns, strict=True)
            ]
        self._program = _SumProgram(
            readout,
            columns,
            slots,
            corrections,
            _converter_constant(mapped, readout),
            0 if offset is None else 1,
            None if weights is None else [self._per_column(group, weights) for group in self._groups],
            converted=True,
            precision=precision,
        )

    @classmethod
    def plan_name(cls, readout: Readout) -> str:
        """``"tiled"``, or ``"bitplane-analog"`` for several planes."""
        return "tiled" if readout.planes == 1 else "bitplane-analog"

    def _prepare_reads(self) -> None:
        mapped, readout = self.mapped, self.readout
        if self.noise is not None:
            self._variances = [(power, _groups(mapped, held, readout)) for power, held in self.noise.coefficients()]
        self._constant = _converter_constant(mapped, readout)
        self._matrices = []
        for group in self._groups:
            values = group.values
            if readout.subtraction == "analog":
                values = values[:, 0] - values[:, 1]
            self._matrices.append(np.ascontiguousarray(values.reshape(len(values), -1)))
        weights = None if self.errors is None else self.errors.weights
        if weights is None:
            weights = np.empty((mapped.tiles, _reads(mapped, readout), 0))
        self._bits = [
            (
                np.ascontiguousarray(self._per_read(group, weights)),
                np.ascontiguousarray(weights[group.tiles, -1][: group.references.shape[1]]),
            )
            for group in self._groups
        ]

    def _vectors(self, codes: Array, normals: FloatArray | None) -> FloatArray:
        mapped, readout = self.mapped, self.readout
        mapping = mapped.mapping
        slice_weights = mapping.encoding.slice_weights(mapping.weight_bits, mapping.cell_bits).astype(np.float64)
        step = 1.0 if readout.step is None else readout.step
        converter = (readout.step is not None, 1.0 / step, float(readout.low), float(readout.high))
        added = np.zeros((len(codes), mapped.shape[1]))
        taken_off = np.zeros_like(added)
        for pass_index, (sign, driven) in enumerate(input_passes(codes, readout)):
            for index, group in enumerate(self._groups):
                inputs = group.inputs(driven)
                _take_off_shift(taken_off, mapped, group, inputs, sign)
                for plane in range(readout.planes):
                    shift = plane * readout.dac_bits
                    x = (inputs >> shift) & readout.max_plane
                    weights = sign * 2.0**shift * slice_weights
                    matrix = self._matrices[index]
                    sums = x.astype(matrix.dtype) @ matrix
                    noise, reference_noise = self._noise(index, x, normals, pass_index, plane)
                    bits, reference_bits = self._bits[index]
                    if readout.subtraction == "analog":
                        sums = sums.reshape(len(codes), mapping.slices, -1)
                        kernels.convert_pairs(sums, noise, bits, weights, group.outputs, *converter, added)
                    else:
                        sums = sums.reshape(len(codes), mapping.sides, mapping.slices, -1)
                        references = x.astype(np.float64) @ group.references
                        baseline = readout.offset_levels * x.sum(axis=1).astype(np.float64)
                        kernels.convert_columns(
                            sums,
                            noise,
                            bits,
                            references,
                            reference_noise,
                            reference_bits,
                            baseline,
                            weights,
                            group.outputs,
                            group.owners,
                            *converter,
                            added,
                        )
        result = step * added - taken_off
        return result if self._constant is None else result + self._constant

    def _per_read(self, group: _Group, values: Array) -> Array:
        """Pick from `values` (tiles, reads of one activation, ...) what belongs to each of a group's sums."""
        mapping = self.mapped.mapping
        tiles = group.tiles[group.owners]
        first = group.places[None, :] * mapping.slices + np.arange(mapping.slices)[:, None]  # (slices, outputs here)
        if self.readout.subtraction == "analog":
            return np.asarray(values[tiles[None, :], first])
        column = first[None] * mapping.sides + np.arange(mapping.sides)[:, None, None]
        return np.asarray(values[tiles[None, None, :], column])

    def _activated(self, group: _Group, values: Array) -> Array:
        """What of `values` (..., tiles, activations x reads) belongs to a group's activation."""
        reads = _reads(self.mapped, self.readout)
        return values[..., group.activation * reads : (group.activation + 1) * reads]

    def _per_column(self, group: _Group, values: Array) -> Array:
        """Pick from `values` (tiles, reads of one activation, ...) what belongs to each of a group's columns."""
        own = self._per_read(group, values)
        own = own.reshape(-1, *values.shape[2:])
        return np.concatenate([own, values[group.tiles, -1]]) if self.mapped.mapping.has_reference else own

    def _noise(
        self, index: int, x: Array, normals: FloatArray | None, pass_index: int, plane: int
    ) -> tuple[FloatArray, FloatArray]:
        """What is added at each converter's input, shaped as the sums; and at the reference columns'.

        One for each vector where reads are noisy, else one for all.
        """
        analog = self.readout.subtraction == "analog"
        mapping, group = self.mapped.mapping, self._groups[index]
        noise = reference_noise = None
        if normals is not None:
            total = at_references = np.zeros((len(x), 1))
            for power, groups in self._variances:
                driven_by, values = x.astype(np.float64) ** power, groups[index].values
                values = values.sum(axis=1, keepdims=True) if analog else values
                total = total + _in_order(driven_by, values.reshape(len(values), -1))
                at_references = at_references + _in_order(driven_by, groups[index].references)
            spread = np.sqrt(total)
            draws = self._activated(group, normals[:, pass_index, plane])  # (vectors, tiles, reads)
            noise = np.moveaxis(self._per_read(group, np.moveaxis(draws, 0, -1)), -1, 0)
            noise = noise * spread.reshape(noise.shape)
            if mapping.has_reference:
                reference_noise = draws[:, group.tiles, -1] * np.sqrt(at_references)
        if self.errors is not None and self.errors.offset is not None:
            here = self._activated(group, self.errors.offset)
            offset = self._per_read(group, here)[np.newaxis]
            noise = offset if noise is None else noise + offset
            if mapping.has_reference:
                at_columns = here[group.tiles, -1][np.newaxis]
                reference_noise = at_columns if reference_noise is None else reference_noise + at_columns
        shape = (0, 0, 0) if analog else (0, 0, 0, 0)
        noise = np.empty(shape) if noise is None else np.ascontiguousarray(noise)
        if reference_noise is None:
            reference_noise = np.empty((len(noise), 0))
        return noise, np.ascontiguousarray(reference_noise)


def _converted_columns(
    mapped: MappedMatrix, groups: list[_Group], readout: Readout
) -> tuple[list[_Columns], int, _Corrections]:
    """The columns that pass a converter, group by group; how many outputs they serve; and what these take off."""
    mapping = mapped.mapping
    slice_weights = mapping.encoding.slice_weights(mapping.weight_bits, mapping.cell_bits).astype(np.float64)
    outputs = slots = mapped.shape[1]
    columns: list[_Columns] = []
    taken: list[tuple[Array, int]] = []
    for group in groups:
        if readout.subtraction == "analog":
            values, signs = (group.values[:, 0] - group.values[:, 1])[:, np.newaxis], [1.0]
        else:
            values, signs = group.values, [1.0, -1.0][: mapping.sides]
        weights = np.repeat([sign * weight for sign in signs for weight in slice_weights], len(group.outputs))
        targets = np.tile(group.outputs, len(signs) * mapping.slices)
        flat = values.reshape(len(group.rows), -1)
        sum_slot = -1
        if mapping.has_reference:
            tiles = len(group.tiles)
            flat = np.concatenate([flat, group.references], axis=1)
            weights = np.concatenate([weights, np.full(tiles, slice_weights[-1])])
            targets = np.concatenate([targets, slots + np.arange(tiles)])
            taken += [(group.outputs[group.owners == t], slots + t) for t in range(tiles)]
            slots += tiles
        elif mapping.sides == 1:
            sum_slot = slots
            taken.append((group.outputs, slots))
            slots += 1
        columns.append(_Columns(group.rows, flat, weights, targets, sum_slot))
    factor = 1.0 if mapping.has_reference else 2.0 ** (mapping.weight_bits - 1)
    return columns, outputs, _Corrections(slots, tuple(taken), factor, inside=mapping.has_reference)


class BitplanePlan(Plan):
    """Whole levels, a converter for each read: bit planes by table look-up, or by AND and popcount on packed words.

    Four rows of a column have 16 partial sums; a byte shuffle looks up one of them for 32 images at once. Where its
    bounds are not met (wide cells, g_min currents before a digital subtraction, a machine without AVX2) bits are
    counted instead.
    """

    name = "bitplane"

    def __init__(
        self,
        mapped: MappedMatrix,
        cells: Array,
        readout: Readout,
        noise: Noise | None,
        reason: str,
        precision: str,
        errors: ConverterErrors | None,
    ) -> None:
        super().__init__(mapped, cells, readout, noise, reason, precision, errors)
        bits = mapped.mapping.cell_bits
        self._constant = _converter_constant(mapped, readout)
        try:
            columns = _converted_columns(mapped, _groups(mapped, cells.astype(np.float64), readout), readout)
            self._program = _BitSerialProgram(readout, *columns, self._constant)
        except ValueError:
            self._program = None
        else:
            return
        self._packed = []
        for group in _groups(mapped, cells.astype(np.uint8), readout):
            driven, sides, slices, outputs = group.values.shape
            words = -(-driven // 64)
            values = np.empty((sides * slices * outputs, bits, words), np.uint64)
            kernels.pack_planes(group.values.reshape(driven, -1).T.astype(np.int64), bits, values)
            values = values.reshape(sides, slices, outputs, bits, words).transpose(0, 1, 3, 4, 2)
            references = np.empty((group.references.shape[1], bits, words), np.uint64)
            kernels.pack_planes(group.references.T.astype(np.int64), bits, references)
            self._packed.append(
                (group, np.ascontiguousarray(values), np.ascontiguousarray(references.transpose(1, 2, 0)))
            )

    def _vectors(self, codes: Array, normals: FloatArray | None) -> FloatArray:
        mapped, readout = self.mapped, self.readout
        mapping = mapped.mapping
        slice_weights = mapping.encoding.slice_weights(mapping.weight_bits, mapping.cell_bits).astype(np.float64)
        assert readout.step is not None
        added = np.zeros((len(codes), mapped.shape[1]))
        taken_off = np.zeros_like(added)
        input_bits = readout.planes * readout.dac_bits
        for sign, driven in input_passes(codes, readout):
            for group, values, references in self._packed:
                inputs = np.ascontiguousarray(group.inputs(driven))
                _take_off_shift(taken_off, mapped, group, inputs, sign)
                packed = np.empty((len(codes), input_bits, values.shape[3]), np.uint64)
                kernels.pack_planes(inputs, input_bits, packed)
                kernels.bitplane_reads(
                    packed,
                    values,
                    references,
                    readout.dac_bits,
                    readout.planes,
                    float(sign),
                    readout.subtraction == "analog",
                    readout.offset_levels,
                    slice_weights,
                    group.outputs,
                    group.owners,
                    1.0 / readout.step,
                    float(readout.low),
                    float(readout.high),
                    added,
                )
        result = readout.step * added - taken_off
        return result if self._constant is None else result + self._constant


_local = threading.local()


def _workspace(size: int, dtype: Any) -> Array:
    """A scratch array of the calling thread, kept between calls: fresh memory costs a page fault every 4 KiB."""
    buffers: dict[str, Array] = _local.__dict__.setdefault("buffers", {})
    bytes_needed = size * np.dtype(dtype).itemsize
    if "bytes" not in buffers or len(buffers["bytes"]) < bytes_needed + 64:
        buffers["bytes"] = np.empty(bytes_needed + 64, np.uint8)
    start = -buffers["bytes"].ctypes.data % 64  # 16 float32 must not straddle two cache lines
    return buffers["bytes"][start : start + bytes_needed].view(dtype)


def _in_order(left: FloatArray, right: FloatArray) -> FloatArray:
    """A matrix product that sums in the order of the rows, on any number of threads."""
    result = np.zeros((len(left), right.shape[1]))
    kernels.add_product(left, right, result)
    return result


def _input_offset(readout: Readout, column_sums: Array) -> FloatArray | None:
    """What the offset of signed inputs adds to each output, given its column's sum; ``None`` where there is none."""
    if not readout.signed or readout.signed_inputs != "offset":
        return None
    return 2.0 ** (readout.input_bits - 1) * column_sums.astype(np.float64)


def _converter_constant(mapped: MappedMatrix, readout: Readout) -> FloatArray | None:
    """What is taken off digitally where the driven codes hold the offset of signed inputs."""
    return _input_offset(readout, -mapped.codes().astype(np.int64).sum(axis=0))


def _take_off_shift(taken_off: FloatArray, mapped: MappedMatrix, group: _Group, inputs: Array, sign: int) -> None:
    """Add the weight shift of an encoding without pairs and without a reference column to `taken_off`."""
    mapping = mapped.mapping
    if mapping.sides == 1 and not mapping.has_reference:
        shift = sign * 2.0 ** (mapping.weight_bits - 1) * inputs.sum(axis=1, dtype=np.float64)
        taken_off[:, group.outputs] += shift[:, None]


def largest_reads(mapped: MappedMatrix, cells: Array, readout: Readout) -> float:
    """Largest magnitude that any read of these cells could give a converter, whatever the inputs.

    In level steps times plane code; the range argument that decides whether a converter can err.
    """
    largest = 0.0
    for group in _groups(mapped, np.asarray(cells, dtype=np.float64), readout):
        if readout.subtraction == "analog":
            values = group.values[:, 0] - group.values[:, 1]
            positive, negative = np.maximum(values, 0).sum(axis=0), np.maximum(-values, 0).sum(axis=0)
            column = max(positive.max(initial=0.0), negative.max(initial=0.0))
        else:
            column = max(group.values.sum(axis=0).max(initial=0.0), group.references.sum(axis=0).max(initial=0.0))
            column += readout.offset_levels * len(group.rows)
        largest = max(largest, float(column) * readout.max_plane)
    return largest


def _conversions(mapped: MappedMatrix, readout: Readout, codes: Array, cells: Array) -> Iterator[FloatArray]:
    """What these inputs give to the converters, in level steps times plane code: arrays (vectors, columns)."""
    for group in _groups(mapped, cells, readout):
        values = group.values[:, 0] - group.values[:, 1] if readout.subtraction == "analog" else group.values
        matrix = np.concatenate([values.reshape(len(group.rows), -1), group.references], axis=1)
        for _, driven in input_passes(codes, readout):
            inputs = group.inputs(driven)
            for plane in range(readout.planes):
                x = ((inputs >> (plane * readout.dac_bits)) & readout.max_plane).astype(matrix.dtype)
                sums = (x @ matrix).astype(np.float64)
                if readout.subtraction == "digital":
                    sums += readout.offset_levels * x.sum(axis=1, keepdims=True, dtype=np.float64)
                yield sums


def largest_conversion(mapped: MappedMatrix, readout: Readout, codes: Array, cells: Array | None = None) -> float:
    """Largest magnitude that these inputs give to any converter of a die without faults or errors.

    Parameters
    ----------
    mapped
        The matrix on its tiles.
    readout
        Planes, signs and subtraction; its converter is not used.
    codes
        Input codes, shape ``(vectors, inputs)``.
    cells
        What reads see of the cells of such a die, in level units; ``None`` for the levels themselves.

    Returns
    -------
    float
        In level steps times plane code.
    """
    if cells is None:
        exact = mapped.mapping.rows * mapped.mapping.max_level * readout.max_plane < _FLOAT32_INTEGERS
        cells = mapped.levels.astype(np.float32 if exact else np.float64)
    else:
        cells = cells.astype(np.float64)
    return max((float(np.abs(s).max(initial=0.0)) for s in _conversions(mapped, readout, codes, cells)), default=0.0)


def clipped_share(mapped: MappedMatrix, readout: Readout, codes: Array, cells: Array) -> float | None:
    """Share of conversions beyond the converters' codes, for these inputs; noise and offsets left out.

    Parameters
    ----------
    mapped, readout, codes
        As :func:`largest_conversion`.
    cells
        What reads see of the cells, in level units, shape ``(tiles, rows, columns)``.

    Returns
    -------
    float or None
        ``None`` without converters, or without a conversion.
    """
    if readout.step is None:
        return None
    clipped = total = 0
    for sums in _conversions(mapped, readout, codes, cells.astype(np.float64)):
        wanted = np.floor(sums * (1.0 / readout.step) + 0.5)
        clipped += int(((wanted < readout.low) | (wanted > readout.high)).sum())
        total += wanted.size
    return clipped / total if total else None


def choose_plan(
    mapped: MappedMatrix, cells: Array, readout: Readout, *, whole: bool, noisy: bool, erring: bool = False
) -> tuple[type[Plan], str]:
    """The cheapest exact plan for a layer, and why.

    Parameters
    ----------
    mapped
        Where every slice of every weight sits.
    cells
        What its cells hold, in level units, shape ``(tiles, rows, columns)``; read only where `whole`.
    readout
        Converters, planes and signs.
    whole
        Whether all cells sit on whole levels.
    noisy
        Whether reads are noisy.
    erring
        Whether drivers have offsets, or converters offsets or bits of wrong weight.
    """
    held = ("cells on whole levels" if whole else "conductances off the levels") + (", read noise" if noisy else "")
    planes = "one plane" if readout.planes == 1 else f"each of {readout.planes} planes"
    if erring:
        return TiledPlan, f"{held}; drivers or converters with errors of their own, on {planes}"
    if readout.step is None:
        if noisy and mapped.mapping.has_reference:
            return (
                TiledPlan,
                f"{held}; no converter; a tile's outputs share the noise of its reference column",
            )
        return ExactPlan if whole and not noisy else FoldedPlan, f"{held}; no converter"
    converter = f"{readout.converter_bits}-bit converter"
    if whole and not noisy:
        bound = readout.high if readout.low == 0 else min(readout.high, -readout.low)
        if readout.step == 1.0 and largest_reads(mapped, cells, readout) <= bound:
            return ExactPlan, f"{held}; {converter} in unit steps that no read can leave"
        within = bool(((cells >= 0) & (cells <= mapped.mapping.max_level)).all())  # a stuck value need not be a level
        if readout.planes > 1 and within:
            return BitplanePlan, f"{held}; lossy {converter} on each of {readout.planes} planes"
    return TiledPlan, f"{held}; {converter} on {planes}"


def make_plan(
    mapped: MappedMatrix,
    cells: Array,
    readout: Readout,
    noise: Noise | None = None,
    errors: ConverterErrors | None = None,
    *,
    precision: Literal["single", "double"] = "single",
) -> Plan:
    """Choose the cheapest exact way to compute a layer of a die, and prepare it.

    Parameters
    ----------
    mapped
        Where every slice of every weight sits.
    cells
        What the die's cells hold, in level units, shape ``(tiles, rows, columns)``.
    readout
        Converters, planes and signs.
    noise
        Read noise, or ``None``.
    errors
        Offsets and bit weights of drivers and converters, or ``None``.
    precision
        ``"single"``, or ``"double"`` for sums of conductances off the levels that equal the reference bit for bit.
    """
    cells = np.where(mapped.used, cells, 0)
    whole = bool((cells == np.rint(cells)).all())
    errors = errors if errors is not None and errors.any else None
    kind, reason = choose_plan(mapped, cells, readout, whole=whole, noisy=noise is not None, erring=errors is not None)
    return kind(mapped, cells, readout, noise, reason, precision, errors)
