"""March tests of memory cells: what they find, what they take for a fault, how long they take, and what they cost.

A march test writes and reads every cell of an array in a fixed order of operations. It is data here, and simulated cell
by cell: a cell is believed to be stuck where a read is further than a tolerance from what was written.
"""

from __future__ import annotations

import math
import re
from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from xbarsim.devices import Cell, Conductances, FaultKind, FaultMap, UniformConductances
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import (
    InputError,
    check_choice,
    check_instance,
    check_integer,
    check_memory,
    check_real,
    shown,
)
from xbarsim.mitigation.diagnosis import Diagnosis, KindCoverage

__all__ = [
    "MNSIM_OPERATIONS",
    "PUMA_OPERATIONS",
    "ArrayOperations",
    "ArrayTest",
    "CountedTest",
    "MarchElement",
    "MarchTest",
    "array_test",
    "array_test_names",
]

Order = Literal["up", "down", "any"]
Operation = Literal["w0", "w1", "r0", "r1"]
FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class ArrayOperations:
    """What it takes to write and to read cells.

    Attributes
    ----------
    name
        Of the device or chip.
    write_time, read_time
        Of one operation, s.
    write_energy, read_energy
        Of one operation, J; ``None`` where it is not known.
    cells_per_write, cells_per_read
        Cells that one operation writes or reads.
    source
        Where the numbers come from.

    Raises
    ------
    InputError
        If a time or energy is negative, or a number of cells below 1.
    """

    name: str
    write_time: float
    read_time: float
    write_energy: float | None = None
    read_energy: float | None = None
    cells_per_write: int = 1
    cells_per_read: int = 1
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("name", "source"):
            check_instance(name, getattr(self, name), str)
        for name in ("write_time", "read_time", "write_energy", "read_energy"):
            if getattr(self, name) is not None or name.endswith("time"):
                object.__setattr__(self, name, check_real(name, getattr(self, name), at_least=0.0))
        for name in ("cells_per_write", "cells_per_read"):
            check_integer(name, getattr(self, name), at_least=1)


PUMA_OPERATIONS = ArrayOperations(
    name="puma2019",
    write_time=351e-6 / 32,
    read_time=328e-6 / 32,
    write_energy=676e-9 / 32,
    read_energy=208e-9 / 32,
    cells_per_write=128 * 128,
    cells_per_read=128 * 128,
    source=(
        "A. Ankit et al., PUMA: A Programmable Ultra-efficient Memristor-based Accelerator for Machine Learning "
        "Inference, ASPLOS 2019, doi:10.1145/3297858.3304049: include/constants.py of its simulator, a 32nd of what it "
        "states for the serial write and read of a 128 x 128 array."
    ),
)
"""Writing or reading a whole array of 128 x 128 cells of PUMA: 10.97 us and 21.1 nJ, 10.25 us and 6.5 nJ."""

MNSIM_OPERATIONS = ArrayOperations(
    name="zhu2023",
    write_time=10e-9,
    read_time=3.16e-9,
    cells_per_write=256,
    cells_per_read=256,
    source=(
        "Z. Zhu et al., MNSIM 2.0, doi:10.1109/TCAD.2023.3251696: the default pulses of its SimConfig.ini, 10 ns to "
        "write and 3.16 ns to read; without energies. That one pulse writes or reads a row of its 256 x 256 cells is "
        "assumed, and no verification of what was written is counted."
    ),
)
"""One pulse for a row of 256 cells, as MNSIM 2.0 has them by default: 10 ns to write, 3.16 ns to read."""


class ArrayTest(metaclass=ABCMeta):
    """A test that writes and reads every cell of an array some times.

    Attributes
    ----------
    name
        Of the test.
    source
        Where it comes from, and how sure that is.
    """

    name: str
    source: str

    @abstractmethod
    def counts(self) -> tuple[int, int, int]:
        """How often each cell is written, how often it is read, and the writes that an array needs besides."""

    def _operations_needed(self, operations: ArrayOperations, cells: int) -> tuple[float, float]:
        check_integer("cells", cells, at_least=1, at_most=2**62)
        writes, reads, extra = self.counts()
        return (writes * cells + extra) / operations.cells_per_write, reads * cells / operations.cells_per_read

    @entrance
    def time(self, operations: ArrayOperations, cells: int) -> float:
        """Duration of the test of an array, s.

        Parameters
        ----------
        operations
            What it takes to write and to read.
        cells
            Of the array.
        """
        writes, reads = self._operations_needed(operations, cells)
        return writes * operations.write_time + reads * operations.read_time

    @entrance
    def energy(self, operations: ArrayOperations, cells: int) -> float | None:
        """Energy of the test of an array, J, or ``None`` where that of an operation is not known; as :meth:`time`."""
        writes, reads = self._operations_needed(operations, cells)
        if operations.write_energy is None or operations.read_energy is None:
            return None
        return writes * operations.write_energy + reads * operations.read_energy


