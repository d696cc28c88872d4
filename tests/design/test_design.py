from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import designs, peripheries, relaxed
from xbarsim.circuit import Wires
from xbarsim.design import AdcErrors, Converter, DacErrors, Design, Drive, Periphery
from xbarsim.devices import GRID, Cell, LineFaults, StuckFaults
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, FileWriteError, InputError
from xbarsim.mapping import Differential, Mapping, Offset

CELL = Cell(g_min=1e-6, g_max=1.6e-5, levels=16)

# --- bounds


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"input_bits": 0}, "input_bits must be an integer >= 1 and <= 16, got 0"),
        ({"input_bits": 17}, "input_bits must be .* got 17"),
        ({"input_bits": 8.0}, "input_bits must be an integer .* got 8.0"),
        ({"input_bits": True}, "input_bits must be an integer"),
        ({"dac_bits": 0}, "dac_bits must be an integer >= 1 and <= 8, got 0"),
        ({"dac_bits": 9}, "dac_bits must be an integer >= 1 and <= 8, got 9"),
        ({"adc_bits": 0}, "adc_bits must be an integer >= 1 and <= 24, got 0"),
        ({"adc_bits": 25}, "adc_bits must be .* got 25"),
        ({"adc_bits": "8"}, "adc_bits must be an integer"),
        ({"adc_bits": 8, "adc_range": "wide"}, "adc_range must be one of 'calibrated', 'full', 'lossless'"),
        ({"adc_bits": 8, "adc_range": 0.0}, "adc_range must be a finite number > 0.0, got 0.0"),
        ({"adc_bits": 8, "adc_range": -1.0}, "adc_range must be .* got -1.0"),
        ({"adc_bits": 8, "adc_range": math.nan}, "adc_range must be .* got nan"),
        ({"adc_bits": 8, "adc_range": math.inf}, "adc_range must be .* got inf"),
        ({"adc_bits": 8, "adc_range": True}, "adc_range must be"),
        ({"adc_range": "full"}, "adc_bits must be given when adc_range is 'full', got None"),
        ({"adc_range": "calibrated"}, "adc_bits must be given"),
        ({"adc_range": 10.0}, "adc_bits must be given when adc_range is 10.0, got None"),
        ({"subtraction": "optical"}, "subtraction must be one of 'analog', 'digital', got 'optical'"),
        ({"signed_inputs": "three_pass"}, "signed_inputs must be one of 'two_pass', 'offset'"),
        ({"signed_inputs": None}, "signed_inputs must be one of"),
        ({"active_rows": 0}, "active_rows must be an integer >= 1, got 0"),
        ({"active_rows": -3}, "active_rows must be an integer >= 1, got -3"),
        ({"active_rows": 2.0}, "active_rows must be an integer >= 1, got 2.0"),
        ({"active_rows": True}, "active_rows must be an integer >= 1, got True"),
        ({"columns_per_adc": 0}, "columns_per_adc must be an integer >= 1, got 0"),
        ({"columns_per_adc": 1.5}, "columns_per_adc must be an integer >= 1, got 1.5"),
        ({"columns_per_adc": "8"}, "columns_per_adc must be an integer >= 1, got '8'"),
        ({"adc_bits": 8, "adc_errors": 0.1}, "adc_errors must be of type AdcErrors or NoneType, got 0.1"),
        ({"adc_bits": 8, "adc_errors": DacErrors()}, "adc_errors must be of type AdcErrors"),
        ({"dac_errors": AdcErrors()}, "dac_errors must be of type DacErrors"),
        ({"adc_errors": AdcErrors(gain=0.1)}, r"adc_errors must be None for an ideal read-out .* got AdcErrors\("),
    ],
)
def test_periphery_bounds(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Periphery(**fields)


def test_periphery_is_frozen_and_by_keyword() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Periphery().input_bits = 4  # type: ignore[misc]
    with pytest.raises(TypeError):
        Periphery(8)  # type: ignore[call-arg]


def test_defaults_that_are_filled_in() -> None:
    assert Periphery().adc_range is None
    assert Periphery(adc_bits=8).adc_range == "calibrated"
    given_range = Periphery(adc_bits=8, adc_range=100).adc_range
    assert given_range == 100.0
    assert type(given_range) is float
    assert Design(cell=CELL).subtraction == "analog"
    assert Design(cell=CELL, mapping=Mapping(encoding=Offset())).subtraction == "digital"
    assert Design(cell=CELL, periphery=Periphery(subtraction="digital")).subtraction == "digital"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cell": "milo2021"}, "cell must be of type Cell, got 'milo2021' of type str"),
        ({"mapping": Differential()}, "mapping must be of type Mapping"),
        ({"periphery": None}, "periphery must be of type Periphery"),
        ({"faults": 0.1}, "faults must be of type FaultModel, got 0.1"),
        (
            {"mapping": Mapping(cell_bits=5)},
            r"cell_bits must be at most 4 for cell 'custom' with 16 levels, got 5 \(32 levels\)",
        ),
        (
            {"mapping": Mapping(encoding=Offset()), "periphery": Periphery(subtraction="analog")},
            "subtraction must be 'digital' for an encoding without column pairs, got 'analog' with Offset",
        ),
        (
            {"periphery": Periphery(adc_bits=4, adc_range="lossless")},
            "adc_bits must be at least 12 for a lossless read of 128 rows, got 4",
        ),
        ({"wires": 2.5}, "wires must be of type Wires or NoneType, got 2.5"),
        ({"line_faults": 0.1}, "line_faults must be of type LineFaults or NoneType, got 0.1"),
        (
            {"wires": Wires(sense_resistance=100.0), "line_faults": LineFaults(shorted_bit_lines=0.01)},
            "sense_resistance must be 0 ohm where bit lines can be shorted .* got 100.0",
        ),
    ],
)
def test_combinations_that_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Design(**{"cell": CELL, **fields})


