"""The page of cells says what the code says, and every card has its picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.container import ErrorbarContainer

from xbarsim.data import data_file, data_folder
from xbarsim.devices import card, card_support, cell_names
from xbarsim.experiments.fits.card_support import PICTURES, page, picture, tables
from xbarsim.foundation.validation import InputError
from xbarsim.plot import cell_card

PAGE = Path(__file__).resolve().parents[3] / "docs" / "devices.md"


def test_the_tables_of_the_page_are_what_the_code_says() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert page(text) == text, "docs/devices.md must be made anew: python -m xbarsim.experiments.fits.card_support"
    assert page(text.replace("| joshi2020", "| josh")) == text


def test_a_page_without_its_markers_is_refused() -> None:
    text = PAGE.read_text(encoding="utf-8").replace("<!-- faults end -->", "")
    with pytest.raises(InputError, match=r"markers of 'faults' once each, got 1 and 0"):
        page(text)


def test_what_cards_have_by_hand() -> None:
    rows = {each.name: each for each in card_support()}
    assert list(rows) == cell_names()
    assert rows["nandakumar2019"].read_noise == "1/f"
    assert rows["nandakumar2019"].drift == "power of time, exponent by conductance, to 1 year"
    assert rows["agrawal2022"].drift == "quantiles at 5 times, to 5 days"
    assert rows["agrawal2022"].read_noise == "whole"
    assert rows["isaac2016"].programming_error == rows["isaac2016"].read_noise == rows["isaac2016"].drift == ""
    assert rows["levy2021_b"].programming_error == "spread of order 7, bias of order 8"
    for name in ("wan2022", "wan2022_relaxing"):
        assert (rows[name].faults, rows[name].writes) == (("wan2022_lines",), ("wan2022",))
    assert rows["milo2021"].faults == ()
    assert "assumed: levels" in rows["milo2021"].origins
    assert card_support("milo2021") == (rows["milo2021"],)
    with pytest.raises(InputError, match="did you mean 'milo2021'"):
        card_support("milo")


def test_every_row_names_what_its_card_has() -> None:
    cells = tables()["cells"]
    for name in cell_names():
        (row,) = (line for line in cells.splitlines() if line.startswith(f"| [{name}]"))
        found = card(name)
        assert row.count(" | - |") + row.count("| - | -") >= (found.drift is None)
        for key, value in found.values().items():
            part = next(each for each in row.split(" | ")[-1].rstrip(" |").split("; ") if each.startswith(value.origin))
            assert key.replace("_", " ") in part.replace("_", " ")


def test_every_card_has_a_picture() -> None:
    assert {path.stem for path in PICTURES.glob("*.png")} == set(cell_names())


@pytest.mark.parametrize("name", ["nandakumar2019", "wan2022_relaxing", "isaac2016", "jo2010"])
def test_a_picture_has_four_labelled_panels(name: str) -> None:
    panels = cell_card(card(name))
    assert len(panels) == 4
    unit = "nS" if name == "jo2010" else "µS"
    assert all(unit in panel.get_ylabel() for panel in panels)
    assert panels[3].get_xlabel() == "time after programming (s)"
    texts = [text.get_text() for panel in panels for text in panel.texts]
    assert ("none: a die of it has no age" in texts) == (card(name).drift is None)
    if name == "nandakumar2019":  # the mean of the conductance at 25 uS after a year: a factor of time^-0.049
        line = panels[3].lines[2]
        time, mean = float(line.get_xdata()[-1]), float(line.get_ydata()[-1])
        nu, spread, x = 0.049, 0.008, np.log(time / 20)
        assert mean == pytest.approx(25 * (np.exp(-nu * x + (spread * x) ** 2 / 2) - 1), rel=1e-3)


@pytest.mark.data
def test_measured_points_lie_on_the_laws() -> None:
    try:
        data_file("rram", "relax_techC.npz")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    figure = picture("levy2021_c", data_folder())
    assert "points: measured" in figure.get_suptitle()
    of_error, drift = figure.axes[1], figure.axes[3]
    assert len(of_error.containers) == 2
    assert len(drift.containers) == 3
    for container, line in zip(drift.containers, drift.lines[:3], strict=False):
        assert isinstance(container, ErrorbarContainer)
        measured = np.asarray(container.lines[0].get_ydata())[-1]
        law = np.asarray(line.get_ydata())[-1]
        assert abs(measured - law) < 0.5
    assert "laws that the card holds" in picture("levy2021_c", None).get_suptitle()