@dataclass(frozen=True, kw_only=True)
class CountedTest(ArrayTest):
    """A published test of which only the number of its operations is known: its cost can be told, not what it finds.

    Attributes
    ----------
    name, source
        Which test, and where the numbers come from.
    writes, reads
        How often each cell is written and read.
    extra_writes
        Writes that an array needs besides.
    """

    name: str
    writes: int
    reads: int
    extra_writes: int = 0
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("name", "source"):
            check_instance(name, getattr(self, name), str)
        for name in ("writes", "reads", "extra_writes"):
            check_integer(name, getattr(self, name), at_least=0, at_most=2**31)

    def counts(self) -> tuple[int, int, int]:
        """How often each cell is written, how often it is read, and the writes that an array needs besides."""
        return self.writes, self.reads, self.extra_writes


@dataclass(frozen=True, kw_only=True)
class MarchElement:
    """Operations that are done one after another on a cell, before the test goes on to the next cell.

    Attributes
    ----------
    order
        In which order of the addresses the cells come: ``"up"``, ``"down"``, or ``"any"``.
    operations
        ``"w0"`` and ``"w1"`` write low and high conductance (g_min, g_max), ``"r0"`` and ``"r1"`` read and expect it.
    """

    order: Order
    operations: tuple[Operation, ...]

    def __post_init__(self) -> None:
        check_choice("order", self.order, get_args(Order))
        if not isinstance(self.operations, tuple | list) or not self.operations:
            raise InputError(f"operations must be at least one operation, got {shown(self.operations)}")
        object.__setattr__(self, "operations", tuple(self.operations))
        for place, operation in enumerate(self.operations):
            check_choice(f"operations[{place}]", operation, get_args(Operation))

    def __str__(self) -> str:
        return f"{self.order}({','.join(self.operations)})"


