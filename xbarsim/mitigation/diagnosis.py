"""What a test of a die finds out about its faults: what is known is not always true."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from xbarsim.devices import FaultKind, FaultMap
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_choice, check_instance, check_integer, check_memory, check_real

__all__ = ["Diagnosis", "Granularity", "KindCoverage"]

#: How finely a test tells where a fault is: which cell, or only how many a line or a tile has.
Granularity = Literal["cell", "word_line", "bit_line", "tile"]

_BLOCK = 1 << 20  # cells that are looked at together: bounds the memory


@dataclass(frozen=True, kw_only=True)
class KindCoverage:
    """The share of the faults of each kind that a test finds.

    Attributes
    ----------
    stuck_off, stuck_on, stuck_at
        Probability that a cell stuck at g_min, at g_max, or at a conductance of its own is found.

    Raises
    ------
    InputError
        If one is outside [0, 1].
    """

    stuck_off: float = 1.0
    stuck_on: float = 1.0
    stuck_at: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            share = check_real(field.name, getattr(self, field.name), at_least=0.0, at_most=1.0)
            object.__setattr__(self, field.name, share)


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A test that tells which cells of a die are stuck, and how: each with some probability, independently.

    What it believes is not always so. It misses faults, takes healthy cells for stuck ones, confuses the kinds, errs in
    the conductance of a stuck cell, or does not tell where in a line or a tile a fault is. The default is an exact map.

    Attributes
    ----------
    coverage
        Probability that a fault is found: one number, or one a kind.
    false_alarm
        Probability that a healthy cell is believed to be stuck.
    alarms_on
        Of these cells, the share believed to be stuck on; the rest is believed to be stuck off.
    confusion
        Probability that a cell that is found to be stuck on is believed to be stuck off, and the other way round. A
        cell stuck at a conductance of its own has no opposite, and a test that finds it has measured it.
    granularity
        ``"cell"``: the test tells which cells are stuck. ``"word_line"``, ``"bit_line"`` (rows, columns) or ``"tile"``:
        it tells how many cells of each are stuck and in which way, but not which of them. The believed map then holds
        as many, of the same kinds, at places in that line or tile that are guessed, all equally likely. So what
        compares lines or tiles (spare lines, which tile to place in which array) works as with a map of cells, and
        what adapts single cells is misled nearly always.
    value_sigma
        Standard deviation of the error with which the conductance of a cell stuck at one of its own is measured, S. The
        error is normal; a conductance that would be measured below 0 is believed to be 0. A cell that is believed to
        be stuck on or off is believed to be at g_max or g_min exactly.
    time_per_cell
        Duration of the test of an array over the number of its cells, s; ``None`` where it is not known.
    energy_per_cell
        Energy of the test of a cell, J; ``None`` where it is not known.

    Raises
    ------
    InputError
        If a probability or share is outside [0, 1], or `value_sigma`, a time or an energy is negative.

    Examples
    --------
    >>> import numpy as np
    >>> from xbarsim.devices import StuckFaults
    >>> from xbarsim.mitigation import Diagnosis
    >>> rng = np.random.default_rng(1)
    >>> broken = StuckFaults(on=0.05, off=0.01, count="exact").sample((1, 100, 100), rng)
    >>> known = Diagnosis(coverage=0.9, false_alarm=0.01).known(broken, rng)
    >>> difference = broken.difference(known)
    >>> len(broken), difference.removed.size, difference.added.size
    (600, 74, 77)
    """

    coverage: float | KindCoverage = 1.0
    false_alarm: float = 0.0
    alarms_on: float = 0.5
    confusion: float = 0.0
    granularity: Granularity = "cell"
    value_sigma: float = 0.0
    time_per_cell: float | None = None
    energy_per_cell: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.coverage, KindCoverage):
            object.__setattr__(self, "coverage", check_real("coverage", self.coverage, at_least=0.0, at_most=1.0))
        for name in ("false_alarm", "alarms_on", "confusion"):
            object.__setattr__(self, name, check_real(name, getattr(self, name), at_least=0.0, at_most=1.0))
        check_choice("granularity", self.granularity, get_args(Granularity))
        object.__setattr__(self, "value_sigma", check_real("value_sigma", self.value_sigma, at_least=0.0))
        for name in ("time_per_cell", "energy_per_cell"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, check_real(name, getattr(self, name), at_least=0.0))

    @property
    def found_shares(self) -> dict[FaultKind, float]:
        """The share of the faults of each kind that is found."""
        coverage = self.coverage
        if not isinstance(coverage, KindCoverage):
            return dict.fromkeys(FaultKind, coverage)
        return {kind: float(getattr(coverage, kind.name.lower())) for kind in FaultKind}

    @property
    def only_misses(self) -> bool:
        """Whether all that is believed is so: faults are missed, and nothing else goes wrong."""
        return not self.false_alarm and not self.confusion and not self.value_sigma and self.granularity == "cell"

    @entrance
    def time(self, cells: int) -> float | None:
        """Duration of the test of one array after another, s, or ``None`` where it is not known.

        Parameters
        ----------
        cells
            Of all arrays; those that are tested at once count once.
        """
        check_integer("cells", cells, at_least=0)
        return None if self.time_per_cell is None else self.time_per_cell * cells

    @entrance
    def energy(self, cells: int) -> float | None:
        """Energy of the test of all `cells`, J, or ``None`` where it is not known."""
        check_integer("cells", cells, at_least=0)
        return None if self.energy_per_cell is None else self.energy_per_cell * cells

    @entrance
    def known(self, faults: FaultMap, rng: np.random.Generator) -> FaultMap:
        """The faults that are believed to be there.

        Parameters
        ----------
        faults
            Those that are there.
        rng
            Source of the errors. In the same state, a test of higher coverage finds all that one of lower does, and one
            of more false alarms raises all that one of fewer does; what else differs between two tests changes neither.
        """
        check_instance("faults", faults, FaultMap)
        check_instance("rng", rng, np.random.Generator)
        shares = self.found_shares
        share = np.array([0.0, *(shares[kind] for kind in sorted(FaultKind))])
        hit = rng.random(len(faults)) < share[faults.kind]
        index, kind, value = faults.index[hit], faults.kind[hit], faults.value[hit]
        if not self.only_misses:
            # A stream for each way to err, so that none changes what another draws.
            confusing, measuring, alarming, guessing = map(np.random.default_rng, rng.integers(0, 2**63, 4).tolist())
            at = faults.kind == FaultKind.STUCK_AT
            confused = (confusing.random(len(faults)) < self.confusion) & ~at
            kind = np.where(confused, FaultKind.STUCK_OFF + FaultKind.STUCK_ON - faults.kind, faults.kind)[hit]
            measured = faults.value + self.value_sigma * measuring.standard_normal(len(faults))
            value = np.where(at, np.maximum(measured, 0.0), np.nan)[hit]
            if self.false_alarm > 0:
                alarms, how = self._alarms(faults, alarming)
                index, kind = np.concatenate([index, alarms]), np.concatenate([kind, how])
                value = np.concatenate([value, np.full(alarms.size, np.nan)])
            order = np.argsort(index)
            index, kind, value = index[order], kind[order], value[order]
            if self.granularity != "cell":
                index = _guessed_places(faults.shape, index, self.granularity, guessing)
                order = np.argsort(index)
                index, kind, value = index[order], kind[order], value[order]
        return FaultMap(shape=faults.shape, index=index, kind=kind, value=value, note=faults.note)

    def _alarms(
        self, faults: FaultMap, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Healthy cells that are believed to be stuck, and how: two numbers a cell, so that more only add to fewer."""
        check_memory("faults", f"{faults.cells} cells", faults.cells)
        index, kind = [], []
        for start in range(0, faults.cells, _BLOCK):
            alarm, how = rng.random((2, min(_BLOCK, faults.cells - start)))
            alarm[faults.index[slice(*np.searchsorted(faults.index, [start, start + _BLOCK]))] - start] = 1.0
            cells = np.flatnonzero(alarm < self.false_alarm)
            index.append(cells + start)
            kind.append(np.where(how[cells] < self.alarms_on, int(FaultKind.STUCK_ON), int(FaultKind.STUCK_OFF)))
        return np.concatenate([np.empty(0, np.int64), *index]), np.concatenate([np.empty(0, np.int64), *kind])


def _guessed_places(
    shape: tuple[int, int, int], index: npt.NDArray[np.int64], granularity: Granularity, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """Flat positions in the same lines or tiles as those of `index`, which are sorted.

    The cells of every line (tile) are exchanged at random: no two go to one place, and each goes where it would go if
    others were not found.
    """
    tiles, rows, columns = shape
    check_memory("faults", f"{tiles} tiles of {rows} x {columns} cells", tiles * rows * columns)
    places = index.copy()
    bounds = np.searchsorted(index, np.arange(tiles + 1) * (rows * columns)).tolist()
    cells = np.arange(rows * columns).reshape(rows, columns)
    for tile in range(tiles):
        if granularity == "tile":
            moved = rng.permutation(rows * columns)
        else:
            moved = rng.permuted(cells, axis=1 if granularity == "word_line" else 0).reshape(-1)
        own = slice(bounds[tile], bounds[tile + 1])
        places[own] = moved[index[own] - tile * cells.size] + tile * cells.size
    return places