def test_shorts_need_sense_circuits_at_one_voltage_and_opens_do_not() -> None:
    wires = Wires(sense_resistance=100.0)
    Design(cell=CELL, wires=wires, line_faults=LineFaults(open_bit_line=0.1, open_word_line=0.1))
    shorts = LineFaults(shorted_bit_lines=0.01)
    design = Design(cell=CELL, wires=Wires(bit_line_resistance=100.0), line_faults=shorts)
    with pytest.raises(InputError, match="sense_resistance must be 0 ohm"):
        design.replace(wires=wires)


@pytest.mark.parametrize(
    ("fields", "ideal"),
    [
        ({}, True),
        ({"faults": StuckFaults(on=0.1, off=0.1)}, True),  # what the cells hold, and reads see just that
        ({"wires": Wires()}, False),
        ({"line_faults": LineFaults()}, False),
        ({"periphery": Periphery(dac_errors=DacErrors())}, False),
        ({"periphery": Periphery(adc_bits=4, adc_errors=AdcErrors())}, False),
    ],
)
def test_an_ideal_circuit_shows_what_the_cells_hold(fields: dict[str, Any], ideal: bool) -> None:
    assert Design(cell=CELL, **fields).ideal_circuit == ideal


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, False),
        ({"dac_errors": DacErrors(gain=0.1, dead=0.1)}, False),  # folded into the conductances
        ({"dac_errors": DacErrors(offset=0.1)}, True),
        ({"adc_bits": 4, "adc_errors": AdcErrors(gain=0.1, dead=0.1)}, False),
        ({"adc_bits": 4, "adc_errors": AdcErrors(offset=0.1)}, True),
        ({"adc_bits": 4, "adc_errors": AdcErrors(capacitor_mismatch=0.1)}, True),
    ],
)
def test_what_no_conductance_holds(fields: dict[str, Any], expected: bool) -> None:
    assert Periphery(**fields).has_offsets == expected


def test_a_replaced_part_is_checked_anew() -> None:
    design = Design(cell=CELL)
    assert design.replace(faults=StuckFaults(on=0.1, off=0.2)).faults == StuckFaults(on=0.1, off=0.2)
    assert design.faults is None
    with pytest.raises(InputError, match="cell_bits must be at most 4"):
        design.replace(mapping=Mapping(cell_bits=6))