@dataclass(frozen=True, kw_only=True)
class MarchTest(ArrayTest):
    """A march test.

    Attributes
    ----------
    name, source
        Which test, and where it comes from.
    elements
        Its elements, in their order. Each read must expect what was written last.

    Raises
    ------
    InputError
        If there is no element, or a read expects something else than what was written last.

    Notes
    -----
    The simulation knows cells that are stuck, cells that miss their target, and noise. The order of addresses is for
    faults of decoders and of neighbours that disturb each other: it is kept, and changes nothing here.

    Examples
    --------
    >>> import numpy as np
    >>> from xbarsim.devices import Cell, StuckFaults
    >>> from xbarsim.mitigation import PUMA_OPERATIONS, array_test
    >>> test = array_test("march_c-")
    >>> str(test), test.writes, test.reads
    ('any(w0); up(r0,w1); up(r1,w0); down(r0,w1); down(r1,w0); any(r0)', 5, 5)
    >>> cell = Cell(g_min=1e-6, g_max=40e-6, levels=16)
    >>> rng = np.random.default_rng(1)
    >>> broken = StuckFaults(on=0.05, off=0.05).sample((1, 64, 64), rng)
    >>> test.find(broken, cell, tolerance=1e-6, rng=rng) == broken
    True
    >>> diagnosis = test.diagnosis(cell, tolerance=1e-6, read_sigma=0.3e-6, operations=PUMA_OPERATIONS)
    >>> round(diagnosis.false_alarm, 4), round(1e6 * diagnosis.time(128 * 128), 1)
    (0.0042, 106.1)
    """

    name: str
    elements: tuple[MarchElement, ...]
    source: str = ""

    def __post_init__(self) -> None:
        for name in ("name", "source"):
            check_instance(name, getattr(self, name), str)
        if not isinstance(self.elements, tuple | list) or not self.elements:
            raise InputError(f"elements must be at least one march element, got {shown(self.elements)}")
        object.__setattr__(self, "elements", tuple(self.elements))
        for place, element in enumerate(self.elements):
            check_instance(f"elements[{place}]", element, MarchElement)
        held = "nothing"
        for operation in self._operations:
            if operation[0] == "w":
                held = operation[1]
            elif operation[1] != held:
                raise InputError(f"elements must expect what was written last, got {operation} where it is {held}")

    @classmethod
    @entrance
    def parse(cls, notation: str, *, name: str = "march test", source: str = "") -> MarchTest:
        """A march test from its usual notation, such as ``any(w0); up(r0,w1); down(r1,w0)``.

        Raises
        ------
        InputError
            If it is none.
        """
        elements = []
        for part in notation.split(";"):
            found = re.fullmatch(r"\s*(\w+)\s*\(([\w\s,]*)\)\s*", part)
            if found is None:
                raise InputError(
                    f"notation must be elements such as up(r0,w1), parted by semicolons, got {shown(part)}"
                )
            operations: Any = tuple(word.strip() for word in found[2].split(","))
            order: Any = found[1]
            elements.append(MarchElement(order=order, operations=operations))
        return cls(name=name, elements=tuple(elements), source=source)

    def __str__(self) -> str:
        return "; ".join(map(str, self.elements))

    @property
    def _operations(self) -> tuple[Operation, ...]:
        return tuple(operation for element in self.elements for operation in element.operations)

    @property
    def writes(self) -> int:
        """How often each cell is written."""
        return sum(operation[0] == "w" for operation in self._operations)

    @property
    def reads(self) -> int:
        """How often each cell is read."""
        return sum(operation[0] == "r" for operation in self._operations)

    def counts(self) -> tuple[int, int, int]:
        """How often each cell is written, how often it is read, and 0."""
        return self.writes, self.reads, 0

    @entrance
    def find(
        self, faults: FaultMap, cell: Cell, *, tolerance: float, read_sigma: float = 0.0, rng: np.random.Generator
    ) -> FaultMap:
        """Run the test; the faults that it believes to be there.

        A cell is believed to be stuck where a read is further than `tolerance` from what was written. If it failed only
        where low conductance was expected it is believed to be stuck on, if only where high conductance was, stuck off.
        If both, its conductance is taken to be the mean of what was read, and it is believed to be stuck on or off
        where that is within the tolerance of g_max or g_min, else stuck at that conductance.

        Parameters
        ----------
        faults
            Those that are there.
        cell
            The memory cell. A sound one is programmed with its programming error anew at each write, and every read has
            its read noise, at its read voltage.
        tolerance
            S, above 0. NeuRRAM's programs aim within 1 uS of 40 uS; of 1,300 cells 0.77 % missed that after at most 50
            pulses (W. Wan et al., Nature 608, 504 (2022), doi:10.1038/s41586-022-04992-8: a notebook published beside
            it).
        read_sigma
            Standard deviation of what the read circuit adds to a read, S, at most 1.
        rng
            Source of the errors.
        """
        check_instance("rng", rng, np.random.Generator)
        tolerance = check_real("tolerance", tolerance, above=0.0)
        read_sigma = check_real("read_sigma", read_sigma, at_least=0.0, at_most=1.0)
        check_memory("faults", f"{faults.cells} cells, 64 bytes each", 64 * faults.cells)
        stuck_at = np.select(
            [faults.kind == FaultKind.STUCK_ON, faults.kind == FaultKind.STUCK_OFF],
            [cell.g_max, cell.g_min],
            faults.value,
        )
        held = np.full(faults.cells, np.nan)
        total = np.zeros(faults.cells)
        failed = {"0": np.zeros(faults.cells, bool), "1": np.zeros(faults.cells, bool)}
        target = {"0": cell.g_min, "1": cell.g_max}
        for operation in self._operations:
            state = operation[1]
            if operation[0] == "w":
                levels = np.full(faults.cells, int(state), np.uint8)
                held = cell.conductance(cell.settle(cell.program(levels, 1, rng), 1, rng), 1)
                held[faults.index] = stuck_at
            else:
                reading = _read(held, cell, read_sigma, rng)
                total += reading
                failed[state] |= np.abs(reading - target[state]) > tolerance
        index = np.flatnonzero(failed["0"] | failed["1"])
        high, low = failed["0"][index], failed["1"][index]
        mean = np.maximum(total[index] / max(self.reads, 1), 0.0)
        both = high & low
        on = np.where(both, np.abs(mean - cell.g_max) <= tolerance, high)
        off = np.where(both, ~on & (np.abs(mean - cell.g_min) <= tolerance), low)
        kind = np.select([on, off], [int(FaultKind.STUCK_ON), int(FaultKind.STUCK_OFF)], int(FaultKind.STUCK_AT))
        value = np.where(kind == FaultKind.STUCK_AT, mean, np.nan)
        return FaultMap(shape=faults.shape, index=index, kind=kind, value=value, note=faults.note)

    @entrance
    def diagnosis(
        self,
        cell: Cell,
        *,
        tolerance: float,
        read_sigma: float = 0.0,
        values: Conductances | None = None,
        operations: ArrayOperations | None = None,
        cells: int = 1 << 17,
        seed: int = 0,
    ) -> Diagnosis:
        """What the test is worth, from a run of it on sound cells and on cells stuck in each way.

        Parameters
        ----------
        cell, tolerance, read_sigma
            As for :meth:`find`.
        values
            Where cells stuck at a conductance of their own are; ``None`` for anywhere between g_min and g_max.
        operations
            What it takes to write and to read; ``None`` if time and energy are not wanted.
        cells
            How many of each are tested, 1 to 2**24: what happens to fewer than one in so many comes out as 0.
        seed
            Of their errors.

        Returns
        -------
        Diagnosis
            With the coverage of each kind; the confusion of those stuck on and off together; of the sound cells
            believed to be stuck, the share believed to be nearer g_max; and the root mean square error of the
            conductance of found cells that are stuck at one of their own, those taken for stuck on or off among them.
        """
        check_integer("cells", cells, at_least=1, at_most=2**24)
        check_integer("seed", seed, at_least=0)
        rng = np.random.default_rng(seed)
        law = UniformConductances(low=cell.g_min, high=cell.g_max) if values is None else values
        kinds = np.repeat(np.array([[0], [1], [2], [3]]), cells, axis=1)[np.newaxis]
        true = np.repeat(np.array([[np.nan], [cell.g_min], [cell.g_max], [np.nan]]), cells, axis=1)
        true[3] = law.draw(cells, rng)
        faults = FaultMap.from_dense(kinds, true[np.newaxis])
        found = self.find(faults, cell, tolerance=tolerance, read_sigma=read_sigma, rng=rng)
        group, place = np.divmod(found.index, cells)
        ends = {FaultKind.STUCK_OFF: cell.g_min, FaultKind.STUCK_ON: cell.g_max}
        believed = np.select([found.kind == kind for kind in ends], list(ends.values()), found.value)
        nearer_on = believed > (cell.g_min + cell.g_max) / 2
        counts = np.bincount(group, minlength=4)
        ended = (group == FaultKind.STUCK_OFF) | (group == FaultKind.STUCK_ON)
        confused = ended & (nearer_on != (group == FaultKind.STUCK_ON))
        error = (believed - true[group, place])[group == FaultKind.STUCK_AT]
        return Diagnosis(
            coverage=KindCoverage(
                stuck_off=counts[FaultKind.STUCK_OFF] / cells,
                stuck_on=counts[FaultKind.STUCK_ON] / cells,
                stuck_at=counts[FaultKind.STUCK_AT] / cells,
            ),
            false_alarm=counts[0] / cells,
            alarms_on=float(nearer_on[group == 0].mean()) if counts[0] else 0.5,
            confusion=float(confused.sum() / ended.sum()) if ended.any() else 0.0,
            value_sigma=math.sqrt(float(np.mean(error**2))) if error.size else 0.0,
            time_per_cell=None if operations is None else self.time(operations, 1),
            energy_per_cell=None if operations is None else self.energy(operations, 1),
        )


