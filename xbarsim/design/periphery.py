"""Converters and drivers around each array, as they are designed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from xbarsim.design.converter import AdcErrors
from xbarsim.design.drive import DacErrors
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real

__all__ = ["Periphery"]


@dataclass(frozen=True, kw_only=True)
class Periphery:
    """Converters around each array, and how signs are handled.

    Parameters
    ----------
    input_bits
        Bits of an input code, 1 to 16. Signed inputs use one of them for the sign.
    dac_bits
        Bits of the code applied to a word line at a time, 1 to `input_bits`; an input takes
        ``ceil(input_bits / dac_bits)`` reads, its *planes*.
    adc_bits
        Bits of the converter at each column, 1 to 24. ``None`` with no `adc_range` means an ideal read-out
        that does not quantise; ``None`` with ``"lossless"`` means as many bits as that takes.
    adc_range
        What the converter's codes span, in level steps times plane code (a fully-on cell at the highest level M
        driven by code x contributes M x): ``"calibrated"`` (the largest sum seen on the calibration set, one range
        per layer; the default when `adc_bits` is given), ``"full"`` (the largest sum the tiles could give),
        ``"lossless"`` (the same, in unit steps, refused if `adc_bits` are too few), or a number.
        Steps are never finer than one unit: sums of whole levels need no finer ones.
    subtraction
        Where the two columns of a pair are subtracted: ``"analog"`` (before a signed converter; the default for
        pairs) or ``"digital"`` (after two unsigned conversions; the only choice for single-column encodings).
    signed_inputs
        How inputs that can be negative are applied: ``"two_pass"`` (positive then negative magnitudes) or
        ``"offset"`` (2^(input_bits-1) is added and its known product taken off digitally).
    active_rows
        Word lines driven at a time, or ``None`` for all of an array. Rows 0 to n - 1 are one read, rows n to 2 n - 1
        the next, each with its own conversion; the codes are added. The other rows are not selected.
    columns_per_adc
        Neighbouring columns (pairs, where these are subtracted before the converter) that one converter serves in turn.
        They share its errors, its area and its time: an array has ``ceil(inputs / columns_per_adc)`` converters, and a
        read takes `columns_per_adc` conversions. ``None``: the design leaves that to the hardware, so that the cost
        counts what the component card has, and each column has errors of its own.
    skip_idle
        Whether an array is not read with a plane that drives none of its word lines, and a word line draws nothing
        where its code is 0 (event-driven reads): what is computed stays the same, energy and time fall with the
        activity of the inputs. Refused where a read of nothing would give something: drivers or converters with
        offsets, and read noise that cells have without a voltage.
    adc_errors, dac_errors
        How converters and drivers differ from ideal ones, or ``None``.
    drift_compensation
        ``"layer"``: the sums of a layer are multiplied digitally by one factor, found by reading all word lines of its
        arrays after programming and again at the age of the die (global drift compensation: V. Joshi et al., Nature
        Communications 11, 2473 (2020), doi:10.1038/s41467-020-16108-9). It takes a multiplication for each output, and
        two numbers a layer; both are in the cost. ``None``: nothing.

    Raises
    ------
    InputError
        For a value out of bounds, a contradiction between `adc_bits` and `adc_range`, or errors of converters where
        there are none.
    """

    input_bits: int = 8
    dac_bits: int = 1
    adc_bits: int | None = None
    adc_range: Literal["calibrated", "full", "lossless"] | float | None = None
    subtraction: Literal["analog", "digital"] | None = None
    signed_inputs: Literal["two_pass", "offset"] = "two_pass"
    active_rows: int | None = None
    columns_per_adc: int | None = None
    skip_idle: bool = False
    adc_errors: AdcErrors | None = None
    dac_errors: DacErrors | None = None
    drift_compensation: Literal["layer"] | None = None

    def __post_init__(self) -> None:
        check_integer("input_bits", self.input_bits, at_least=1, at_most=16)
        check_integer("dac_bits", self.dac_bits, at_least=1, at_most=self.input_bits)
        if self.adc_bits is not None:
            check_integer("adc_bits", self.adc_bits, at_least=1, at_most=24)
            if self.adc_range is None:
                object.__setattr__(self, "adc_range", "calibrated")
        if isinstance(self.adc_range, str):
            check_choice("adc_range", self.adc_range, ("calibrated", "full", "lossless"))
        elif self.adc_range is not None:
            object.__setattr__(self, "adc_range", check_real("adc_range", self.adc_range, above=0.0))
        if self.adc_bits is None and self.adc_range not in (None, "lossless"):
            raise InputError(f"adc_bits must be given when adc_range is {self.adc_range!r}, got None")
        if self.subtraction is not None:
            check_choice("subtraction", self.subtraction, ("analog", "digital"))
        check_choice("signed_inputs", self.signed_inputs, ("two_pass", "offset"))
        if self.active_rows is not None:
            check_integer("active_rows", self.active_rows, at_least=1)
        if self.columns_per_adc is not None:
            check_integer("columns_per_adc", self.columns_per_adc, at_least=1)
        check_instance("skip_idle", self.skip_idle, bool)
        check_instance("adc_errors", self.adc_errors, (AdcErrors, type(None)))
        check_instance("dac_errors", self.dac_errors, (DacErrors, type(None)))
        if self.drift_compensation is not None:
            check_choice("drift_compensation", self.drift_compensation, ("layer",))
        if self.adc_errors is not None and self.adc_range is None:
            raise InputError(
                f"adc_errors must be None for an ideal read-out (no adc_bits and no adc_range), got {self.adc_errors!r}"
            )

        if self.skip_idle and self.has_offsets:
            raise InputError(
                "skip_idle must be False where drivers have offsets, or converters offsets or mismatched capacitors "
                "(a read of nothing then gives a code), got True"
            )

    @property
    def columns_sharing_errors(self) -> int:
        """Neighbouring columns (or pairs) that are read with the same converter errors."""
        return 1 if self.columns_per_adc is None else self.columns_per_adc

    @property
    def has_offsets(self) -> bool:
        """Whether drivers have offsets, or converters offsets or bits of wrong weight: what no conductance holds."""
        adc, dac = self.adc_errors, self.dac_errors
        return (dac is not None and dac.offset > 0) or (
            adc is not None and (adc.offset > 0 or adc.capacitor_mismatch > 0)
        )
