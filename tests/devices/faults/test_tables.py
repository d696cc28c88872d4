"""Fault maps out of tables of others: the map that is meant, or one error with line, column and value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xbarsim.data import data_file
from xbarsim.devices import FaultKind, FaultMap, MeasuredFaults, read_fault_map
from xbarsim.foundation.validation import FileFormatError, InputError

ON, OFF, AT = FaultKind.STUCK_ON, FaultKind.STUCK_OFF, FaultKind.STUCK_AT


def written(folder: Path, text: str) -> Path:
    path = folder / "faults.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("row,column,kind\n0,1,stuck_on\n1,3,stuck_off\n2,0,stuck_on\n", {}),
        ("\ufeff\"WL\";\"BL\";\"Fault\"\n2;0;LRS\n0;1;'on'\n1;3;HRS\n".replace("'", '"'), {}),
        ("col\trow\ttype\n2\t1\tON\n4\t2\topen\n1\t3\tShort\n", {"first": 1}),
        ("tile,row,column,kind\n0,0,1,2\n0,1,3,1\n0,2,0,2\n0,2,2,0\n", {}),
        ("r_no,c_no,what\n0,1,SA0\n1,3,SA1\n2,0,SA0\n",
         {"kinds": {"SA0": "stuck_on", "SA1": "stuck_off"},
          "rename": {"r_no": "row", "c_no": "column", "what": "kind"}}),
    ],
)  # fmt: skip
def test_a_list_of_cells_is_the_map_it_means(text: str, told: dict[str, Any], tmp_path: Path) -> None:
    found = read_fault_map(written(tmp_path, text), "list", shape=(1, 3, 4), **told)
    assert found == FaultMap(shape=(1, 3, 4), index=np.array([1, 7, 8]), kind=np.array([ON, OFF, ON], dtype=np.uint8))


def test_a_list_holds_cells_that_are_stuck_between(tmp_path: Path) -> None:
    path = written(tmp_path, "row;column;kind;resistance (kOhm)\n0;0;stuck_at;12,5\n1;1;on;\n")
    found = read_fault_map(path, "list", shape=(1, 2, 2))
    assert found.kind.tolist() == [AT, ON]
    np.testing.assert_allclose(found.value, [80e-6, np.nan])


def test_a_grid_of_kinds_is_the_map_it_means(tmp_path: Path) -> None:
    path = written(tmp_path, "0 ; 2 ; 0\n1;0;0\n0;0;0\n2;0;1\n")
    found = read_fault_map(path, "kinds")
    assert found.shape == (1, 4, 3)
    assert found.dense()[0].tolist() == [[0, 2, 0], [1, 0, 0], [0, 0, 0], [2, 0, 1]]
    assert read_fault_map(path, "kinds", shape=(2, 2, 3)).dense()[1].tolist() == [[0, 0, 0], [2, 0, 1]]
    swapped = read_fault_map(path, "kinds", kinds={"0": "works", "1": "stuck_on", "2": "stuck_off"})
    assert (swapped.counts[ON], swapped.counts[OFF]) == (found.counts[OFF], found.counts[ON])


def test_a_map_of_resistance_is_cut_at_its_thresholds(tmp_path: Path) -> None:
    path = written(tmp_path, "10,20,inf\n5,9.9e37,15\n")
    found = read_fault_map(path, "resistance", unit="kOhm", low=8e3, high=18e3)
    assert found.dense()[0].tolist() == [[0, OFF, OFF], [ON, OFF, 0]]
    values = read_fault_map(path, "resistance", unit="kOhm", low=8e3, high=18e3, stuck="value")
    np.testing.assert_allclose(values.value, [50e-6, 0.0, 200e-6, 0.0])
    assert read_fault_map(path, "resistance", unit="kOhm", low=8e3).counts == {ON: 1, OFF: 0, AT: 0}
    in_siemens = written(tmp_path, "100\t50\t-0.01\n200\t0\t66.6\n")
    assert read_fault_map(in_siemens, "resistance", unit="uS", low=8e3, high=18e3) == found


@given(kinds=st.lists(st.lists(st.integers(0, 2), min_size=3, max_size=3), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_one_map_comes_out_of_all_three_forms(kinds: list[list[int]], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("faults")
    grid = np.array(kinds)
    wanted = FaultMap.from_dense(grid[np.newaxis])
    assert read_fault_map(written(folder, "\n".join(",".join(map(str, row)) for row in kinds)), "kinds") == wanted
    ohms = np.array([10e3, 100e3, 1e3])[grid]
    text = "\n".join(",".join(f"{value:g}" for value in row) for row in ohms)
    assert read_fault_map(written(folder, text), "resistance", unit="Ohm", low=5e3, high=50e3) == wanted
    words = {1: "off", 2: "on"}
    listed = [f"{r},{c},{words[int(k)]}" for (r, c), k in np.ndenumerate(grid) if k]
    if listed:
        path = written(folder, "\n".join(["row,column,kind", *listed]))
        assert read_fault_map(path, "list", shape=wanted.shape) == wanted


LIST = "row,column,kind\n0,1,stuck_on\n1,3,stuck_off\n"


@pytest.mark.parametrize(
    ("text", "layout", "told", "message"),
    [
        (LIST.replace("1,3", "1,4"), "list", {},
         "line 3, column 'column': a column must be a whole number from 0 to 3, got '4'"),
        (LIST.replace("1,3", "0,1"), "list", {},
         "line 3, column 'column': no cell may be listed twice, and line 2 does"),
        (LIST.replace("0,1", "0.5,1"), "list", {}, "line 2, column 'row': a row must be a whole number"),
        (LIST.replace("stuck_off", "SA1"), "list", {}, "line 3, column 'kind': the literature uses this for cells"),
        (LIST.replace("stuck_off", "dead"), "list", {}, "line 3, column 'kind': a cell must be one of 'stuckon'"),
        (LIST.replace("stuck_off", "stuck_at"), "list", {}, "line 3, column 'kind': a cell that is stuck_at needs"),
        (LIST.replace("kind", "remark"), "list", {}, "column 'remark': it must be one of row, column, tile, kind"),
        (LIST.replace(",kind", "").replace(",stuck_on", "").replace(",stuck_off", ""), "list", {}, "a column 'kind'"),
        (LIST, "list", {"shape": (2, 3, 4)}, "must have a column 'tile' for 2 tiles"),
        ("row,column,kind,g\n0,1,stuck_at,3\n", "list", {}, "column 'g': it must state a unit of conductance"),
        ("row,column,kind,g (uS)\n0,1,stuck_at,\n", "list", {}, "line 2, column 'g (uS)': a cell that is stuck_at"),
        ("0,1\n2,3\n", "kinds", {}, "line 2, column '2': a grid of kinds has no conductances"),
        ("0,1\n2,\n", "kinds", {}, "line 2, column '2': a cell must be one of"),
        ("0,1\n2\n", "kinds", {}, "line 2: a line must have 2 fields, got 1"),
        ("0,1\n2,1\n", "kinds", {"shape": (1, 3, 2)}, "must have 3 lines of 2 fields"),
        ("1,2\n3,x\n", "resistance", {"unit": "Ohm", "low": 1.0}, "line 2, column '2': it must be a number"),
        ("1,2\n3,\n", "resistance", {"unit": "Ohm", "low": 1.0}, "line 2, column '2': every cell must have been"),
        ("1,2\n3,0\n", "resistance", {"unit": "Ohm", "low": 1.0}, "line 2, column '2': it must be > 0, in Ohm"),
        ("", "kinds", {}, "got an empty file"),
    ],
)  # fmt: skip
def test_a_broken_table_is_refused_with_line_column_and_value(
    text: str, layout: Any, told: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path, text)
    told = {"shape": (1, 3, 4), **told} if layout == "list" else told
    with pytest.raises(FileFormatError) as caught:
        read_fault_map(path, layout, **told)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("layout", "told", "message"),
    [
        ("list", {}, "shape must be given for a list of cells"),
        ("lists", {}, "layout must be one of"),
        ("kinds", {"low": 1.0}, "low must be None for layout 'kinds'"),
        ("list", {"shape": (1, 3, 4), "first": 2}, "first must be an integer >= 0 and <= 1"),
        ("list", {"shape": (1, 3, 4), "kinds": {"x": "broken"}}, r"kinds\['x'\] must be one of 'works'"),
        ("resistance", {"low": 1.0}, "unit must be given for a map of resistance"),
        ("resistance", {"unit": "uS"}, "low or high must be given"),
        ("resistance", {"unit": "V", "low": 1.0}, "unit must be one of resistance or conductance"),
        ("resistance", {"unit": "Ohm", "low": 9.0, "high": 5.0}, "high must be a finite number >= 9.0"),
    ],
)
def test_parameters_out_of_bounds_are_refused(layout: Any, told: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        read_fault_map(written(tmp_path, LIST), layout, **told)


@pytest.mark.data
def test_a_measured_map_of_resistance_is_the_same_through_a_table(tmp_path: Path) -> None:
    try:
        path = data_file("rram", "nirram_chip_resistance_maps.npz")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    with np.load(path, allow_pickle=False) as archive:
        ohms = archive["CHIP_7_read_after_FORM_0319"].astype(float).reshape(256, 256)
    text = "\n".join("\t".join(f"{value / 1e3:.17g}" for value in row) for row in ohms)
    found = read_fault_map(written(tmp_path, text), "resistance", unit="kOhm", high=100e3)
    assert found == FaultMap.from_resistance(ohms, high=100e3, stuck="ends")
    assert found.off_rate == pytest.approx(0.248, abs=5e-4)  # as its authors' data say: shared/data/SOURCES.md
    found.save(tmp_path / "map.npz")
    model = MeasuredFaults(path=str(tmp_path / "map.npz"))
    assert model.total == found.rate