# --- how a layer is driven and read


def designed(**fields: Any) -> Design:
    mapping = fields.pop("mapping", Mapping())
    return Design(cell=CELL, mapping=mapping, periphery=Periphery(**fields))


def drive(signed: bool = False, **fields: Any) -> Drive:
    return designed(**fields).drive(signed=signed)


def converter(rows: int = 128, calibrated: float | None = None, **fields: Any) -> Converter:
    return designed(**fields).converter(rows=rows, calibrated_range=calibrated)


def test_planes_and_passes() -> None:
    for signed, how, dac, planes, passes in (
        (False, "two_pass", 1, 8, 1),
        (True, "two_pass", 1, 7, 2),
        (True, "offset", 1, 8, 1),
        (True, "two_pass", 4, 2, 2),
        (True, "two_pass", 7, 1, 2),
        (True, "offset", 7, 2, 1),
        (False, "offset", 3, 3, 1),
        (False, "offset", 8, 1, 1),
    ):
        made = drive(signed=signed, signed_inputs=how, dac_bits=dac)
        assert (made.planes, made.passes) == (planes, passes)
        assert made.max_plane == 2**dac - 1
        assert made.max_input == (127 if signed else 255)


def test_without_converter() -> None:
    made = converter()
    assert (made.step, made.low, made.high, made.bits) == (None, 0, 0, None)


def test_g_min_counts_in_level_steps_on_the_grid() -> None:
    made = converter()
    assert made.offset_levels == 1.0  # 1 uS of 1 uS steps
    design = Design(cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=16))
    assert design.offset_levels / GRID == round(design.offset_levels / GRID)
    assert abs(design.offset_levels - 15 / 11) <= GRID / 2


def test_lossless_converters() -> None:
    made = converter(adc_range="lossless", rows=100)
    assert (made.step, made.low, made.high) == (1.0, -1500, 1500)
    assert made.bits == 12
    # digital subtraction: no sign, but g_min's own current
    made = converter(adc_range="lossless", rows=100, subtraction="digital")
    assert (made.step, made.low, made.high) == (1.0, 0, 1600)
    assert made.bits == 11
    made = converter(adc_range="lossless", rows=100, dac_bits=2)
    assert made.high == 4500
    assert converter(adc_range="lossless", adc_bits=12, rows=100) == converter(adc_range="lossless", rows=100)


def test_fewer_rows_at_a_time_need_fewer_bits() -> None:
    """1500 steps of 100 rows at level 15 take 12 bits with their sign; 8 rows give 120, so 8 bits; 1 row 15, so 5."""
    for together, high, bits in ((None, 1500, 12), (100, 1500, 12), (128, 1500, 12), (8, 120, 8), (1, 15, 5)):
        made = converter(adc_range="lossless", rows=100, active_rows=together)
        assert (made.low, made.high, made.bits) == (-high, high, bits)
        assert drive(active_rows=together).active_rows == together
        with pytest.raises(InputError, match=f"adc_bits must be at least {bits} for a lossless read"):
            converter(adc_range="lossless", rows=100, active_rows=together, adc_bits=bits - 1)
    # digital: 16 steps of each row with g_min's own; and the range of "full" follows
    assert converter(adc_range="lossless", subtraction="digital", rows=100, active_rows=8).high == 128
    assert converter(adc_bits=6, adc_range="full", rows=100, active_rows=31).step == 15.0
    assert converter(adc_bits=6, adc_range="full", rows=5, active_rows=31).step == pytest.approx(75 / 31)


@pytest.mark.parametrize(
    ("together", "rows", "reads"),
    [(None, 128, 1), (1, 128, 128), (3, 128, 43), (128, 128, 1), (200, 128, 1), (4, 0, 1)],
)
def test_reads_for_all_rows_of_an_array(together: int | None, rows: int, reads: int) -> None:
    assert drive(active_rows=together).row_group_count(rows) == reads


