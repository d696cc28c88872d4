"""The noise of measured cells, taken apart: the parts are of the size of the reads' own spread at short times."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xbarsim.data import data_file, data_folder
from xbarsim.experiments.fits.read_noise import measure, picture, read
from xbarsim.foundation.validation import FileFormatError


@pytest.mark.data
def test_the_parts_of_measured_cells_are_what_differences_of_reads_show() -> None:
    """Half the variance of the change from one read to the next: an independent look at what is fast."""
    try:
        data_file("rram", "noise_techA_timeseries.npz")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    readings = read(data_folder(), reads=20_000)
    parts = measure(readings)
    assert len(parts.series) == 5
    series = sorted(readings.conductance.reshape(5, -1), key=lambda row: float(row.mean()))
    for one, row in zip(parts.series, series, strict=True):
        assert one.conductance == pytest.approx(float(row.mean()), rel=1e-6)
        change = float(np.var(np.diff(row))) / 2
        # of the law: the density weighted with what a difference of neighbours lets through
        f = np.linspace(*one.band, 20_000)
        law = np.interp(f, one.frequency, one.law)
        weight = 1 - np.cos(2 * np.pi * f * one.interval)
        assert float(np.sum(law * weight) * (f[1] - f[0])) == pytest.approx(change, rel=0.35)
    assert any("do not tell them apart" in note for note in parts.notes)
    figure = picture(parts)
    assert len(figure.axes) == 5
    assert all("µS" in axes.get_title() for axes in figure.axes)


def test_absent_or_wrong_reads(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read(tmp_path)
    (tmp_path / "rram").mkdir()
    path = tmp_path / "rram" / "noise_techA_timeseries.npz"
    np.savez(path, g_S=np.zeros(3))
    with pytest.raises(FileFormatError, match="does not hold reads of cells in time"):
        read(tmp_path)
    np.savez(path, g_S=np.full(3, 1e-6), fs_hz=1.0)
    with pytest.raises(FileFormatError, match=r"does not hold reads|several cells at a rate"):
        read(tmp_path)
