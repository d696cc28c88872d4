"""Tables as others write them: the same readings in twelve forms give one cell; broken ones give one clear error."""

from __future__ import annotations

import random
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.devices.fitting.strangers import Truth, fit_of, layouts, same_numbers, synthetic
from xbarsim.data import data_file
from xbarsim.devices import Cell, Law, Readings, fit_cell
from xbarsim.foundation.validation import FileFormatError, InputError


@cache
def invented() -> Truth:
    truth = synthetic(np.random.default_rng(3))
    truth.conductance[7] = np.nan  # a dead cell
    truth.conductance[9, 2, 1] = np.nan  # a read that failed
    truth.conductance[11] = 20.123456e-6  # a cell that does not move
    return truth


@cache
def measured() -> Truth:
    """Cells of a measured technology, in the order of their first reads: the first of each range."""
    with np.load(data_file("rram", "relax_techB.npz"), allow_pickle=False) as archive:
        address, conductance, first, time = (archive[name] for name in ("addr", "g_S", "gi_S", "timept_s"))
    times, cells, width = (1.0, 100.0, 1000.0), 150, 4e-6
    ranges = (2, 8, 14, 20, 26)
    values = np.full((cells, len(ranges), len(times)), np.nan)
    for k, place in enumerate(ranges):
        here = np.unique(address[(time == 0) & (np.floor(first / width) == place)])[:cells]
        for t, seconds in enumerate(times):
            now = (time == seconds) & np.isin(address, here)
            values[np.searchsorted(here, address[now]), k, t] = conductance[now]
    return Truth(conductance=values, target=(np.array(ranges) + 0.5) * width, time=np.array(times))


FORMS = tuple(layouts(synthetic(np.random.default_rng(3), cells=2)))


@pytest.mark.parametrize("form", FORMS)
def test_a_table_of_invented_readings_gives_the_cell_that_its_arrays_give(form: str, tmp_path: Path) -> None:
    content, told, levels = layouts(invented())[form]
    found = fit_of(tmp_path, content, told)
    same_numbers(found, fit_cell(invented().readings(levels=levels)))
    assert (found.dead, found.stuck) == (1, 1)
    shown = str(found)
    assert "dead cells" in shown
    assert "readings without a value" in shown
    assert "dev.csv (SHA-256" in found.readings.source


@pytest.mark.data
@pytest.mark.parametrize("form", FORMS)
def test_a_table_of_measured_readings_gives_the_cell_that_its_arrays_give(form: str, tmp_path: Path) -> None:
    try:
        truth = measured()
    except FileNotFoundError as error:
        pytest.skip(str(error))
    content, told, levels = layouts(truth)[form]
    same_numbers(fit_of(tmp_path, content, told), fit_cell(truth.readings(levels=levels)))


GOOD = "device,target (uS),conductance (uS)\na,10,10.5\nb,10,9.5\nc,10,9.9\na,20,20.5\nb,20,19.0\nc,20,20.1\n"

