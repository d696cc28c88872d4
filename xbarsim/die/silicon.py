"""What is broken in the arrays of one layer of one die, and how its drivers and converters err.

All of it is drawn from the seed alone, before anything is programmed: a mitigation may look at it (through a
diagnosis) and change what is programmed, but not what is broken.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.design import AdcErrors, Converter, DacErrors, Design
from xbarsim.devices import BrokenLines, FaultKind, FaultMap, warn_outside
from xbarsim.die.streams import Purpose, generator
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.mapping import Reading

__all__ = ["Converters", "Drivers", "Silicon"]

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, eq=False)
class Drivers:
    """The drivers of the word lines of some arrays.

    Attributes
    ----------
    gain
        Of each driver, 0 for a dead one; shape ``(tiles, rows)``.
    offset
        Added to its plane code in every read, in steps of that code, shape ``(tiles, rows)``.
    """

    gain: FloatArray
    offset: FloatArray

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    @entrance
    def draw(cls, errors: DacErrors, tiles: int, rows: int, rng: np.random.Generator) -> Drivers:
        """Draw the drivers of some arrays."""
        gain = 1.0 + errors.gain * rng.standard_normal((tiles, rows))
        offset = errors.offset * rng.standard_normal((tiles, rows))
        alive = rng.random((tiles, rows)) >= errors.dead
        return cls(gain=np.maximum(gain, 0.0) * alive, offset=offset)


@dataclass(frozen=True, kw_only=True, eq=False)
class Converters:
    """The converters of some arrays; each serves some neighbouring reads in turn.

    Attributes
    ----------
    gain
        Of each converter, 0 for a dead one; shape ``(tiles, converters)``.
    offset
        Added to its input, in level steps times plane code, 0 for a dead one; shape ``(tiles, converters)``.
    weights
        Weights of its bits in codes, lowest first, shape ``(tiles, converters, bits)``; ``None`` for binary ones. Those
        of a dead converter, which gives 0 by its gain, are binary.
    """

    gain: FloatArray
    offset: FloatArray
    weights: FloatArray | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @classmethod
    @entrance
    def draw(
        cls, errors: AdcErrors, converter: Converter, tiles: int, count: int, rng: np.random.Generator
    ) -> Converters:
        """Draw `count` converters for each array, made as `converter`, which has a step."""
        assert converter.step is not None
        assert converter.bits is not None
        gain = np.maximum(1.0 + errors.gain * rng.standard_normal((tiles, count)), 0.0)
        offset = errors.offset * converter.step * rng.standard_normal((tiles, count))
        alive = rng.random((tiles, count)) >= errors.dead
        weights = None
        if errors.capacitor_mismatch > 0:
            weights = errors.weights(converter.bits, (tiles, count), rng)
            weights[~alive] = 2.0 ** np.arange(converter.bits)
        return cls(gain=gain * alive, offset=offset * alive, weights=weights)


@dataclass(frozen=True, kw_only=True, eq=False)
class Silicon:
    """The arrays of one layer of one die as they come out of the fab.

    Attributes
    ----------
    faults
        Which cells are stuck, and where.
    lines
        Which lines are broken; ``None`` if the design's lines do not break.
    drivers, converters
        ``None`` where the design has ideal ones.
    """

    faults: FaultMap
    lines: BrokenLines | None = None
    drivers: Drivers | None = None
    converters: Converters | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def broken_cells(self) -> FaultMap:
        """Which cells are stuck, those of open lines too: no current flows in them, as if they were stuck at 0 S."""
        if self.lines is None:
            return self.faults
        cut = self.lines.open_word_lines[:, :, np.newaxis] | self.lines.open_bit_lines[:, np.newaxis]
        kinds = np.where(cut, np.uint8(FaultKind.STUCK_AT), np.uint8(0))
        return FaultMap.from_dense(kinds, np.zeros(kinds.shape)).overlay(self.faults)

    @classmethod
    @entrance
    def draw(
        cls,
        design: Design,
        reading: Reading,
        converter: Converter,
        *,
        seed: int,
        index: int,
        faults: FaultMap | None = None,
        spare_rows: int = 0,
        spare_columns: int = 0,
    ) -> Silicon:
        """Draw the arrays of one layer.

        Parameters
        ----------
        design
            How cells and lines break, and how drivers and converters err.
        reading
            How many arrays the layer takes, and how many converters each has.
        converter
            How the converters are made.
        seed
            Root seed of the die.
        index
            Number of the layer in its network.
        faults
            A fault map, used instead of the design's fault model.
        spare_rows, spare_columns
            Lines that every array has beside those of the mapping.

        Raises
        ------
        InputError
            If `faults` has another shape than the layer's arrays.

        Warns
        -----
        StuckValueWarning
            If cells are stuck at conductances outside the range of the design's cell.
        """
        tiles, rows, columns = reading.matrix.levels.shape
        shape = tiles, rows + spare_rows, columns + spare_columns
        cell, bits = design.cell, design.mapping.cell_bits
        if faults is not None:
            faults.check_shape(shape)
            warn_outside(faults.outside(cell, bits), "the fault map")
        elif design.faults is None:
            faults = FaultMap.empty(shape)
        else:
            faults = design.faults.sample(shape, generator(seed, index, Purpose.FAULTS))
            drawn = faults.outside(cell, bits)
            if drawn:
                # Of the model, not of this die: the same words for all layers and dies, which Python shows once.
                outside = design.faults.outside(cell, bits) or drawn
                warn_outside(outside, f"the design's {type(design.faults).__name__}")
        lines = drivers = converters = None
        if design.line_faults is not None:
            lines = design.line_faults.sample(shape, generator(seed, index, Purpose.LINES))
        dac, adc = design.periphery.dac_errors, design.periphery.adc_errors
        if dac is not None:
            drivers = Drivers.draw(dac, tiles, shape[1], generator(seed, index, Purpose.DRIVERS))
        if adc is not None:
            reads = reading.reads + spare_columns // (2 if reading.paired else 1)
            count = -(-reads // design.periphery.columns_sharing_errors)
            converters = Converters.draw(adc, converter, tiles, count, generator(seed, index, Purpose.CONVERTERS))
        return cls(faults=faults, lines=lines, drivers=drivers, converters=converters)
