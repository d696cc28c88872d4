"""Sums of bit planes by table look-up."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.design import Converter
from xbarsim.engine import kernels
from xbarsim.engine.backends.blocked import BlockedProgram, driving, ends, finishing, joined
from xbarsim.engine.layout import Layout
from xbarsim.engine.window import Scaling

__all__ = ["LookUpProgram", "look_up_misfit"]

Array = npt.NDArray[Any]

_FLOAT32_INTEGERS = 2.0**24  # every integer up to here is a float32
_INPUT_BITS = 8  # that a table look-up serves at a time
_LARGEST_ENTRY, _LARGEST_SUM, _LARGEST_TOTAL = 2**7 - 1, 2**15 - 1, 2**31 - 1


def _filled(rows: Array) -> Array:
    """Rows in fours, filled up with the last one."""
    return np.concatenate([rows, np.repeat(rows[-1:], -len(rows) % 4)])


def _in_fours(values: Array) -> Array:
    """Values in fours of rows, filled up with zeros: shape (fours, 4, columns)."""
    padded = np.concatenate([values, np.zeros((-len(values) % 4, values.shape[1]))])
    return padded.reshape(-1, 4, values.shape[1])


def _largest_sum(layout: Layout) -> float:
    """The largest magnitude of a column's sum over one plane."""
    largest = max((float(np.abs(g.values).sum(axis=0).max(initial=0.0)) for g in layout.columns), default=0.0)
    return largest * layout.drive.max_plane


def _largest_entry(layout: Layout) -> float:
    """The largest magnitude of a partial sum of four rows."""
    fours = (np.abs(_in_fours(group.values)).sum(axis=1).max(initial=0.0) for group in layout.columns)
    return max((float(entry) for entry in fours), default=0.0)


def _unit(layout: Layout) -> float:
    """The largest power of two that all columns' counts are multiples of, at most 1: codes are added as integers."""
    unit = 1.0
    for group in layout.columns:
        while not bool((group.counts / unit == np.rint(group.counts / unit)).all()):
            unit /= 2
    return unit


def _exact_inverse(converter: Converter, largest: float) -> np.float32 | None:
    """A float32 reciprocal of the step that gives every whole sum up to `largest` its float64 code, or ``None``.

    Proved by trying all sums.
    """
    sums = np.arange(-int(largest), int(largest) + 1)
    codes = np.floor(sums * (1.0 / converter.unit) + 0.5)
    guess = np.float32(1.0 / converter.unit)
    for candidate in (guess, np.nextafter(guess, np.float32(0)), np.nextafter(guess, np.float32(2))):
        if (np.floor(sums.astype(np.float32) * candidate + np.float32(0.5)) == codes).all():
            return np.float32(candidate)
    return None


def look_up_misfit(layout: Layout) -> str | None:
    """Why tables cannot serve a layout of whole values, or ``None`` where they can."""
    drive, converter = layout.drive, layout.converter
    if not kernels.HAS_BYTE_SHUFFLE:
        return "the processor has no byte shuffle (AVX2)"
    if drive.input_bits > _INPUT_BITS:
        return f"inputs have more than {_INPUT_BITS} bits"
    if layout.single and converter.offset_levels > 0:
        return "columns that are read singly carry g_min currents"
    if _largest_entry(layout) > _LARGEST_ENTRY:
        return f"four rows of a column can add up to more than {_LARGEST_ENTRY}"
    largest, codes = _largest_sum(layout), max(-converter.low, converter.high)
    if largest > _LARGEST_SUM:
        return f"a column can add up to more than {_LARGEST_SUM}"
    if codes * 2**_INPUT_BITS > _FLOAT32_INTEGERS:
        return f"codes of more than {int(_FLOAT32_INTEGERS) >> _INPUT_BITS}"
    added: dict[int, float] = {}
    unit = _unit(layout)
    for group in layout.columns:
        # columns that serve a whole tile have a slot of their own
        keys = np.where(group.outputs >= 0, group.outputs, -1 - group.tiles)
        for key, count in zip(keys.tolist(), np.abs(group.counts / unit).tolist(), strict=True):
            added[key] = added.get(key, 0.0) + count
    most = max(added.values(), default=0.0) * codes * 2.0**_INPUT_BITS
    inputs = sum(len(group.rows) for group in layout.columns) * 2.0**_INPUT_BITS
    if max(most, inputs) * drive.passes > _LARGEST_TOTAL:
        return "the codes of an output can add up to more than 32 bits"
    if _exact_inverse(converter, largest) is None:
        return "no float32 step gives every sum its code"
    return None


class LookUpProgram(BlockedProgram):
    """Sums of bit planes by table look-up; for :func:`xbarsim.engine.kernels.bit_serial_products`.

    Only for layouts that :func:`look_up_misfit` finds nothing against.
    """

    kernel: ClassVar[str] = "look-up"
    dtype = np.uint8
    slot_bytes = 4

    def __init__(self, layout: Layout) -> None:
        groups = layout.columns
        super().__init__(layout, [_filled(group.rows) for group in groups], [len(group.rows) for group in groups])
        self._unit = _unit(layout)
        self._columns = self._columns._replace(counts=self._columns.counts / self._unit)
        tables, fits, biases = [], [], []
        for group in groups:
            fours = _in_fours(group.values)
            table = np.empty((fours.shape[2], len(fours), 16), np.int8)
            fits.append(np.empty(fours.shape[2], np.int64))
            biases.append(np.empty(fours.shape[2], np.uint8))
            kernels.make_tables(fours.reshape(-1, fours.shape[2]), table, fits[-1], biases[-1])
            tables.append(table.reshape(-1))
        self._tables = kernels.Tables(
            values=joined(tables, np.int8),
            starts=ends([len(table) for table in tables])[:-1],
            fits=joined(fits, np.int64),
            biases=joined(biases, np.uint8),
        )
        converter, largest = layout.converter, _largest_sum(layout)
        inverse = _exact_inverse(converter, largest)
        assert inverse is not None
        self._converters = kernels.Converters(
            quantises=True,
            single=layout.single,
            offset_levels=0.0,
            inverse_step=inverse,
            low=np.float32(converter.low),
            high=np.float32(converter.high),
            bits=np.empty((0, 0)),
        )
        inverse_step, planes = 1.0 / converter.unit, layout.drive.planes
        self._whole = kernels.WholeConverters.of(inverse_step, converter.low, converter.high, largest, planes)
        self._codes = (
            kernels.CodeTable.of(inverse_step, converter.low, converter.high, planes)
            if kernels.HAS_BYTE_PERMUTE
            else None
        )
        self._signs = np.array(layout.drive.signs, dtype=np.int64)

    def _drive(self) -> kernels.Driving:
        return driving(self._layout, planes=False, mask=2**_INPUT_BITS - 1)

    def _launch(
        self,
        blocked: Array,
        positions: kernels.Positions,
        columns: kernels.Columns,
        scaling: Scaling,
        first_image: int,
        result: Array,
    ) -> None:
        drive = self._layout.drive
        finish = finishing(self._layout, self._slots, scaling, self._layout.converter.unit * self._unit)
        kernels.bit_serial_products(
            blocked,
            self._signs,
            (drive.dac_bits, drive.planes),
            positions,
            columns,
            self._tables,
            self._converters,
            self._whole,
            self._codes,
            finish,
            result,
        )