def _read(held: FloatArray, cell: Cell, read_sigma: float, rng: np.random.Generator) -> FloatArray:
    variance = np.full(held.shape, read_sigma**2)
    if cell.read_noise is not None and cell.noisy:
        variance += cell.read_noise.variance(held, cell.read_voltage)(np.ones(held.shape[-1:]))
    if not variance.any():
        return held
    return np.asarray(held + np.sqrt(variance) * rng.standard_normal(held.shape))


_GOOR = (
    "A. J. van de Goor, Using march tests to test SRAMs, IEEE Design and Test of Computers 10(1), 8-14 (1993), "
    "doi:10.1109/54.199799; "
)
_LIU = (
    "Fault modeling and efficient testing of memristor-based memory, IEEE Transactions on Circuits and Systems I "
    "(2021): its abstract, which gives the numbers of operations and not their order; authors and digital object "
    "identifier not verified."
)
_TESTS: tuple[ArrayTest, ...] = (
    MarchTest.parse(
        "any(w0); up(r0,w1); down(r1,w0)",
        name="mats+",
        source=f"{_GOOR}order as in two independent open implementations; the article was not read.",
    ),
    MarchTest.parse(
        "any(w0); up(r0,w1,r1); down(r1,w0,r0); any(r0)", name="march_y", source=f"{_GOOR}from memory, not verified."
    ),
    MarchTest.parse(
        "any(w0); up(r0,w1); up(r1,w0); down(r0,w1); down(r1,w0); any(r0)",
        name="march_c-",
        source=f"{_GOOR}order as in several independent open implementations; the article was not read.",
    ),
    CountedTest(name="enhanced_march", writes=8, reads=7, source=_LIU),
    CountedTest(name="march_rc", writes=4, reads=6, extra_writes=2, source=_LIU),
)


@entrance
def array_test_names() -> list[str]:
    """The names of the tests that come with the project, sorted."""
    return sorted(test.name for test in _TESTS)


@entrance
def array_test(name: str) -> ArrayTest:
    """A test that comes with the project, with its source.

    Parameters
    ----------
    name
        One of :func:`array_test_names`.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    check_choice("name", name, array_test_names())
    return next(test for test in _TESTS if test.name == name)
