"""The cited cards and presets, and how strictly their files are read."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from xbarsim.devices import (
    Card,
    Cell,
    FaultModel,
    FaultPreset,
    StuckFaults,
    card,
    cell_names,
    fault_preset,
    preset_names,
)
from xbarsim.devices.cell import CARDS
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError


def test_the_promised_cards_are_there() -> None:
    names = set(cell_names())
    assert {"isaac2016", "milo2021", "wan2022", "islped2019", "levy2021_b", "levy2021_c"} <= names
    assert {"chen2015_sa0_lrs", "chen2015_sa0_hrs", "liu2017"} <= set(preset_names())
    assert not names & {name for name in names if name.endswith("faults")}


@pytest.mark.parametrize("name", cell_names())
def test_every_card_loads_is_cited_and_survives_toml(name: str) -> None:
    entry = card(name)
    assert entry.name == name
    assert entry.description
    assert entry.source
    assert entry.doi or "not verified" in entry.source
    for value in entry.values().values():
        assert value.unit
        assert value.note or value.origin != "assumed"
    assert tomlio.loads(Card, tomlio.dumps(entry)) == entry
    cell = Cell.load(name)
    assert cell == entry.cell()
    assert tomlio.loads(Cell, tomlio.dumps(cell)) == cell


@pytest.mark.parametrize("name", [name for name in cell_names() if Cell.load(name).programming_error])
def test_every_spread_is_positive_over_the_whole_range(name: str) -> None:
    cell = Cell.load(name)
    assert cell.programming_error is not None
    fine = np.linspace(cell.g_min, cell.g_max, 1000)
    spread = cell.programming_error.spread(fine)
    assert spread.min() > 0
    assert spread.max() < (cell.g_max - cell.g_min) / 4


def test_published_values_by_hand() -> None:
    isaac = Cell.load("isaac2016")
    assert 1 / isaac.g_max == pytest.approx(1333)
    assert 1 / isaac.g_min == pytest.approx(20e3)
    islped = Cell.load("islped2019")
    assert 1 / islped.g_max == pytest.approx(1e6)
    assert 1 / islped.g_min == pytest.approx(1e7)
    assert islped.levels == 16
    milo = Cell.load("milo2021").programming_error
    assert milo is not None
    np.testing.assert_allclose(milo.spread([100e-6]), [(4.782321 - 0.009107 * 100) * 1e-6])
    wan = Cell.load("wan2022").programming_error
    assert wan is not None
    x = 20 / 40
    expected = 0.348 + 16.030 * x - 43.853 * x**2 + 45.393 * x**3 - 16.815 * x**4
    np.testing.assert_allclose(wan.spread([20e-6]), [expected * 1e-6])
    joshi = Cell.load("joshi2020").programming_error
    assert joshi is not None
    np.testing.assert_allclose(joshi.spread([10e-6]), [(0.28638599 + 0.07585724 * 10 - 0.00178767 * 100) * 1e-6])


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_is_cited_and_survives_toml(name: str) -> None:
    entry = fault_preset(name)
    assert entry.name == name
    assert entry.description
    assert entry.doi or "not verified" in entry.source
    assert tomlio.loads(FaultPreset, tomlio.dumps(entry)) == entry
    assert FaultModel.load(name) == type(entry.faults).load(name) == entry.faults


def test_both_readings_of_chen_2015() -> None:
    low = StuckFaults.load("chen2015_sa0_lrs")
    high = StuckFaults.load("chen2015_sa0_hrs")
    assert (low.on, low.off) == (0.0175, 0.0904)
    assert (high.on, high.off) == (low.off, low.on)
    assert low.total == pytest.approx(0.1079)


def test_a_card_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    tomlio.save(card("milo2021"), path)
    assert Cell.load(path) == Cell.load(str(path)) == Cell.load("milo2021")


def test_an_unknown_name_is_refused_naming_the_others() -> None:
    with pytest.raises(
        InputError, match=r"cell must be one of \d+ names, or a path .*got 'milo'; did you mean 'milo2021'"
    ):
        Cell.load("milo")
    with pytest.raises(InputError, match=r"faults must be one of .*'liu2017'.*got 'chen2015'"):
        StuckFaults.load("chen2015")
    with pytest.raises(FileFormatError, match="cannot read Card"):
        Cell.load("absent.toml")


@pytest.mark.parametrize(
    ("old", "new", "error", "message"),
    [
        ("[levels]", "[level]", FileFormatError, "no key 'level'"),
        ('note = "Lowest', 'remark = "Lowest', FileFormatError, "no key 'remark'"),
        ("value = 50e-6", 'value = "50 uS"', FileFormatError, "g_min.value must be int or float"),
        ("value = 50e-6", "value = 225e-6", InputError, "g_max must be .*> 0.000225"),
        ("value = 50e-6", "value = 40e-6", InputError, "where programming_error is valid"),
        ("value = 16", "value = 16.5", InputError, "levels must be an integer"),
        ('unit = "S"', 'unit = "uS"', InputError, "g_min.unit must be 'S'"),
        ('origin = "fitted"', 'origin = "guessed"', FileFormatError, "origin must be 'measured' or"),
        ("scale = 1e-6", "scale = 0.0", InputError, "scale must be"),
        ("[levels]", "[levels", FileFormatError, "not valid TOML"),
    ],
)
def test_a_bad_card_is_refused(tmp_path: Path, old: str, new: str, error: type[Exception], message: str) -> None:
    text = (CARDS.folder / "milo2021.toml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "bad.toml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(error, match=message):
        Cell.load(path)


def test_every_truncation_of_a_card_is_refused(tmp_path: Path) -> None:
    whole = (CARDS.folder / "islped2019.toml").read_bytes()
    path = tmp_path / "cut.toml"
    # Up to the key before the last, which is a note and may be absent.
    for length in range(whole.rindex(b"note")):
        path.write_bytes(whole[:length])
        try:
            cell = Cell.load(path)
        except (FileFormatError, InputError):
            continue
        assert whole[:length].rstrip().endswith(b'"cited"'), whole[:length]
        assert cell == Cell.load("islped2019")


def test_a_preset_of_another_kind_or_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    text = tomlio.dumps(fault_preset("liu2017"))
    path.write_text(text.replace("StuckFaults", "Lightning"), encoding="utf-8")
    with pytest.raises(FileFormatError, match=r"faults.type must be one of .*'ClusteredFaults'.*got 'Lightning'"):
        StuckFaults.load(path)
    path.write_text(text + "seed = 3\n", encoding="utf-8")
    with pytest.raises(FileFormatError, match="no key 'seed'"):
        StuckFaults.load(path)


def test_infinite_bounds_survive_toml() -> None:
    error = card("levy2021_b").programming_error
    assert error is not None
    assert error.value.bias is not None
    assert error.value.bias.minimum == -math.inf
