"""The two cards fitted by us are what the measurements give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xbarsim.data import data_file, data_folder
from xbarsim.devices import card
from xbarsim.experiments.fits.device_cards import FULL_SCALE, fit, measure, picture
from xbarsim.foundation.validation import FileFormatError


@pytest.fixture(params=sorted(FULL_SCALE))
def technology(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    try:
        data_file("rram", f"relax_tech{name}.npz")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return name


@pytest.mark.data
def test_a_fitted_card_equals_a_fit_done_again(technology: str) -> None:
    again = fit(measure(data_folder(), technology))
    shipped = card(again.name)
    new, old = again.programming_error, shipped.programming_error
    assert new is not None
    assert old is not None
    assert new.fit is not None
    assert old.fit is not None
    assert new.value.bias is not None
    assert old.value.bias is not None
    assert (again.g_min, again.g_max, again.levels) == (shipped.g_min, shipped.g_max, shipped.levels)
    assert (new.fit.cells, new.fit.time_s, new.note) == (old.fit.cells, old.fit.time_s, old.note)
    # Coefficients of high order hang on the last digits of a linear solve: compare what they say.
    fine = np.linspace(old.value.valid_from, old.value.valid_to, 500)
    step = old.value.valid_to * 1e-4
    np.testing.assert_allclose(new.value.spread(fine), old.value.spread(fine), atol=step)
    np.testing.assert_allclose(new.value.bias(fine), old.value.bias(fine), atol=step)


@pytest.mark.data
def test_the_fit_lies_within_the_uncertainty_of_the_measurement(technology: str) -> None:
    measured = measure(data_folder(), technology)
    error = card(f"levy2021_{technology.lower()}").programming_error
    assert error is not None
    assert error.value.bias is not None
    for value, uncertainty, polynomial in (
        (measured.spread, measured.spread_error, error.value.spread),
        (measured.bias, measured.bias_error, error.value.bias),
    ):
        deviation = np.abs(value - polynomial(measured.target)) / uncertainty
        assert np.median(deviation) < 1.5
        assert np.mean(deviation < 4) > 0.9
    window = FULL_SCALE[technology] / 32 / np.sqrt(12)
    assert np.all(measured.spread > window / 2)


@pytest.mark.data
def test_the_picture_shows_both_with_units(technology: str) -> None:
    figure = picture([measure(data_folder(), technology)], [card(f"levy2021_{technology.lower()}")])
    assert len(figure.axes) == 2
    assert all("µS" in axes.get_ylabel() for axes in figure.axes)
    assert "µS" in figure.axes[1].get_xlabel()
    assert "1 s" in figure.axes[0].get_title()


def test_absent_or_wrong_data(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        measure(tmp_path, "B")
    (tmp_path / "rram").mkdir()
    path = tmp_path / "rram" / "relax_techB.npz"
    np.savez(path, g_S=np.zeros(3), gi_S=np.zeros(3))
    with pytest.raises(FileFormatError, match="does not hold the relaxation data"):
        measure(tmp_path, "B")
    np.savez(path, g_S=np.zeros(3), gi_S=np.zeros(3), timept_s=np.ones(3))
    with pytest.raises(FileFormatError, match="at least 100 cells in each range, got 0"):
        measure(tmp_path, "B")
