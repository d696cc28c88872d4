"""Analog-to-digital converters: energy of a conversion and area against resolution.

Two kinds of model: a table of one converter at several resolutions (:class:`AdcTable`), and a regression over
published converters (:class:`AdcRegression`), a lower bound of what is possible at a node and a rate.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from xbarsim.cost.units import AREA, ENERGY, FREQUENCY, LENGTH, NUMBER
from xbarsim.cost.values import Reference, Series, SourcedValue, check_dimension, check_sources, check_text
from xbarsim.foundation.cards import CardFolder
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import (
    InputError,
    check_instance,
    check_integer,
    check_real,
)

__all__ = ["MOST_ADC_BITS", "Adc", "AdcCard", "AdcRegression", "AdcTable", "adc_names"]

MOST_ADC_BITS = 32
"""More than any converter has: beyond it an extrapolated cost says nothing."""


@dataclass(frozen=True, kw_only=True)
class Adc:
    """A converter; use one of its subclasses.

    Attributes
    ----------
    rate
        Conversions per second that its place asks for; it sets the time to read an array.
    nameplate_rate
        Conversions per second at which its published power holds; peak power is charged at this rate.
    """

    rate: SourcedValue
    nameplate_rate: SourcedValue

    def __post_init__(self) -> None:
        check_fields(self)
        for name, rate in (("rate", self.rate), ("nameplate_rate", self.nameplate_rate)):
            check_dimension(f"adc.{name}", rate.unit, FREQUENCY, "GS/s")
            check_real(f"adc.{name}", rate.value, above=0.0)

    def energy_per_conversion(self, bits: int) -> float:
        """Energy per conversion at a resolution of `bits`, J."""
        raise NotImplementedError

    def area_each(self, bits: int) -> float:
        """Area of one converter at a resolution of `bits`, m2."""
        raise NotImplementedError

    def power(self, bits: int) -> float:
        """Power of one converter at a resolution of `bits`, converting all the time, W."""
        return self.energy_per_conversion(bits) * self.nameplate_rate.si

    def note(self, bits: int) -> str | None:
        """What a reader should know about the cost at `bits`, or ``None``."""
        raise NotImplementedError

    def sourced_values(self) -> Iterator[tuple[str, Any, Any]]:
        """Its values: name, value, and what holds its unit and source."""
        for name in ("rate", "nameplate_rate"):
            sourced = getattr(self, name)
            yield f"adc.{name}", sourced.value, sourced


@dataclass(frozen=True, kw_only=True)
class AdcTable(Adc):
    """An analog-to-digital converter at several resolutions.

    Attributes
    ----------
    bits
        The resolutions, one after the other, at least three.
    energy
        Energy per conversion at each, not falling.
    area
        Area at each, not falling.
    rate, nameplate_rate
        As in :class:`Adc`.

    Notes
    -----
    Outside the table: towards more bits, the two parts of a successive-approximation converter go on, one
    growing by the same amount and one (the capacitive DAC) doubling with every bit, both taken from the last
    three entries; towards fewer, the ratio of the first two entries goes on.
    """

    bits: tuple[int, ...]
    energy: Series
    area: Series

    def __post_init__(self) -> None:
        check_fields(self)
        check_instance("adc.bits", self.bits, tuple)
        for index, bits in enumerate(self.bits):
            check_integer(f"adc.bits[{index}]", bits, at_least=1)
        if len(self.bits) < 3 or any(upper - lower != 1 for lower, upper in pairwise(self.bits)):
            raise InputError(
                f"adc.bits must be at least three resolutions, each one bit above the last, got {self.bits!r}"
            )
        for name, series in (("energy", self.energy), ("area", self.area)):
            if len(series.values) != len(self.bits):
                raise InputError(
                    f"adc.{name}.values must be as many as adc.bits ({len(self.bits)}), got {len(series.values)}"
                )
        check_dimension("adc.energy", self.energy.unit, ENERGY, "pJ")
        check_dimension("adc.area", self.area.unit, AREA, "um2")
        super().__post_init__()

    def _at(self, bits: int, values: tuple[float, ...]) -> float:
        bits = check_integer("adc_bits", bits, at_least=1, at_most=MOST_ADC_BITS)
        first, last = self.bits[0], self.bits[-1]
        if bits < first:
            return float(values[0] * (values[0] / values[1]) ** (first - bits))
        if bits <= last:
            return values[bits - first]
        step = values[-1] - values[-2]
        doubling = max(step - (values[-2] - values[-3]), 0.0)  # what the last step grew by
        beyond = bits - last
        # steps: step + 2 d, step + 2 d + 4 d, ... = step + (2**(k+1) - 2) d
        return values[-1] + beyond * (step - 2 * doubling) + (2.0 ** (beyond + 2) - 4.0) * doubling

    def energy_per_conversion(self, bits: int) -> float:
        """Energy per conversion at a resolution of `bits`, J."""
        return self._at(bits, self.energy.si)

    def area_each(self, bits: int) -> float:
        """Area of one converter at a resolution of `bits`, m2."""
        return self._at(bits, self.area.si)

    def note(self, bits: int) -> str | None:
        """Whether `bits` is outside the table."""
        if self.bits[0] <= bits <= self.bits[-1]:
            return None
        return f"ADC of {bits} bits is outside the table ({self.bits[0]}..{self.bits[-1]}): extrapolated"

    def sourced_values(self) -> Iterator[tuple[str, Any, Any]]:
        """Its values: name, value, and what holds its unit and source."""
        yield from super().sourced_values()
        for name, series in (("energy", self.energy), ("area", self.area)):
            for bits, value in zip(self.bits, series.values, strict=True):
                yield f"adc.{name} at {bits} bits", value, series


@dataclass(frozen=True, kw_only=True)
class AdcRegression(Adc):
    """Regression over published converters: about the best that can be had at a node, a rate and a resolution.

    Attributes
    ----------
    technology_node
        Node t of the converter.
    least_bits
        Fewest bits it was fitted for; fewer cost the same.
    merit_intercept, merit_slope
        Schreier's figure of merit against the rate f: intercept - slope ln(f / Hz), dB.
    merit_best_intercept, merit_best_slope
        Its highest value against the bits b: intercept + slope b, dB.
    energy_intercept, energy_node, energy_bits
        Correction of the energy's logarithm: intercept + node ln(t / nm) - bits ln b.
    area_intercept, area_node, area_rate, area_energy
        Logarithm of the area in um2: intercept + node ln(t / nm) + rate ln(f / Hz) + energy ln(E / pJ).

    Notes
    -----
    E = exp(correction) / (2 10^((merit - SNDR) / 10)) in pJ, with SNDR = 20 b log10(2) + 10 log10(1.5) dB and merit
    the lower of its two lines. `b` is the effective number of bits.
    """

    technology_node: SourcedValue
    least_bits: int
    merit_intercept: SourcedValue
    merit_slope: SourcedValue
    merit_best_intercept: SourcedValue
    merit_best_slope: SourcedValue
    energy_intercept: SourcedValue
    energy_node: SourcedValue
    energy_bits: SourcedValue
    area_intercept: SourcedValue
    area_node: SourcedValue
    area_rate: SourcedValue
    area_energy: SourcedValue

    def __post_init__(self) -> None:
        check_fields(self)
        super().__post_init__()
        check_dimension("adc.technology_node", self.technology_node.unit, LENGTH, "nm")
        check_real("adc.technology_node", self.technology_node.value, above=0.0)
        check_integer("adc.least_bits", self.least_bits, at_least=1, at_most=MOST_ADC_BITS)
        for name in _COEFFICIENTS:
            check_dimension(f"adc.{name}", getattr(self, name).unit, NUMBER, "1")

    @property
    def _log_node(self) -> float:
        return math.log(self.technology_node.si / 1e-9)

    def energy_per_conversion(self, bits: int) -> float:
        """Energy per conversion at a resolution of `bits`, J."""
        bits = max(check_integer("adc_bits", bits, at_least=1, at_most=MOST_ADC_BITS), self.least_bits)
        merit = min(
            self.merit_intercept.value - self.merit_slope.value * math.log(self.rate.si),
            self.merit_best_intercept.value + self.merit_best_slope.value * bits,
        )
        ratio = 20 * bits * math.log10(2) + 10 * math.log10(1.5)
        correction = (
            self.energy_intercept.value
            + self.energy_node.value * self._log_node
            - self.energy_bits.value * math.log(bits)
        )
        return 1e-12 * math.exp(correction) / (2 * 10 ** ((merit - ratio) / 10))

    def area_each(self, bits: int) -> float:
        """Area of one converter at a resolution of `bits`, m2."""
        logarithm = (
            self.area_intercept.value
            + self.area_node.value * self._log_node
            + self.area_rate.value * math.log(self.rate.si)
            + self.area_energy.value * math.log(self.energy_per_conversion(bits) / 1e-12)
        )
        return 1e-12 * math.exp(logarithm)

    def note(self, bits: int) -> str | None:
        """That it is a lower bound."""
        fewer = f"; {bits} bits are charged as {self.least_bits}" if bits < self.least_bits else ""
        return (
            "ADC costs are a regression over published converters, about the best possible at their node and "
            f"rate{fewer}"
        )

    def sourced_values(self) -> Iterator[tuple[str, Any, Any]]:
        """Its values: name, value, and what holds its unit and source."""
        yield from super().sourced_values()
        for name in ("technology_node", *_COEFFICIENTS):
            sourced = getattr(self, name)
            yield f"adc.{name}", sourced.value, sourced


_COEFFICIENTS = (
    "merit_intercept",
    "merit_slope",
    "merit_best_intercept",
    "merit_best_slope",
    "energy_intercept",
    "energy_node",
    "energy_bits",
    "area_intercept",
    "area_node",
    "area_rate",
    "area_energy",
)


@dataclass(frozen=True, kw_only=True)
class AdcCard:
    """A converter to put in the place of that of a hardware card, see :meth:`xbarsim.cost.Hardware.with_adc`.

    Attributes
    ----------
    name
        The card's name.
    description
        One line.
    adc
        The converter; its rates give way to those of its place.
    references
        Sources of its values.
    """

    name: str
    description: str
    adc: Adc
    references: tuple[Reference, ...]

    def __post_init__(self) -> None:
        check_fields(self)
        check_text("name", self.name)
        check_sources([(name, sourced.source) for name, _, sourced in self.adc.sourced_values()], self.references)

    @classmethod
    @entrance
    def load(cls, name_or_path: str | os.PathLike[str]) -> AdcCard:
        """Read a card: a name from :func:`adc_names`, or a path ending in ``.toml``.

        Raises
        ------
        InputError
            If no card has that name, or a value in it is out of bounds.
        FileFormatError
            If the card cannot be read, is not TOML, or has unknown keys or wrong types.
        """
        return CARDS.load(name_or_path)

    @entrance
    def at(self, *, rate: SourcedValue, nameplate_rate: SourcedValue) -> Adc:
        """The converter at the rates of a place."""
        return replace(self.adc, rate=rate, nameplate_rate=nameplate_rate)


#: The converter cards that come with the project.
CARDS = CardFolder("adc", AdcCard, Path(__file__).parent / "cards", ending=".adc.toml", undated=True)


def adc_names() -> list[str]:
    """The names of the converter cards that come with the project, sorted."""
    return CARDS.names()