@relaxed
@given(periphery=peripheries(), rows=st.integers(1, 300), span=st.floats(0.1, 1e6))
def test_converters_hold_their_range(periphery: Periphery, rows: int, span: float) -> None:
    design = Design(cell=CELL, periphery=periphery)
    made = design.converter(rows=rows, calibrated_range=span)
    if periphery.adc_range is None:
        assert made.step is None
        return
    assert made.step is not None
    assert made.step >= 1.0  # never finer than a unit
    wanted = {"calibrated": span}.get(str(periphery.adc_range), periphery.adc_range)
    if isinstance(wanted, str):
        wanted = design.largest_sum(rows)
    assert made.step * max(made.high, 1) >= wanted * (1 - 1e-12)
    assert (made.low == 0) == (design.subtraction == "digital")
    if periphery.adc_bits is not None:
        assert made.high - made.low == 2**periphery.adc_bits - 1
        assert made.bits == periphery.adc_bits
        if made.step > 1.0:  # no coarser than needed
            assert made.step * max(made.high, 1) == pytest.approx(wanted, rel=1e-12)


def test_full_is_the_largest_sum() -> None:
    made = converter(adc_range="full", adc_bits=6, rows=10)
    assert (made.low, made.high) == (-32, 31)
    assert made.step == pytest.approx(150 / 31)
    made = converter(adc_range="full", adc_bits=6, rows=10, subtraction="digital", dac_bits=2)
    assert (made.low, made.high) == (0, 63)
    assert made.step == pytest.approx(160 * 3 / 63)


def test_calibrated_needs_a_range() -> None:
    assert converter(adc_bits=5, calibrated=30.0).step == 2.0
    with pytest.raises(InputError, match="calibrated_range must be a number"):
        converter(adc_bits=5)


# --- TOML


@relaxed
@given(design=designs())
def test_round_trip_is_exact(design: Design) -> None:
    again = Design.from_toml(design.to_toml())
    assert again == design
    for field in dataclasses.fields(design):
        assert repr(getattr(again, field.name)) == repr(getattr(design, field.name))
    assert again.to_toml() == design.to_toml()
    assert tomlio.loads(Periphery, tomlio.dumps(design.periphery)) == design.periphery


@relaxed
@given(design=designs(), share=st.floats(0, 1))
def test_truncated_text_is_refused_or_a_design(design: Design, share: float) -> None:
    text = design.to_toml()
    try:
        Design.from_toml(text[: int(share * len(text))])
    except (FileFormatError, InputError) as error:
        assert str(error)  # noqa: PT017  any other exception is the failure


