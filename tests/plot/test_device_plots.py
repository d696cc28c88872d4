"""The picture of a fitted cell shows points and laws with their units, and says why a panel is empty."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from xbarsim.devices import CellFit, DriftEstimate, ErrorEstimate, Law, Readings, fit_cell
from xbarsim.foundation.validation import InputError
from xbarsim.plot import cell_fit, save_figure


def fitted() -> CellFit:
    rng = np.random.default_rng(1)
    cell, level, time, _ = np.indices((40, 4, 3, 2))
    conductance = 1e-5 * (1 + level) + rng.normal(0, 1e-7, (40, 4, 1, 1)) + rng.normal(0, 1e-7, (40, 4, 3, 1)) * time
    conductance = conductance * rng.normal(1, 0.01, (*conductance.shape[:3], 2))
    return fit_cell(Readings(
        conductance=conductance.reshape(-1), level=level.reshape(-1), cell=cell.reshape(-1),
        time=np.array([1.0, 10.0, 100.0])[time.reshape(-1)],
    ))  # fmt: skip


def test_every_panel_shows_what_was_measured_and_what_was_fitted(tmp_path: Path) -> None:
    fit = fitted()
    levels, error, noise, drift = cell_fit(fit)
    for axes in (levels, error, noise):
        assert "µS" in axes.get_xlabel()
        assert "µS" in axes.get_ylabel()
        assert not axes.texts
    assert "(s)" in drift.get_xlabel()
    assert "1 s after programming" in error.get_title()
    assert isinstance(fit.noise, Law)
    assert isinstance(fit.error, ErrorEstimate)
    assert isinstance(fit.drift, DriftEstimate)
    drawn = [line.get_ydata() for line in noise.lines]
    assert any(np.allclose(y, fit.noise.value * 1e6) for y in drawn if len(y) == 4)
    fine = np.linspace(fit.cell.g_min, fit.cell.g_max, 300)
    assert any(np.allclose(y, fit.noise.polynomial(fine) * 1e6) for y in drawn if len(y) == 300)
    assert any(np.allclose(line.get_ydata(), fit.drift.deviation_law * 1e6) for line in drift.lines)
    save_figure(levels.figure, tmp_path / "fit.svg")
    assert "programming error" in (tmp_path / "fit.svg").read_text(encoding="utf-8")


def test_a_panel_without_data_says_why() -> None:
    fit = fit_cell(Readings(conductance=np.array([1e-6, 5e-6])), levels=2)
    axes = Figure().subplots(1, 4)
    levels, error, noise, drift = cell_fit(fit, ax=list(axes))
    assert error is axes[1]
    for panel, why in ((levels, "no targets"), (error, "no reading has a target"), (noise, "repeated reads"),
                       (drift, "no later reads")):  # fmt: skip
        assert why in panel.texts[0].get_text().replace("\n", " ")


def test_other_axes_than_four_are_refused() -> None:
    with pytest.raises(InputError, match="ax must be four axes, got 2"):
        cell_fit(fitted(), ax=list(Figure().subplots(1, 2)))
