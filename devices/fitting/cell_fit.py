"""A cell out of measured conductances: everything that the data say, how well, and what had to be assumed."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from xbarsim.devices.card_values import (
    CardValue,
    Fit,
    ProgrammingErrorValue,
)
from xbarsim.devices.cell import Card, Cell
from xbarsim.devices.fitting import estimates
from xbarsim.devices.fitting.card_notes import (
    carried_on,
    drift_note,
    drift_of,
    drift_value,
    noise_note,
    noise_value,
    sentence,
)
from xbarsim.devices.fitting.estimates import DriftEstimate, ErrorEstimate
from xbarsim.devices.fitting.laws import Law, rounded
from xbarsim.devices.fitting.noise_parts import NoiseParts, noise_parts
from xbarsim.devices.fitting.quantiles import QuantileEstimate, quantiles
from xbarsim.devices.fitting.readings import Readings, TimeOrigin
from xbarsim.devices.fitting.states import Levels, States, find_levels
from xbarsim.devices.noise import NoiseModel, ReadNoise
from xbarsim.devices.programming import ProgrammingError
from xbarsim.foundation import tomlio
from xbarsim.foundation.cards import Origin
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real
from xbarsim.foundation.version import VERSION

__all__ = ["CellFit", "Finding", "fit_cell"]

FloatArray = npt.NDArray[np.float64]

_READ_BY_ALL = 0.99  # a step is a reference if that share of the states that any step has were read then
_BEYOND_ENDS = 0.1  # of the range: further than that no law is carried on


@dataclass(frozen=True)
class Finding:
    """One line of what a fit found.

    Attributes
    ----------
    quantity, value, unit
        What, how much, in what.
    origin
        ``"measured"``, ``"fitted"``, ``"assumed"``, ``"counted"``, ``"found"`` (how the file is written), or
        ``"absent"`` for what the data do not say.
    basis
        What it rests on, and how good it is.
    """

    quantity: str
    value: str
    unit: str
    origin: str
    basis: str


@dataclass(frozen=True, kw_only=True, eq=False)
class CellFit:
    """A cell fitted to measurements, with the evidence.

    Attributes
    ----------
    cell
        The cell. What the data do not say is ``None`` in it.
    readings
        What it was fitted to.
    target, measured, spread, count
        Of each level at the reference time: target, mean and standard deviation of the programmed states, S, and their
        number; arrays ``(levels,)``, empty where the data state no levels. Stuck cells are not in them.
    reference_time
        Time after programming that the levels and the programming error hold at, s, or ``None`` if it is not known.
    levels_note, levels_origin
        Where the number of levels is from.
    error, noise, drift
        The estimates, or why there is none.
    dead, stuck
        How many cells never gave a value; how many were told to move over half of the range or more, and moved by less
        than a tenth of that.
    findings
        Everything of it, a line each.
    """

    cell: Cell
    readings: Readings
    target: FloatArray
    measured: FloatArray
    spread: FloatArray
    count: npt.NDArray[np.int64]
    reference_time: float | None
    levels_note: str
    levels_origin: Origin
    error: ErrorEstimate | str
    noise: Law | str
    noise_parts: NoiseParts | str
    drift: DriftEstimate | QuantileEstimate | str
    dead: int
    stuck: int
    findings: tuple[Finding, ...]

    @entrance
    def card(self, *, source: str | None = None, doi: str | None = None, description: str = "") -> Card:
        """The device card of the cell, each value with its unit, origin and evidence.

        Parameters
        ----------
        source
            Citation of the measurements; without one, the file itself is named, and that no publication is.
        doi
            Its digital object identifier, if it has one.
        description
            The device in one line.
        """
        cell, data = self.cell, self.readings.source or "arrays of readings"
        known = ("" if self.reference_time is None else f" {self.reference_time:.3g} s after programming") or (
            ", at a time after programming that the data do not state"
        )
        ends = "target" if self.readings.target is not None else "mean conductance of a programmed state"
        ends = ends if self.readings.level is None else "level, its mean conductance"
        lowest, highest = (f"The {where} {ends}." for where in ("lowest", "highest"))
        error = noise = drift = None
        if cell.programming_error is not None:
            assert isinstance(self.error, ErrorEstimate)
            error = ProgrammingErrorValue(
                value=cell.programming_error, unit="S", origin="fitted",
                note=sentence(f"Of {self.error.cells} programmed states{known}. Mean: {self.error.bias.goodness()}. "
                               f"Standard deviation: {self.error.spread.goodness()}. {noise_note(self.error)} "
                               f"{100 * self.error.beyond:.2f} % of the states lie beyond three standard deviations "
                               "(0.27 % by the normal law)"),
                fit=Fit(data=data, cells=self.error.cells, time_s=self.reference_time or 0.0,
                        spread_residual=self.error.spread.residual, bias_residual=self.error.bias.residual),
            )  # fmt: skip
        if cell.read_noise is not None:
            noise = noise_value(cell, self.noise, self.noise_parts, data)
        if cell.drift is not None:
            drift = drift_value(self.drift, data, cell)
        voltage = cell.read_voltage
        return Card(
            name=cell.name,
            description=description,
            source=cell.source if source is None else source,
            doi=doi,
            g_min=CardValue(value=cell.g_min, unit="S", origin="measured", note=lowest),
            g_max=CardValue(value=cell.g_max, unit="S", origin="measured", note=highest),
            levels=CardValue(value=cell.levels, unit="1", origin=self.levels_origin, note=self._levels_note()),
            read_voltage=None if voltage is None else CardValue(value=voltage, unit="V", origin="measured"),
            programming_error=error,
            read_noise=noise,
            drift=drift,
            implausible=cell.implausible,
        )

    def _levels_note(self) -> str:
        """Where the number of levels is from, with what was left out and assumed."""
        left = [f"{count} {what}" for what, count in (("dead", self.dead), ("stuck", self.stuck)) if count]
        assumed = [finding.basis for finding in self.findings if finding.origin == "assumed" and not finding.value]
        note = [self.levels_note, *([f"Cells left out: {' and '.join(left)}."] if left else [])]
        return " ".join([*note, *([f"Assumed: {'; '.join(assumed)}."] if assumed else [])])

    @entrance
    def save(
        self, path: str | os.PathLike[str], *, source: str | None = None, doi: str | None = None, description: str = ""
    ) -> None:
        """Write the card that :meth:`card` makes, whole or not at all.

        :meth:`Cell.load` reads it back as :attr:`cell`, equal to the last bit but for its source.

        Raises
        ------
        InputError
            If `path` does not end in ``.toml``.
        FileWriteError
            If the file cannot be written.
        """
        _check_toml(path)
        tomlio.save(self.card(source=source, doi=doi, description=description), path)

    def __str__(self) -> str:
        rows = [dataclasses.astuple(finding) for finding in self.findings]
        return format_table(("quantity", "value", "unit", "origin", "rests on"), rows, left=5)


@entrance
def fit_cell(
    data: str | os.PathLike[str] | Readings,
    *,
    name: str | None = None,
    levels: int | None = None,
    reference_time: float | None = None,
    scale: float | None = None,
    drift_law: Literal["walk", "quantiles"] = "walk",
    noise_law: Literal["whole", "parts"] = "whole",
    unit: str | None = None,
    read_voltage: float | None = None,
    time_from: TimeOrigin = "programming",
    decimal: Literal[".", ","] | None = None,
    rename: Mapping[str, str] | None = None,
    implausible: bool | None = None,
) -> CellFit:
    """Fit a cell to measured conductances.

    Gives the range of conductances, the levels, bias and spread of the programming error, the noise of a read where
    reads were repeated, and drift where cells were read again later. Laws of conductance are polynomials whose order
    has the lowest Bayesian information criterion. Cells that never gave a value or do not move with their targets are
    counted and left to a fault model.

    Parameters
    ----------
    data
        A file, as :meth:`Readings.from_csv` takes it, or readings.
    name
        Of the cell; by default that of the file, or ``"custom"``.
    levels
        The most levels the cell can hold, where the data do not say it.
    reference_time
        Time after programming that the programming error holds at, and drift starts from, s; by default the first above
        0 s at which nearly all states were read.
    scale
        The conductance that counts as 1 in the laws, S; by default the highest level's.
    drift_law
        ``"walk"``: :class:`LogarithmicDrift`, which a few cells tell of and which can be carried to any time between.
        ``"quantiles"``: :class:`MeasuredDrift`, the measured errors themselves, for many cells and changes of no simple
        form.
    noise_law
        ``"whole"``: the standard deviation of repeated reads, whatever they are made of. ``"parts"``: white, 1/f and
        telegraph noise as the spectra of cells tell them apart that were read many times at an even pace; a cell that
        wanders besides has less noise by its parts than as a whole, and the findings say how much.
    unit, read_voltage, time_from, decimal, rename
        As in :meth:`Readings.from_csv`; only for a file.
    implausible
        As in :class:`Cell`.

    Raises
    ------
    InputError
        If a parameter is out of its bound, or the data do not show a range of conductance or the number of levels.
    FileFormatError
        If the file cannot be read or understood; the message has file, line, column and value.

    Examples
    --------
    >>> fit_cell("dev.csv")                                         # doctest: +SKIP
    >>> fit_cell("dev.csv").save("dev.toml", source="A. Researcher et al., ...")    # doctest: +SKIP
    >>> cell = Cell.load("dev.toml")                                # doctest: +SKIP
    """
    check_instance("name", name, (str, type(None)))
    if isinstance(data, Readings):
        if (unit, read_voltage, time_from, decimal, rename) != (None, None, "programming", None, None):
            raise InputError("unit, read_voltage, time_from, decimal and rename must not be given with readings")
        readings = data
    else:
        readings = Readings.from_csv(
            data, unit=unit, read_voltage=read_voltage, time_from=time_from, decimal=decimal, rename=rename
        )
        name = name or re.sub(r"[^a-z0-9]+", "_", Path(data).stem.lower()).strip("_")
    if levels is not None:
        check_integer("levels", levels, at_least=2, at_most=2**53)
    check_choice("drift_law", drift_law, ("walk", "quantiles"))
    check_choice("noise_law", noise_law, ("whole", "parts"))
    return _Fitter(readings, name or "custom", levels, reference_time, scale, implausible).fit(drift_law, noise_law)


class _Fitter:
    """The steps of a fit, each of which may add to what was assumed."""

    def __init__(
        self,
        readings: Readings,
        name: str,
        levels: int | None,
        reference_time: float | None,
        scale: float | None,
        implausible: bool | None,
    ) -> None:
        self.readings, self.name, self.asked_levels, self.implausible = readings, name, levels, implausible
        self.asked_time, self.asked_scale = reference_time, scale
        self.assumed = list(readings.assumed)
        self.findings: list[Finding] = []

    def fit(self, drift_law: str, noise_law: str) -> CellFit:
        """The whole fit."""
        usable = np.isfinite(self.readings.conductance)
        found = find_levels(self.readings, usable)
        states = States.of(self.readings, found)
        step = self._reference(states)
        stuck = states.stuck(step)
        if stuck.size:  # levels are where cells that work are
            if self.readings.cell is not None:
                usable &= ~np.isin(self.readings.cell, stuck)
            found = find_levels(self.readings, usable)
            states = States.of(self.readings, found)
        working = states.part(~np.isin(states.cell, stuck))
        low, high = self._range(found, working, step)
        count, note, origin = self._levels(found, low, high)
        scale = high if self.asked_scale is None else check_real("scale", self.asked_scale, above=0.0)
        noise = estimates.read_noise(states, scale)
        known = noise if isinstance(noise, Law) else None
        error = estimates.programming_error(working, step, scale, known)
        error, noise = (self._within(law, low, high) for law in (error, noise))  # type: ignore[assignment]
        drift: DriftEstimate | QuantileEstimate | str
        if drift_law == "walk":
            drift = self._within(estimates.drift(working, step, scale, known), low, high)  # type: ignore[assignment]
        elif isinstance(error, str):
            drift = f"quantiles of the error start from the programming error, and there is none: {error}"
        else:
            drift = quantiles(working, step, low, high)
        parts = noise_parts(self.readings, low, high)
        if noise_law == "parts" and isinstance(parts, str):
            raise InputError(f"noise_law must be 'whole' for these readings, got 'parts': {parts}")
        read_noise: NoiseModel | None = None
        if noise_law == "parts":
            assert isinstance(parts, NoiseParts)
            read_noise = parts.noise
        elif not isinstance(noise, str):
            read_noise = ReadNoise(spread=noise.polynomial, valid_from=low, valid_to=high)
        seconds = None if self.readings.time is None else rounded(float(states.seconds[step]), 3)
        cell = Cell(
            name=self.name,
            g_min=low,
            g_max=high,
            levels=count,
            programming_error=None if isinstance(error, str) else ProgrammingError(
                spread=error.spread.polynomial, bias=error.bias.polynomial, valid_from=low, valid_to=high
            ),
            read_noise=read_noise,
            drift=drift_of(drift, low, high),
            read_voltage=self.readings.read_voltage,
            source=self._source(),
            implausible=self.implausible,
        )  # fmt: skip
        here = np.isfinite(working.mean[:, step]) & (working.group >= 0)
        groups = [working.mean[here & (working.group == g), step] for g in range(found.groups)]
        present = [g for g, group in enumerate(groups) if group.size]
        fit = CellFit(
            cell=cell,
            readings=self.readings,
            target=np.array([float(working.target[here & (working.group == g)].mean()) for g in present]),
            measured=np.array([float(groups[g].mean()) for g in present]),
            spread=np.array([float(groups[g].std(ddof=1)) if groups[g].size > 1 else np.nan for g in present]),
            count=np.array([groups[g].size for g in present], dtype=np.int64),
            reference_time=seconds,
            levels_note=note,
            levels_origin=origin,
            error=error,
            noise=noise,
            noise_parts=parts,
            drift=drift,
            dead=self.readings.dead,
            stuck=len(stuck),
            findings=(),
        )
        return dataclasses.replace(fit, findings=tuple(self._say(fit, states)))

    def _reference(self, states: States) -> int:
        """The step that the programming error holds at."""
        read = np.isfinite(states.mean).sum(axis=0)
        if self.readings.time is None:
            if self.asked_time is not None:
                raise InputError(f"reference_time must be None where the data have no times, got {self.asked_time!r}")
            return 0
        if self.asked_time is not None:
            wanted = check_real("reference_time", self.asked_time, at_least=0.0)
            near = np.flatnonzero((states.seconds <= 2 * wanted) & (states.seconds >= wanted / 2))
            if not near.size:
                times = ", ".join(f"{s:.3g}" for s in states.seconds)
                raise InputError(f"reference_time must be one at which cells were read, {times} s, got {wanted!r}")
            return int(near[np.argmin(np.abs(states.seconds[near] - wanted))])
        positive = np.flatnonzero(states.seconds > 0)
        if not positive.size:
            return 0
        return int(positive[np.argmax(read[positive] >= _READ_BY_ALL * read[positive].max())])

    def _range(self, found: Levels, working: States, step: int) -> tuple[float, float]:
        """Lowest and highest conductance, S."""
        here = np.isfinite(working.mean[:, step])
        if found.groups:
            aimed = working.target[here & (working.group >= 0)]
            if not aimed.size:
                raise InputError("target must be known for some state at the reference time, got none")
            low, high = float(aimed.min()), float(aimed.max())
        else:
            if not here.any():
                raise InputError("conductance must be known of some cell that moves at the reference time, got none")
            low, high = float(working.mean[here, step].min()), float(working.mean[here, step].max())
            self.assumed.append("the range is that of the readings, for the data state neither targets nor levels")
        low, high = rounded(low), rounded(high)
        if not 0 < low < high:
            raise InputError(
                f"conductance must cover a range above 0 S, from lowest to highest level, got {low!r} to {high!r}"
            )
        return low, high

    def _levels(self, found: Levels, low: float, high: float) -> tuple[int, str, Origin]:
        """The number of levels, where it is from, and its origin."""
        if self.asked_levels is not None:
            note = "Stated when the cell was fitted, not measured."
            return self.asked_levels, note, "assumed"
        if found.stated is None:
            raise InputError(
                "levels must be given, for the data have "
                + ("more targets than states of each, a continuum" if found.groups else "neither targets nor levels")
                + ", got None"
            )
        if found.spaced:
            self.assumed.append(
                "targets of the levels are evenly spaced between the means of the lowest and the highest level; what "
                "the levels between miss of that is bias"
            )
        note = f"{found.groups} levels were programmed."
        if found.groups < found.stated:
            note = f"Levels 0 to {found.stated - 1} were programmed, of which {found.groups} are in the data."
        return found.stated, note, "measured"

    def _within(
        self, estimate: ErrorEstimate | Law | DriftEstimate | str, low: float, high: float
    ) -> ErrorEstimate | Law | DriftEstimate | str:
        """The estimate, or why it does not hold from the lowest to the highest conductance."""
        if isinstance(estimate, str):
            return estimate
        law = estimate if isinstance(estimate, Law) else estimate.spread
        first, last = float(law.conductance.min()), float(law.conductance.max())
        room = _BEYOND_ENDS * (high - low)
        if first > low + room or last < high - room:
            return (
                f"it is known from {first * 1e6:.4g} to {last * 1e6:.4g} uS only, and the cell reaches from "
                f"{low * 1e6:.4g} to {high * 1e6:.4g} uS"
            )
        return estimate

    def _source(self) -> str:
        data = self.readings.source or "arrays of readings"
        return f"Measurements of {data}, fitted with xbarsim {VERSION}; no publication was stated."

    def _say(self, fit: CellFit, states: States) -> list[Finding]:
        """Everything that was found, assumed and counted."""
        cell, lines = fit.cell, list[Finding]()
        add = lines.append
        for what, value, where in (("g_min", cell.g_min, "lowest"), ("g_max", cell.g_max, "highest")):
            add(Finding(what, f"{value * 1e6:.5g}", "uS", "measured", f"the {where} level"))
        add(Finding("levels", str(cell.levels), "1", fit.levels_origin, fit.levels_note))
        if cell.read_voltage is not None:
            add(Finding("read voltage", f"{cell.read_voltage:g}", "V", "measured", "of the readings"))
        middle = np.array([cell.g_min, (cell.g_min + cell.g_max) / 2, cell.g_max])

        def values(law: Law) -> str:
            return ", ".join(f"{value * 1e6:.3g}" for value in law.polynomial(middle))

        about = "uS, at g_min, middle, g_max"
        if isinstance(fit.error, str):
            add(Finding("programming error", "none", "", "absent", fit.error))
        else:
            when = "" if fit.reference_time is None else f", {fit.reference_time:g} s after programming"
            basis = f"{fit.error.cells} programmed states{when}; "
            add(Finding("programming error, bias", values(fit.error.bias), about, "fitted",
                        basis + fit.error.bias.goodness()))  # fmt: skip
            add(Finding("programming error, spread", values(fit.error.spread), about, "fitted",
                        basis + fit.error.spread.goodness()))  # fmt: skip
            add(Finding("beyond 3 standard deviations", f"{100 * fit.error.beyond:.2f}", "% of states", "measured",
                        "0.27 % by the normal law"))  # fmt: skip
            if fit.error.noise_removed:
                add(Finding("read noise taken off the spread", f"{100 * fit.error.noise_removed:.1f}", "% of variance",
                            "fitted", "at most, of one level"))  # fmt: skip
            if fit.error.few:
                add(Finding("states of levels with fewer than 3", str(fit.error.few), "states", "counted",
                            "not in the programming error"))  # fmt: skip
        if isinstance(fit.noise, str):
            add(Finding("read noise", "none", "", "absent", fit.noise))
        else:
            add(Finding("read noise", values(fit.noise), about, "fitted",
                        f"{int(fit.noise.count.sum())} repeated reads; {fit.noise.goodness()}. "
                        f"{carried_on(fit.noise, cell)}".strip()))  # fmt: skip
        if isinstance(fit.noise_parts, NoiseParts):
            lines += [Finding(*row) for row in fit.noise_parts.rows()]
        else:
            add(Finding("read noise, parts", "none", "", "absent", fit.noise_parts))
        if isinstance(fit.drift, str):
            add(Finding("drift", "none", "", "absent", fit.drift))
        elif isinstance(fit.drift, QuantileEstimate):
            last = fit.drift.seconds[-1]
            names = ("mean error", fit.drift.mean_law[-1], fit.drift.mean_residual[-1], fit.drift.sampling_error[0]), (
                "spread of the error", fit.drift.deviation_law[-1], fit.drift.spread_residual[-1],
                fit.drift.sampling_error[1])  # fmt: skip
            for what, size, rest, chance in names:
                add(Finding(f"drift, {what} after {last:.3g} s", f"{size * 1e6:.3g}", "uS, all levels", "fitted",
                            f"{max(fit.drift.cells)} states, {len(fit.drift.law.target)} groups; residual on cells not "
                            f"fitted {rest * 1e6:.3g} uS, of chance alone {chance * 1e6:.3g} uS"))  # fmt: skip
            if fit.drift.left_out:
                add(Finding("times without drift", str(fit.drift.left_out), "", "counted",
                            "fewer than half of the cells were read then"))  # fmt: skip
        else:
            off = float(np.abs(fit.drift.deviation_law / fit.drift.deviation - 1).max())
            span = f"{fit.drift.reference_time:.3g} to {fit.drift.seconds[-1]:.3g} s"
            add(Finding("drift, mean a decade", values(fit.drift.shift), about, "fitted",
                        f"{max(fit.drift.cells)} states, {span}; {fit.drift.shift.goodness()}"))  # fmt: skip
            add(Finding("drift, spread after a decade", values(fit.drift.spread), about, "fitted",
                        f"{drift_note(fit.drift)} {fit.drift.spread.goodness()}; at all times the spread over all "
                        f"cells is met to {100 * off:.0f} %"))  # fmt: skip
        counts = [("cells", self.readings.cells), ("programmed states", len(states.mean)), *self.readings.counted]
        for what, number in counts:
            add(Finding(what, str(number), "", "counted", ""))
        add(Finding("dead cells", str(fit.dead), "", "counted", "no reading of theirs has a value; left out"))
        told = "told to move over half of the range, moved by less than a tenth of that; only in the read noise"
        add(Finding("stuck cells", str(fit.stuck), "", "counted", told))
        if self.readings.target is not None:
            unknown = int((np.isnan(self.readings.target) & np.isfinite(self.readings.conductance)).sum())
            if unknown:
                add(Finding("readings without a target", str(unknown), "", "counted", "not in error and drift"))
        below = int((self.readings.conductance < 0).sum())
        if below:
            add(Finding("readings below 0 S", str(below), "", "counted", "kept: noise of a read"))
        lines += [Finding("form of the file", "", "", "found", text) for text in self.readings.form]
        return lines + [Finding("assumption", "", "", "assumed", text) for text in dict.fromkeys(self.assumed)]


def _check_toml(path: str | os.PathLike[str]) -> None:
    if not os.fspath(path).endswith(".toml"):
        raise InputError(f"path must end in '.toml', as a card does, got {os.fspath(path)!r}")