def test_a_file_cut_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "design.toml"
    design = Design(cell=CELL, faults=StuckFaults(on=0.1, off=0.2))
    design.save(path)
    assert Design.load(path) == design
    whole = path.read_bytes()
    path.write_bytes(whole[: whole.index(b"off = ") + 6])
    with pytest.raises(FileFormatError, match=r"design\.toml is not valid TOML"):
        Design.load(path)
    with pytest.raises(FileFormatError, match="cannot read Design"):
        Design.load(tmp_path / "absent.toml")
    with pytest.raises(FileWriteError, match="No such file"):
        design.save(tmp_path / "absent" / "design.toml")
    assert [p.name for p in tmp_path.iterdir()] == ["design.toml"]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", FileFormatError, r"cell is missing; it must be a table \(Cell\)"),
        (
            "cell = 'islped2019'\nrows = 4",
            FileFormatError,
            "Design has no key 'rows'; its keys are cell, current_law",
        ),
        ("cell = 'islped2019'\n[mapping]\nrow = 4", FileFormatError, "mapping has no key 'row'"),
        ("cell = 'islped2019'\n[mapping]\nrows = '4'", FileFormatError, "mapping.rows must be int, got '4'"),
        ("cell = 'islped2019'\n[mapping]\nrows = 4.0", FileFormatError, "mapping.rows must be int, got 4.0"),
        ("cell = 'islped2019'\n[mapping]\nrows = 0", InputError, "rows must be an integer >= 1, got 0"),
        ("cell = 'islped2019'\n[mapping]\ncolumns = 0", InputError, "columns must be an integer >= 1, got 0"),
        (
            "cell = 'islped2019'\n[mapping.encoding]\ntype = 'Threefold'",
            FileFormatError,
            # a newcomer's encoding that another test defined may stand among them
            "mapping.encoding.type must be one of 'Balanced', 'Differential', .*, got 'Threefold'",
        ),
        ("cell = 'islped2019'\n[periphery]\nadc_bits = 0", InputError, "adc_bits must be .* got 0"),
        (
            "cell = 'islped2019'\n[periphery]\nadc_bits = 8\nadc_range = 'wide'",
            FileFormatError,
            "periphery.adc_range must be 'calibrated' or 'full' or 'lossless' or float, got 'wide'",
        ),
        (
            "cell = 'islped2019'\n[faults]\ntype = 'StuckFaults'\non = 0.6\noff = 0.6",
            InputError,
            r"on \+ off must be <= 1",
        ),
        ("cell = 'islped2019'\n[faults]\ntype = 'StuckFaults'\non = -0.1\noff = 0.0", InputError, "on must be"),
        ("cell = {g_min = 1e-5, g_max = 1e-6, levels = 2}", InputError, "g_max must be .*> 1e-05, got 1e-06"),
        ("cell = {g_min = 0.0, g_max = 1e-6, levels = 2}", InputError, "g_min must be .*> 0.0, got 0.0"),
        ("cell = {g_min = -1e-6, g_max = 1e-6, levels = 2}", InputError, "g_min must be .*> 0.0"),
        ("cell = {g_min = nan, g_max = 1e-6, levels = 2}", InputError, "g_min must be a finite number"),
        ("cell = {g_min = 1e-6, g_max = 1e-5, levels = 2}", InputError, "cell_bits must be at most 1"),
        (
            "cell = 'islped2019'\n[wires]\nword_line_resistance = -1.0",
            InputError,
            "word_line_resistance must be .* -1.0",
        ),
        ("cell = 'islped2019'\n[wires]\nresistance = 1.0", FileFormatError, "wires has no key 'resistance'"),
        ("cell = 'islped2019'\n[line_faults]\nopen_bit_line = 2.0", InputError, "open_bit_line must be .* got 2.0"),
        ("cell = 'islped2019'\n[periphery]\nactive_rows = 0", InputError, "active_rows must be .* got 0"),
        ("cell = 'islped2019'\n[periphery]\ncolumns_per_adc = 0", InputError, "columns_per_adc must be .* got 0"),
        (
            "cell = 'islped2019'\n[periphery]\nadc_bits = 8\n[periphery.adc_errors]\ndead = 1.5",
            InputError,
            "dead must be .* got 1.5",
        ),
        (
            "cell = 'islped2019'\n[periphery.dac_errors]\nnoise = 1.5",
            FileFormatError,
            "periphery.dac_errors has no key 'noise'",
        ),
        ("cell = 'no such card'", InputError, "no such card"),
        ("cell = ", FileFormatError, "not valid TOML"),
    ],
)
def test_designs_that_cannot_be_read(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Design.from_toml(text)


def test_a_cell_and_faults_by_name() -> None:
    design = Design.from_toml("cell = 'islped2019'\nfaults = 'chen2015_sa0_hrs'")
    assert design == Design(cell=Cell.load("islped2019"), faults=StuckFaults.load("chen2015_sa0_hrs"))


def test_a_design_says_where_a_stuck_cell_errs_by_more_than_a_weight() -> None:
    """8 bits in two slices of 4: 15 times 16 of 127."""
    said = str(Design(cell=Cell.load("wan2022"), mapping=Mapping(weight_bits=8, cell_bits=4)))
    assert "that hold 9 bits as well (a stuck cell errs by up to 1.9 x the largest weight)" in said
    assert "as well" not in str(Design(cell=Cell.load("wan2022"), mapping=Mapping(weight_bits=9, cell_bits=4)))
