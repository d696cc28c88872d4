"""What a network uses of a chip, as plain numbers: all that cost knows of a network, its encoding and its packing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from xbarsim.cost.activity import Activity
from xbarsim.cost.adc import MOST_ADC_BITS
from xbarsim.foundation.validation import InputError, check_count, check_instance, check_integer, check_real

__all__ = ["LayerUse"]


@dataclass(frozen=True, kw_only=True)
class LayerUse:
    """What one layer of a network uses.

    Attributes
    ----------
    name
        The layer's name; an empty one, of a model that is one layer, becomes ``"(model)"``.
    arrays
        Crossbar arrays that one copy of it occupies.
    rows, columns
        Cells of one array.
    adc_bits, dac_bits
        Resolution of the converters.
    reads_per_vector
        Reads of each array for one input vector: input planes times passes, times `row_groups`.
    macs_per_vector
        Useful multiply-accumulates for one input vector, over all its arrays.
    vectors_per_image
        Input vectors for one image. A mean over images need not be whole: energies then are means too, and times are
        those of the next whole number.
    cells_power
        Mean static power (V^2 G) of the cells of all arrays of one copy together while they are read, W; ``None``
        for the card's published array power.
    driven_rows, used_columns, cells_used
        Rows, columns and cells in use over all arrays of one copy; ``None`` for all.
    conversions
        Values that the converters of one copy take at each read: the used columns, or half of them where pairs are
        subtracted before the converter; ``None`` for the used columns.
    inputs, outputs
        Elements of the input and of the output vector; ``None`` for one array's rows and columns.
    input_bits
        Bits in which an element of either is kept and moved.
    row_groups
        Groups of rows that the design drives one after the other, each in a read of its own.
    subtractions
        Digital subtractions after each read, over all arrays of one copy: of a reference column's code, or of a sum of
        inputs, from outputs. Codes of pairs that are subtracted digitally are conversions, added up like others.
    input_sums
        Digital sums of an array's inputs that each read needs besides, over all arrays of one copy.
    index_bits
        Bits of storage that packing needs to know which rows and outputs one copy holds.
    copies
        Copies of the layer that share its vectors (weight replication).
    redundancy
        Arrays that do the work of one, all read each time.
    spare_columns
        Columns of each array beyond `columns` that stand in for broken ones: they cost area, and power only in the
        place of another. A spare column goes to the converter of the one whose place it takes.
    columns_per_adc
        Converter inputs that one converter takes in turn, as the design says: an array then has ``ceil(converter_inputs
        / columns_per_adc)`` converters. ``None`` where the design does not say: as many as the card has.
    converter_inputs
        Of one array: its columns, or half of them where pairs are subtracted before the converter; ``None`` for the
        columns.
    activity
        How much of it is driven and read as its inputs are; ``None`` where no inputs were looked at.
    skip_idle
        Whether reads without a driven word line are left out, see :class:`xbarsim.design.Periphery`; without
        `activity`, none is known to be.
    """

    name: str
    arrays: int
    rows: int
    columns: int
    adc_bits: int
    dac_bits: int
    reads_per_vector: int
    macs_per_vector: int
    vectors_per_image: float
    cells_power: float | None = None
    driven_rows: int | None = None
    used_columns: int | None = None
    cells_used: int | None = None
    conversions: int | None = None
    inputs: int | None = None
    outputs: int | None = None
    input_bits: int = 8
    row_groups: int = 1
    subtractions: int = 0
    input_sums: int = 0
    index_bits: int = 0
    copies: int = 1
    redundancy: int = 1
    spare_columns: int = 0
    columns_per_adc: int | None = None
    converter_inputs: int | None = None
    activity: Activity | None = None
    skip_idle: bool = False

    def __post_init__(self) -> None:
        check_instance("name", self.name, str)
        if not self.name:
            object.__setattr__(self, "name", "(model)")
        elif not self.name.strip():
            raise InputError(f"name must be a text with a character in it, or empty, got {self.name!r}")
        for field, at_least, at_most in (
            ("arrays", 0, None),
            ("rows", 1, None),
            ("columns", 1, None),
            ("adc_bits", 1, MOST_ADC_BITS),
            ("dac_bits", 1, 16),
            ("reads_per_vector", 1, None),
            ("macs_per_vector", 0, None),
            ("input_bits", 1, 64),
            ("row_groups", 1, None),
            ("subtractions", 0, None),
            ("input_sums", 0, None),
            ("index_bits", 0, None),
            ("copies", 1, None),
            ("redundancy", 1, None),
            ("spare_columns", 0, None),
        ):
            value = getattr(self, field)
            number = check_integer(f"{self.name}: {field}", value, at_least=at_least, at_most=at_most)
            object.__setattr__(self, field, number)
        vectors = check_count(f"{self.name}: vectors_per_image", self.vectors_per_image)
        object.__setattr__(self, "vectors_per_image", vectors)
        most = {
            "driven_rows": self.arrays * self.rows,
            "used_columns": self.arrays * self.columns,
            "cells_used": self.arrays * self.rows * self.columns,
            "conversions": self.arrays * self.columns if self.used_columns is None else self.used_columns,
        }
        for field, bound in most.items():
            if getattr(self, field) is not None:
                check_integer(f"{self.name}: {field}", getattr(self, field), at_least=0, at_most=bound)
        optional: tuple[tuple[str, int | None], ...] = (
            ("inputs", None),
            ("outputs", None),
            ("columns_per_adc", None),
            ("converter_inputs", self.columns),
        )
        for field, highest in optional:
            if getattr(self, field) is not None:
                check_integer(f"{self.name}: {field}", getattr(self, field), at_least=1, at_most=highest)
        if self.reads_per_vector % self.row_groups:
            raise InputError(
                f"{self.name}: row_groups must divide reads_per_vector ({self.reads_per_vector}), got {self.row_groups}"
            )
        check_instance(f"{self.name}: activity", self.activity, (Activity, type(None)))
        check_instance(f"{self.name}: skip_idle", self.skip_idle, bool)
        if self.cells_power is not None:
            power = check_real(f"{self.name}: cells_power", self.cells_power, at_least=0.0)
            if self.arrays == 0 and power > 0:
                raise InputError(f"{self.name}: cells_power must be 0 or None where arrays is 0, got {power!r}")
            object.__setattr__(self, "cells_power", power)

    @property
    def occupied(self) -> int:
        """Arrays of all copies, redundant ones included."""
        return self.arrays * self.copies * self.redundancy

    @property
    def whole_vectors(self) -> int:
        """`vectors_per_image`, rounded up: what an image that needs them waits for."""
        return math.ceil(self.vectors_per_image)

    @property
    def macs_per_image(self) -> float:
        """Useful multiply-accumulates for one image."""
        return self.macs_per_vector * self.vectors_per_image

    @property
    def in_turn(self) -> int | None:
        """Converter inputs that the busiest converter of an array takes in turn, `None` where the card says."""
        if self.columns_per_adc is None:
            return None
        return min(self.columns_per_adc, self.counted("converter_inputs"))

    @property
    def converters(self) -> int | None:
        """Converters of one array, `None` where the card says."""
        if self.columns_per_adc is None:
            return None
        return -(-self.counted("converter_inputs") // self.columns_per_adc)

    def share(self, field: str) -> float:
        """The part of what could be done that is done: a field of `activity` where idle reads are skipped, else 1."""
        return getattr(self.activity, field) if self.skip_idle and self.activity is not None else 1.0

    def counted(self, field: str) -> int:
        """One of the fields that may be ``None``, such as `driven_rows`, with its default filled in."""
        value = getattr(self, field)
        if value is not None:
            return int(value)
        if field == "conversions":
            return self.counted("used_columns")
        defaults = {
            "driven_rows": self.arrays * self.rows,
            "used_columns": self.arrays * self.columns,
            "cells_used": self.arrays * self.rows * self.columns,
            "inputs": self.rows,
            "outputs": self.columns,
            "converter_inputs": self.columns,
        }
        return defaults[field]