BROKEN = {
    "a word for a number": (GOOD.replace("9.5", "9.5 uS"), "line 3, column 'conductance (uS)': it must be a number"),
    "an unknown unit": (GOOD.replace("conductance (uS)", "conductance (uX)"), "column 'conductance (uX)': its unit"),
    "a time for a conductance": (GOOD.replace("conductance (uS)", "conductance (us)"), "'us', which is one of time"),
    "no unit": (GOOD.replace("conductance (uS)", "conductance"), "column 'conductance': it must state its unit"),
    "no unit of time": (GOOD.replace("device", "time"), "column 'time': it must state its unit, such as 'time (s)'"),
    "two readings": (GOOD.replace("device", "R (kOhm)"), "only one column may hold the reading"),
    "no reading": (GOOD.replace("conductance (uS)", "colour"), "column 'colour': it must be a known quantity"),
    "a column twice": (GOOD.replace("device", "target (uS)"), "no two columns may have one name"),
    "a row too long": (GOOD.replace("a,20,20.5", "a,20,20,5"), "line 5: a line must have 3 fields, got 4: 'a,20,20,5'"),
    "a row too short": (GOOD.replace("b,20,19.0", "b,20"), "line 6: a line must have 3 fields, got 2: 'b,20'"),
    "no header": (GOOD.partition("\n")[2].replace("a", "1").replace("b", "2").replace("c", "3"),
                  "line 1: the first line must name the columns"),
    "nothing": ("", "got an empty file"),
    "no rows": (GOOD.partition("\n")[0] + "\n", "got no line of values"),
    "a target of 0": (GOOD.replace("b,10,", "b,0,"), "line 3, column 'target (uS)': a target must be > 0 uS, got '0'"),
    "a negative resistance": (GOOD.replace("conductance (uS)", "r (kOhm)").replace("9.9", "-9.9"),
                              "line 4, column 'r (kOhm)': a resistance must be > 0 kOhm, got '-9.9'"),
    "a cell without a name": (GOOD.replace("c,10,", ",10,"), "line 4, column 'device': a reading must say which cell"),
    "a negative time": (GOOD.replace("device", "t (s)").replace("a", "1").replace("b", "-2").replace("c,", "3,")
                        .replace("t1rget", "target").replace("conduct1nce", "conductance"),
                        "line 3, column 't (s)': a time must be a finite number >= 0, got '-2'"),
    "half a level": (GOOD.replace("target (uS)", "level").replace(",20,", ",1.5,"),
                     "line 5, column 'level': a level must be a whole number >= 0, got '1.5'"),
    "two decimal signs": (GOOD.replace(",", ";").replace("9.5", "9,5"),
                          "line 3, column 'conductance (uS)': a number must have a decimal point"),
    "thousands or decimals": (GOOD.replace(",", ";").replace("20.5", "20,500").replace(".", ""),
                              "line 5, column 'conductance (uS)': a comma may divide decimals or thousands"),
    "an infinite target": (GOOD.replace("b,10,", "b,inf,"), "line 3, column 'target (uS)': a target must be finite"),
    "voltages that differ": (GOOD.replace("device", "V (V)").replace("conductance (uS)", "I (uA)").replace("a,", "0.1,")
                             .replace("b,", "0.2,").replace("c,", "0.1,"),
                             "line 3, column 'V (V)': all readings must be at one voltage, 0.1 V"),
    "columns of two kinds": ("level 0 (uS),device 3 (uS)\n1,2\n", "column 'device 3 (uS)': it must name a level"),
    "columns that need a unit": ("level 0,level 1\n1,2\n", "column 'level 0': the unit of its readings must be stated"),
    "control characters": (GOOD.replace("9.5", "9\x005"), "line 3: it must be text, got the control character"),
}  # fmt: skip


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_table_is_refused_with_line_column_and_value(what: str, tmp_path: Path) -> None:
    text, message = BROKEN[what]
    assert text != GOOD
    path = tmp_path / "dev.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(FileFormatError) as caught:
        fit_cell(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_table_that_the_broken_ones_were_made_of_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "dev.csv"
    path.write_text(GOOD, encoding="utf-8")
    assert fit_cell(path).cell.levels == 2


@pytest.mark.parametrize(
    ("text", "told", "message"),
    [
        ("I (nA),level\n1,0\n2,1\n", {}, "read_voltage must be given for currents such as those in column 'I .nA.'"),
        (GOOD, {"unit": "furlong"}, "unit must be one of conductance, resistance or current"),
        (GOOD, {"rename": {"dev": "device"}}, "rename must name columns of .*'device', .*got 'dev'"),
        (GOOD, {"time_from": "first read"}, "time_from must be 'programming' where no column holds times"),
        (GOOD, {"decimal": ";"}, "decimal must be one of"),
        (GOOD, {"reference_time": 3.0}, "reference_time must be None where the data have no times"),
        ("conductance (uS)\n1\n2\n", {}, "levels must be given, for the data have neither targets nor levels"),
        ("conductance (uS),level\n3,0\n3,0\n", {}, "level must hold at least 2 levels"),
        ("conductance (uS),level\n3,0\n2,1\n", {}, "the highest level, 1, must have a higher mean conductance"),
        ("conductance (S),level\n3,0\n5,1\n", {}, "did you mean 5 uS"),
        ("t (s),conductance (uS),level\n1,2,0\n1,3,1\n", {"reference_time": 9.0}, "at which cells were read, 1 s"),
    ],
)
def test_what_the_file_cannot_say_is_asked_for(text: str, told: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "dev.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        fit_cell(path, **told)


def test_a_comma_between_thousands_and_decimals_is_read_as_told(tmp_path: Path) -> None:
    path = tmp_path / "dev.csv"
    path.write_text("level;g (nS)\n0;1,500\n1;2,500\n", encoding="utf-8")
    np.testing.assert_allclose(Readings.from_csv(path, decimal=",").conductance, [1.5e-9, 2.5e-9])


def test_other_voltages_and_readings_out_of_range_are_counted(tmp_path: Path) -> None:
    path = tmp_path / "dev.csv"
    path.write_text("V (mV);I (nA);level\n100;10;0\n-100;-12;0\n200;21;0\n100;9.9e37;1\n100;30;1\n", encoding="utf-8")
    readings = Readings.from_csv(path, read_voltage=0.1)
    np.testing.assert_allclose(readings.conductance, [1e-7, 1.2e-7, np.nan, 3e-7])
    assert dict(readings.counted) == {
        "readings at other voltages than 0.1 V, left out": 1,
        "readings of 'I (nA)' out of the instrument's range": 1,
        "readings": 3,
        "readings without a value": 1,
    }


def test_columns_of_repeated_reads_are_noise_and_empty_rows_are_nothing(tmp_path: Path) -> None:
    path = tmp_path / "dev.csv"
    rows = [f"{k % 4},{10 * (k % 4 + 1) + 0.1 * (k % 3)},{10 * (k % 4 + 1) - 0.2}" for k in range(40)]
    path.write_text("\n".join(["level,read 1 (uS),read 2 (uS)", *rows]), encoding="utf-8")
    assert isinstance(fit_cell(path).noise, Law)
    path.write_text(GOOD + ",,\n", encoding="utf-8")
    assert len(Readings.from_csv(path)) == 6


def test_times_of_a_clock_count_from_each_first_read(tmp_path: Path) -> None:
    path = tmp_path / "dev.csv"
    path.write_text(
        "cell;t (s);level;g (uS)\na;100;0;1\na;103;0;1\na;500;1;3\nb;107;0;1\na;510;1;3\n", encoding="utf-8"
    )
    readings = Readings.from_csv(path, time_from="first read")
    assert readings.time is not None
    assert readings.time.tolist() == [0, 3, 0, 0, 10]
    assert any("first read" in text for text in readings.assumed)


UNITS = {
    "conductance": {"S": 1.0, "mS": 1e-3, "uS": 1e-6, "µS": 1e-6, "nS": 1e-9},
    "resistance": {"Ohm": 1.0, "kOhm": 1e3, "MOhm": 1e6, "kΩ": 1e3},
}


@given(
    values=st.lists(st.floats(1e-9, 1e-2), min_size=1, max_size=20),
    dimension=st.sampled_from(sorted(UNITS)),
    pick=st.integers(0, 3),
    separator=st.sampled_from(";\t"),
    comma=st.booleans(),
    quoted=st.booleans(),
    mark=st.booleans(),
    form=st.sampled_from(["{} ({})", "{} [{}]", "{} / {}", "{}_{}", "{} in {}"]),
)
@settings(max_examples=150, deadline=None)
def test_numbers_come_back_whatever_the_unit_the_separator_and_the_sign(
    values: list[float], dimension: str, pick: int, separator: str, comma: bool, quoted: bool, mark: bool, form: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    unit, factor = sorted(UNITS[dimension].items())[pick]
    quote = '"' if quoted else ""
    rows = [f"{quote}{(v if dimension == 'conductance' else 1 / v) / factor:.17g}{quote}" for v in values]
    rows = [row.replace(".", ",") if comma else row for row in rows]
    header = quote + form.format(dimension, unit) + quote
    text = "\n".join([f"{header}{separator}id", *(f"{row}{separator}x{k}" for k, row in enumerate(rows))])
    path = tmp_path_factory.mktemp("table") / "dev.csv"
    path.write_bytes((("\ufeff" if mark else "") + text).encode())
    readings = Readings.from_csv(path, decimal="," if comma else None)
    np.testing.assert_allclose(readings.conductance, values, rtol=1e-14)
    assert readings.cells == len(values)


PIECES = (
    *(b",", b";", b"\t", b"\n", b"\r", b'"', b"#", b" ", b"-", b"\x00", b"\xff"),
    *(b"nan", b"inf", b"0", b"1e99", b"1e-400", b"9.9e37", b"1,234", b"(uS)", b"level", b"cell", b"time (s)"),
)


def damaged(content: bytes, rng: random.Random) -> bytes:
    """A file with some of its bytes lost, repeated, or put in the place of others."""
    made = bytearray(content)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(made) + 1 if rng.random() < 0.6 else min(len(made), 80) + 1)
        what = rng.random()
        if what < 0.4:
            made[place:place] = rng.choice(PIECES)
        elif what < 0.7:
            del made[place : place + rng.choice((1, 1, 2, 5, 40, 400))]
        elif what < 0.9:
            made[place : place + 1] = rng.choice(PIECES)
        else:
            start = rng.randrange(len(made) + 1)
            made[place:place] = made[start : start + rng.randint(1, 60)]
    return bytes(made)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("form", FORMS)
def test_a_damaged_table_gives_a_cell_or_one_of_our_errors(form: str, tmp_path: Path) -> None:
    truth = synthetic(np.random.default_rng(0), cells=4, targets=(1e-5, 2e-5, 4e-5))
    content, told, _ = layouts(truth)[form]
    rng = random.Random(f"damage {form}")
    refused = 0
    for _ in range(60):
        try:
            fit = fit_of(tmp_path, damaged(content, rng), told)
        except (FileFormatError, InputError):
            refused += 1
        else:
            fit.save(tmp_path / "cell.toml")
            assert Cell.load(tmp_path / "cell.toml") == fit.cell
    assert refused
