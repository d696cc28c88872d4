"""What a fitted card says beside its numbers: what each rests on, and where it is carried on."""

from __future__ import annotations

from xbarsim.devices.card_values import DriftFit, DriftValue, ReadNoiseValue
from xbarsim.devices.cell import Cell
from xbarsim.devices.drift import Drift, LogarithmicDrift
from xbarsim.devices.fitting.estimates import DriftEstimate, ErrorEstimate
from xbarsim.devices.fitting.laws import Law, rounded
from xbarsim.devices.fitting.noise_parts import NoiseParts
from xbarsim.devices.fitting.quantiles import QuantileEstimate
from xbarsim.devices.noise import SummedNoise

__all__ = ["carried_on", "drift_note", "drift_of", "drift_value", "noise_note", "noise_value", "sentence"]


def noise_value(cell: Cell, law: Law | str, parts: NoiseParts | str, data: str) -> ReadNoiseValue:
    """The read noise of a card, with its evidence.

    Parameters
    ----------
    cell
        The cell, with its read noise.
    law, parts
        What was found of the whole noise, and of its parts.
    data
        What was measured.
    """
    assert cell.read_noise is not None
    if isinstance(cell.read_noise, SummedNoise) or isinstance(law, str):
        assert isinstance(parts, NoiseParts)
        reads = sum(one.reads for one in parts.series)
        note = f"Taken apart by the spectra of {len(parts.series)} cells, {reads} reads, of {data}: " + "; ".join(
            parts.notes
        )
    else:
        note = (
            f"Of {int(law.count.sum())} repeated reads, of {data}: {law.goodness()}. {carried_on(law, cell)} What is "
            "slower than the reads were repeated is not in it"
        )
    return ReadNoiseValue(value=cell.read_noise, unit="S", origin="fitted", note=sentence(note))


def sentence(text: str) -> str:
    """Text with single spaces and one full stop."""
    return " ".join(text.split()).rstrip(".") + "."


def noise_note(error: ErrorEstimate) -> str:
    """What the programming error holds of the noise of the reads."""
    if error.noise_removed:
        return f"The noise of the reads was taken off, at most {100 * error.noise_removed:.1f} % of a level's variance."
    return "Holds the noise of a read, which the data do not tell apart."


def drift_note(drift: DriftEstimate) -> str:
    """What the drift holds of the noise of the reads."""
    if drift.noise_known:
        return "Variance that does not grow with time was taken off."
    return "Holds the noise of two reads, which the data do not tell apart."


def carried_on(law: Law, cell: Cell) -> str:
    """Where a law is used beyond the conductances it was measured at."""
    first, last = float(law.conductance.min()), float(law.conductance.max())
    small = 1e-2 * (cell.g_max - cell.g_min)
    if first <= cell.g_min + small and last >= cell.g_max - small:
        return ""
    return f"Measured from {first * 1e6:.4g} to {last * 1e6:.4g} uS and carried on to the ends of the range."


def drift_of(drift: DriftEstimate | QuantileEstimate | str, low: float, high: float) -> Drift | None:
    """The law of a drift that was found, or `None`."""
    if isinstance(drift, str):
        return None
    if isinstance(drift, QuantileEstimate):
        return drift.law
    return LogarithmicDrift(
        spread=drift.spread.polynomial,
        shift=drift.shift.polynomial,
        valid_from=low,
        valid_to=high,
        reference_time=rounded(drift.reference_time),
        valid_seconds=rounded(float(drift.seconds[-1]) - drift.reference_time),
    )


def drift_value(drift: DriftEstimate | QuantileEstimate | str, data: str, cell: Cell) -> DriftValue:
    """The drift of a card, with its evidence."""
    assert cell.drift is not None
    assert not isinstance(drift, str)
    if isinstance(drift, QuantileEstimate):
        note = f"Quantiles of the error in {len(drift.law.target)} groups of cells by target. Residuals: of cells that "
        note += "were not fitted. Holds the noise of a read"
        rest, chance = (drift.mean_residual, drift.spread_residual), drift.sampling_error
    else:
        note = (
            f"Mean of the change a decade: {drift.shift.goodness()}. Standard deviation after one: "
            f"{drift.spread.goodness()}. {drift_note(drift)} Residuals: of all cells that were fitted. "
            f"{carried_on(drift.spread, cell)}"
        )
        pairs = (drift.mean, drift.mean_law), (drift.deviation, drift.deviation_law)
        rest = tuple(  # type: ignore[assignment]
            tuple(rounded(abs(value), 3) for value in (measured - law).tolist()) for measured, law in pairs
        )
        chance = rounded(float(drift.mean_error[-1]), 3), rounded(float(drift.deviation_error[-1]), 3)
    return DriftValue(
        value=cell.drift,
        unit="S",
        origin="fitted",
        note=sentence(note),
        fit=DriftFit(
            data=data,
            cells=drift.cells,
            time_s=tuple(rounded(float(s) - drift.reference_time, 3) for s in drift.seconds),
            mean_residual=rest[0],
            spread_residual=rest[1],
            sampling_error=chance,
        ),
    )
