"""What matching a probe with a gallery costs, on crossbars and on a digital machine."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from xbarsim.cost import OPERATIONS, CostReport, DigitalUse, Hardware, Workload, estimate
from xbarsim.foundation.tables import format_table
from xbarsim.network.crossbar import Crossbar
from xbarsim.sequences.time_shift import TimeShift
from xbarsim.sequences.warping import Warping

__all__ = ["MatchCost", "match_cost"]

_PRICES = "horowitz2014"


@dataclass(frozen=True, kw_only=True, eq=False)
class MatchCost:
    """Reads, energy and time of one match, beside the same match on a digital machine.

    A match is one probe against the whole gallery; figures are means over probes. **Only local distances are read from
    crossbars; the warping is digital on both sides.** Published fabrics of memristors for dynamic time warping (12 to
    43 times as fast, 51 to 287 times less energy: Xu et al., IEEE TCAD 37(4), 2018) compute the whole recurrence in
    analog circuits, so that their gains are not comparable with these.

    Attributes
    ----------
    report
        Hardware that the gallery occupies, with the digital operations of one match.
    local
        What turns reads into distances: ``|x|^2``, and for every pair of frames a multiplication by the scale and the
        additions of ``|x|^2`` and n.
    warping
        The recurrence, with the accesses to the rows that it keeps, and the least distance.
    digital
        What a digital machine does instead of reads: a multiply-accumulate for every number of every pair of frames,
        and the same additions.
    frames
        Frames of a probe, each a vector that is driven.
    cells
        Cells of the matrices that are warped.
    """

    report: CostReport
    local: DigitalUse
    warping: DigitalUse
    digital: DigitalUse
    frames: float
    cells: float

    @property
    def workload(self) -> Workload:
        """One match as the work of the hardware, one probe at a time."""
        return self.report.workload(pipelined=False)

    def _energy(self, use: DigitalUse) -> float:
        """Energy of digital operations, J."""
        card = self.report.hardware
        assert card.digital is not None
        prices = ((name, card.digital.energy(name, card.technology_node.si)) for name in OPERATIONS)
        return math.fsum(price * getattr(use, name) for name, price in prices if price is not None)

    @property
    def reads(self) -> float:
        """Reads of arrays."""
        return self.workload.layers[0].actions.read

    @property
    def conversions(self) -> float:
        """Conversions."""
        return self.workload.layers[0].actions.conversion

    @property
    def latency(self) -> float:
        """From the first read to the last product, s. The warping, for which no card has a time, is not in it."""
        return self.workload.latency

    @property
    def array_energy(self) -> float:
        """Energy of arrays, converters and what moves and adds up their results, J, with what is always on."""
        work = self.workload
        return work.dynamic_energy + work.static_power * work.interval

    @property
    def local_energy(self) -> float:
        """Energy of what turns reads into distances, J."""
        return self._energy(self.local)

    @property
    def warping_energy(self) -> float:
        """Energy of the warping, J, on either machine."""
        return self._energy(self.warping)

    @property
    def energy(self) -> float:
        """Energy of a match on crossbars, J."""
        return self.array_energy + self.local_energy + self.warping_energy

    @property
    def digital_energy(self) -> float:
        """Energy of the same match on a digital machine, J: arithmetic, and the rows that the warping keeps.

        Without other memories, so a lower bound, where rows are not so short that they fit into registers.
        """
        return self._energy(self.digital) + self.warping_energy

    @property
    def keeping_up(self) -> float:
        """Multiply-accumulates a second that a digital machine must do to have its distances in the same time.

        Infinite for a gallery of zeros, which takes no arrays and no time.
        """
        return self.digital.multiply_accumulates / self.latency if self.latency else math.inf

    def rows(self) -> list[dict[str, object]]:
        """The figures as rows with name, value and unit (SI)."""
        return [
            {"name": name, "value": value, "unit": unit}
            for name, value, unit in (
                ("frames of a probe", self.frames, "1"),
                ("reads of arrays", self.reads, "1"),
                ("conversions", self.conversions, "1"),
                ("cells warped", self.cells, "1"),
                ("energy of arrays", self.array_energy, "J"),
                ("energy of distances from reads", self.local_energy, "J"),
                ("energy of warping", self.warping_energy, "J"),
                ("energy", self.energy, "J"),
                ("energy, digital machine", self.digital_energy, "J"),
                ("time of reads", self.latency, "s"),
                ("digital machine as fast as the reads", self.keeping_up, "multiply-accumulates/s"),
            )
        ]

    def __str__(self) -> str:
        rows = [(str(row["name"]), f"{row['value']:.4g}", str(row["unit"])) for row in self.rows()]
        return "\n".join(
            [
                f"One probe against the gallery on {self.report.hardware.name}; only local distances are on crossbars",
                "",
                format_table(("", "value", "unit"), rows),
                "",
                "note: the warping has no time here; the digital machine has no memory but that of the warping's rows",
                *(f"note: {note}" for note in self.report.notes),
            ]
        )


def _operations(
    probes: npt.NDArray[np.int64], gallery: npt.NDArray[np.int64], rules: Warping | TimeShift
) -> tuple[float, DigitalUse]:
    """Cells, and digital operations, to warp a probe with every sequence of the gallery, as means over probes."""
    lengths, counts = np.unique(probes, return_counts=True)
    others, times = np.unique(gallery, return_counts=True)
    totals = np.zeros(4)
    for length, count in zip(lengths.tolist(), counts.tolist(), strict=True):
        for other, many in zip(others.tolist(), times.tolist(), strict=True):
            sizes = length, other
            each = (rules.cells(*sizes), *rules.operations(*sizes), rules.state_accesses(*sizes))
            totals += count * many * np.array(each, dtype=np.float64)
    cells, additions, comparisons, accesses = (totals / len(probes)).tolist()
    return cells, DigitalUse(
        name="gallery", kind="warping", elementwise=additions, state_accesses=accesses,
        comparisons=comparisons + len(gallery) - 1,  # and the least of all
    )  # fmt: skip


def match_cost(
    crossbar: Crossbar,
    probes: npt.NDArray[np.int64],
    gallery: npt.NDArray[np.int64],
    rules: Warping | TimeShift,
    hardware: Hardware | str,
) -> MatchCost:
    """Cost of a match; as :meth:`xbarsim.sequences.Gallery.cost`, with the lengths of probes and gallery."""
    card = Hardware.load(hardware) if isinstance(hardware, str) else hardware
    card = card if card.digital is not None else card.with_digital(_PRICES)
    frames = float(probes.mean())
    numbers, columns = crossbar.shape
    cells, warping = _operations(probes, gallery, rules)
    pairs = frames * columns
    own = frames * numbers  # multiply-accumulates of |x|^2
    local = DigitalUse(name="gallery", kind="distances from reads", multiply_accumulates=own, elementwise=3 * pairs)
    digital = DigitalUse(
        name="gallery", kind="distances", multiply_accumulates=own + pairs * numbers, elementwise=2 * pairs
    )
    alone = crossbar.cost(card)
    uses = [replace(layer.use, vectors_per_image=frames) for layer in alone.layers]
    work = (*_others(alone.digital, frames), local, warping)
    known = estimate(uses, card, digital=work).notes
    report = estimate(uses, card, digital=work, remarks=[note for note in alone.notes if note not in known])
    return MatchCost(report=report, local=local, warping=warping, digital=digital, frames=frames, cells=cells)


def _others(uses: Iterable[DigitalUse], frames: float) -> list[DigitalUse]:
    """What a crossbar computes digitally besides for each vector, for all frames."""
    return [replace(use, **{name: getattr(use, name) * frames for name in OPERATIONS}) for use in uses]
