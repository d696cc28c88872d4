"""Fault maps: content, files, and what is refused."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import fault_maps
from xbarsim.data import data_file
from xbarsim.devices import GRID, Cell, FaultKind, FaultMap
from xbarsim.foundation.validation import FileFormatError, FileWriteError, InputError

CELL = Cell(g_min=1e-6, g_max=16e-6, levels=16)
SHAPE = (2, 3, 4)
MAP = FaultMap(
    shape=SHAPE,
    index=np.array([1, 5, 23]),
    kind=np.array([FaultKind.STUCK_ON, FaultKind.STUCK_AT, FaultKind.STUCK_OFF]),
    value=np.array([np.nan, 2.5e-6, np.nan]),
    note="by hand",
)


def test_the_parts() -> None:
    assert len(MAP) == 3
    assert MAP.cells == 24
    assert MAP.counts == {FaultKind.STUCK_OFF: 1, FaultKind.STUCK_ON: 1, FaultKind.STUCK_AT: 1}
    assert MAP.on_rate == MAP.off_rate == 1 / 24
    assert MAP.rate == 3 / 24
    dense = MAP.dense()
    assert dense.dtype == np.uint8
    assert dense[0, 0, 1] == FaultKind.STUCK_ON
    assert dense[0, 1, 1] == FaultKind.STUCK_AT
    assert dense[1, 2, 3] == FaultKind.STUCK_OFF
    assert np.count_nonzero(dense) == 3


def test_arrays_are_copies_and_cannot_be_written() -> None:
    index = np.array([1, 2])
    faults = FaultMap(shape=SHAPE, index=index, kind=np.array([1, 2]))
    index[0] = 0
    assert faults.index[0] == 1
    for array in (faults.index, faults.kind, faults.value):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


@given(fault_maps())
def test_dense_and_back(faults: FaultMap) -> None:
    values = np.zeros(faults.cells)
    values[faults.index] = faults.value
    again = FaultMap.from_dense(faults.dense(), values.reshape(faults.shape))
    assert again == faults
    assert again.hash == faults.hash


@given(fault_maps())
def test_tiles_make_the_whole(faults: FaultMap) -> None:
    tiles = [faults.tile(tile) for tile in range(faults.shape[0])]
    assert sum(map(len, tiles)) == len(faults)
    for tile, part in enumerate(tiles):
        assert part.shape == (1, *faults.shape[1:])
        np.testing.assert_array_equal(part.dense()[0], faults.dense()[tile])
    if tiles:
        np.testing.assert_array_equal(np.concatenate([part.value for part in tiles]), faults.value)
    with pytest.raises(InputError, match="tile must be"):
        faults.tile(faults.shape[0])


@given(fault_maps())
def test_apply_touches_exactly_the_broken_cells(faults: FaultMap) -> None:
    sound = np.full(faults.shape, 5e-6)
    before = sound.copy()
    broken = faults.apply(sound, faults.conductance(CELL))
    np.testing.assert_array_equal(sound, before)
    dense = faults.dense()
    assert np.all(broken[dense == 0] == 5e-6)
    assert np.all(broken[dense == FaultKind.STUCK_ON] == CELL.g_max)
    assert np.all(broken[dense == FaultKind.STUCK_OFF] == CELL.g_min)
    np.testing.assert_array_equal(broken[dense == FaultKind.STUCK_AT], faults.value[faults.kind == FaultKind.STUCK_AT])
    np.testing.assert_array_equal(faults.apply(broken, faults.conductance(CELL)), broken)


def test_apply_takes_level_units_as_well() -> None:
    levels = np.full(SHAPE, 7, dtype=np.float32)
    broken = MAP.apply(levels, MAP.stuck_levels(CELL, 4))
    assert broken.dtype == np.float32
    assert (broken[0, 0, 1], broken[0, 1, 1], broken[1, 2, 3]) == (15.0, 1.5, 0.0)
    assert np.count_nonzero(broken != 7) == 3


def test_apply_keeps_the_type_and_takes_any_layout() -> None:
    sound = np.asfortranarray(np.full(SHAPE, 5e-6, dtype=np.float32))
    broken = MAP.apply(sound, MAP.conductance(CELL))
    assert broken.dtype == np.float32
    assert broken[0, 1, 1] == np.float32(2.5e-6)
    assert np.count_nonzero(broken != sound) == 3


@given(fault_maps(), st.integers(1, 4))
def test_stuck_levels(faults: FaultMap, bits: int) -> None:
    levels = faults.stuck_levels(CELL, bits)
    assert levels.dtype == np.float64
    assert np.all(levels[faults.kind == FaultKind.STUCK_OFF] == 0)
    assert np.all(levels[faults.kind == FaultKind.STUCK_ON] == 2**bits - 1)
    np.testing.assert_array_equal(np.rint(levels / GRID) * GRID, levels)
    np.testing.assert_array_equal(levels.astype(np.float32), levels)
    assert np.all(levels >= -CELL.offset_levels(bits))
    at = faults.kind == FaultKind.STUCK_AT
    wanted = np.maximum((faults.value[at] - CELL.g_min) / CELL.level_step(bits), -CELL.offset_levels(bits))
    np.testing.assert_allclose(levels[at], wanted, rtol=1e-7, atol=GRID)


def test_a_value_no_float_holds_is_refused() -> None:
    huge = FaultMap(shape=SHAPE, index=[0], kind=[FaultKind.STUCK_AT], value=[1e300])  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"value must be a conductance .*got 1e\+300 at position 0"):
        huge.stuck_levels(dataclasses.replace(CELL, implausible=True), 4)


@given(fault_maps(kinds=(FaultKind.STUCK_OFF, FaultKind.STUCK_ON)))
def test_complement(faults: FaultMap) -> None:
    other = faults.complement()
    assert (other.counts[FaultKind.STUCK_ON], other.counts[FaultKind.STUCK_OFF]) == (
        faults.counts[FaultKind.STUCK_OFF],
        faults.counts[FaultKind.STUCK_ON],
    )
    np.testing.assert_array_equal(other.index, faults.index)
    assert other.complement() == faults
    if len(faults):
        assert other != faults


def test_a_value_has_no_complement() -> None:
    with pytest.raises(InputError, match="no STUCK_AT cells to have a complement, got 1"):
        MAP.complement()


@given(fault_maps(shape=(2, 3, 3)), fault_maps(shape=(2, 3, 3)))
def test_difference(first: FaultMap, second: FaultMap) -> None:
    change = first.difference(second)
    assert bool(change) == (first != second)
    assert (first.hash == second.hash) == (first == second)
    assert set(change.added) == set(second.index) - set(first.index)
    assert set(change.removed) == set(first.index) - set(second.index)
    assert set(change.changed) <= set(first.index) & set(second.index)
    back = second.difference(first)
    np.testing.assert_array_equal(back.added, change.removed)
    np.testing.assert_array_equal(back.changed, change.changed)
    assert not first.difference(first)


def test_difference_sees_kind_and_value() -> None:
    other = FaultMap(
        shape=SHAPE,
        index=np.array([1, 5, 22]),
        kind=np.array([FaultKind.STUCK_OFF, FaultKind.STUCK_AT, FaultKind.STUCK_OFF]),
        value=np.array([np.nan, 2.6e-6, np.nan]),
    )
    change = MAP.difference(other)
    assert (list(change.added), list(change.removed), list(change.changed)) == ([22], [23], [1, 5])


def test_the_hash_is_the_documented_one_and_leaves_the_note_out() -> None:
    content = (
        np.array([2, 3, 4], dtype="<i8").tobytes()
        + np.array([1, 5, 23], dtype="<i8").tobytes()
        + bytes([2, 3, 1])
        + np.array([2.5e-6], dtype="<f8").tobytes()
    )
    assert MAP.hash == hashlib.sha256(content).hexdigest()
    assert MAP.hash == "cc51186098a3c01c6ae757337f1768b47b94d6dd4b1151487e215fb8ce2e6e18"
    other = FaultMap(shape=SHAPE, index=MAP.index, kind=MAP.kind, value=MAP.value, note="other")
    assert other == MAP
    assert hash(other) == hash(MAP)
    assert FaultMap.empty((1, 2, 3)).hash != FaultMap.empty((1, 3, 2)).hash
    assert MAP != 3


@pytest.mark.parametrize("ending", [".npz", ".csv"])
@given(faults=fault_maps())
def test_files_give_the_map_back(ending: str, faults: FaultMap) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"map{ending}"
        faults.save(path)
        again = FaultMap.load(path)
        first = path.read_bytes()
        again.save(path)
        assert path.read_bytes() == first
    assert again == faults
    assert again.hash == faults.hash
    assert again.note == faults.note


def test_the_csv_can_be_read_by_eye(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    MAP.save(path)
    assert path.read_text(encoding="utf-8") == (
        '# xbarsim fault map 1; shape = 2, 3, 4; faults = 3; note = "by hand"\n'
        "tile,row,column,kind,conductance_S\n"
        "0,0,1,stuck_on,\n"
        "0,1,1,stuck_at,2.5e-06\n"
        "1,2,3,stuck_off,\n"
    )


def test_a_csv_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_text(
        "tile,row,column,kind,conductance_S\r\n1,2,3,stuck_off,\r\n0,1,1,stuck_at,2.5e-6\r\n0,0,1,stuck_on,\r\n",
        newline="",
    )
    assert FaultMap.from_csv(path, SHAPE) == MAP
    with pytest.raises(FileFormatError, match=r"line 1 must be .* where no shape is given"):
        FaultMap.from_csv(path)


@pytest.mark.parametrize("ending", [".npz", ".csv"])
def test_a_truncated_file_is_refused(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"map{ending}"
    MAP.save(path)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 7), len(whole) - 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError):
            FaultMap.load(path)


def test_a_flipped_byte_never_gives_another_map(tmp_path: Path) -> None:
    path = tmp_path / "map.npz"
    MAP.save(path)
    whole = path.read_bytes()
    for position in range(len(whole)):
        path.write_bytes(whole[:position] + bytes([whole[position] ^ 0x55]) + whole[position + 1 :])
        try:
            faults = FaultMap.load(path)
        except FileFormatError:
            continue
        assert faults == MAP, position  # a byte of the archive that does not matter, such as a time stamp


def test_pickles_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.npz"
    np.savez(path, index=np.array([{"a": 1}], dtype=object))
    with pytest.raises(FileFormatError, match="not a fault map"):
        FaultMap.load(path)
    np.savez(path, format=np.array("something else"))
    with pytest.raises(FileFormatError, match="not a fault map"):
        FaultMap.load(path)
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))
    with pytest.raises(FileFormatError, match="not a fault map"):
        FaultMap.load(path)
    path.write_bytes(b"")
    with pytest.raises(FileFormatError, match="not a fault map"):
        FaultMap.load(path)


def test_arrays_of_wrong_type_or_content_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.npz"
    MAP.save(path)
    with np.load(path) as archive:
        members = dict(archive)

    def write(**changed: Any) -> None:
        stream = io.BytesIO()
        np.savez(stream, **{**members, **changed})
        path.write_bytes(stream.getvalue())

    write()
    assert FaultMap.load(path) == MAP
    for changed, message in (
        ({"index": members["index"].astype(np.int32)}, "types"),
        ({"index": np.array([1, 5, 24])}, "index must be >= 0 and < 24"),
        ({"index": np.array([5, 1, 23])}, "strictly increasing"),
        ({"index": np.array([1, 5, 22])}, "hash"),
        ({"kind": np.array([1, 3, 4], dtype=np.uint8)}, "kind must be one of"),
        ({"value": np.array([np.nan, np.inf, np.nan])}, "value must be finite"),
        ({"shape": np.array([2, 3])}, "shape must be"),
        ({"extra": np.array(1)}, "not a fault map"),
    ):
        write(**changed)
        with pytest.raises(FileFormatError, match=message):
            FaultMap.load(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("shape = 2, 3, 4", "shape = 2, 3"), "line 1 must be"),
        (lambda text: text.replace("shape = 2, 3, 4", "shape = 2, 0, 4"), r"line 1: shape\[1\] \(rows\)"),
        (lambda text: text.replace("faults = 3", "faults = 4"), "must list 4 faults, got 3"),
        (lambda text: text.replace("column,kind", "col,kind"), "line 2 must be"),
        (lambda text: text.replace("1,2,3", "1,3,3"), "line 5: row must be .*<= 2, got 3"),
        (lambda text: text.replace("1,2,3", "1,x,3"), "line 5: .*'x'"),
        (lambda text: text.replace("1,2,3", "0,0,1"), "strictly increasing, got 1 before 1"),
        (lambda text: text.replace("stuck_off", "sa0"), "line 5: kind must be one of .*got 'sa0'"),
        (lambda text: text.replace("stuck_off,", "stuck_off,1e-6"), "line 5: conductance_S must stand"),
        (lambda text: text.replace("2.5e-06", ""), "line 4: conductance_S must stand"),
        (lambda text: text.replace("2.5e-06", "-2.5e-06"), "value must be finite and >= 0"),
        (lambda text: text.replace("2.5e-06", "nan"), "value must be finite and >= 0"),
        (lambda text: text.replace("stuck_off,", "stuck_off"), "line 5: a line must have 5 fields, got 4"),
        (lambda text: text.replace('"by hand"', '"by "hand"'), "line 1"),
    ],
)
def test_a_corrupt_csv_is_refused(tmp_path: Path, change: Callable[[str], str], message: str) -> None:
    path = tmp_path / "map.csv"
    MAP.save(path)
    text = path.read_text(encoding="utf-8")
    assert change(text) != text
    path.write_text(change(text), encoding="utf-8")
    with pytest.raises(FileFormatError, match=message):
        FaultMap.load(path)


def test_a_csv_of_noise_or_for_another_shape_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "map.csv"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(FileFormatError, match="not a fault list"):
        FaultMap.load(path)
    MAP.save(path)
    with pytest.raises(FileFormatError, match=r"for cells of shape \(2, 4, 3\), got \(2, 3, 4\)"):
        FaultMap.from_csv(path, (2, 4, 3))
    with pytest.raises(InputError, match="layout must be one of 'cells', 'addresses', got 'rows'"):
        FaultMap.from_csv(path, layout="rows")  # type: ignore[arg-type]


def test_a_missing_file_or_folder_and_another_ending(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="cannot read a fault map"):
        FaultMap.load(tmp_path / "absent.npz")
    with pytest.raises(FileFormatError, match="cannot read a fault list"):
        FaultMap.load(tmp_path / "absent.csv")
    with pytest.raises(FileWriteError, match="cannot write"):
        MAP.save(tmp_path / "absent" / "map.npz")
    assert list(tmp_path.iterdir()) == []
    for use in (MAP.save, FaultMap.load):
        with pytest.raises(InputError, match=r"file ending must be one of '\.npz', '\.csv', got '\.json'"):
            use(tmp_path / "map.json")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    path = tmp_path / "map.npz"
    MAP.save(path)
    before = path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileWriteError, match="No space left"):
        FaultMap.empty(SHAPE).save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_map_for_another_shape_is_refused() -> None:
    with pytest.raises(InputError, match=r"for cells of shape \(2, 4, 3\), got one for \(2, 3, 4\)"):
        MAP.apply(np.zeros((2, 4, 3)), MAP.conductance(CELL))
    with pytest.raises(InputError, match=r"got one for \(1, 3, 4\)"):
        MAP.difference(FaultMap.empty((1, 3, 4)))
    with pytest.raises(InputError, match="held must be of a floating type, got int64"):
        MAP.apply(np.zeros(SHAPE, dtype=np.int64), MAP.conductance(CELL))
    with pytest.raises(InputError, match=r"stuck must have the shape \(3,\), got \(1,\)"):
        MAP.apply(np.zeros(SHAPE), [0.0])
    with pytest.raises(InputError, match="cell_bits must be <= 4"):
        MAP.stuck_levels(CELL, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"index": [0, 24]}, r"index must be >= 0 and < 24 .*got 24"),
        ({"index": [-1, 2]}, r"index must be >= 0 and < 24 .*got -1"),
        ({"index": [2, 2]}, r"strictly increasing, got 2 before 2"),
        ({"index": [0.0, 1.0]}, r"index must be a 1-dimensional array of integers"),
        ({"index": [[0, 1]]}, r"index must be a 1-dimensional array of integers"),
        ({"index": [0]}, r"one length, got 1, 2 and 1"),
        ({"kind": [0, 1]}, r"kind must be one of 1, 2, 3, got 0 at position 0"),
        ({"kind": [1, 258]}, r"kind must be one of 1, 2, 3, got 258 at position 1"),
        ({"kind": [1, 3]}, r"value must be finite and >= 0 where a cell is STUCK_AT, got nan at position 1"),
        ({"value": [np.nan, 1e-6]}, r"value must be NaN where a cell is not STUCK_AT, got 1e-06"),
        ({"value": ["a", "b"]}, r"value must be a 1-dimensional array of numbers"),
        ({"shape": (2, 3, 0)}, r"shape\[2\] \(columns\) must be"),
        ({"note": None}, r"note must be of type str"),
    ],
)
def test_a_bad_map_is_refused(arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"shape": SHAPE, "index": [0, 1], "kind": [1, 2]}
    FaultMap(**good)
    with pytest.raises(InputError, match=message):
        FaultMap(**{**good, **arguments})


def test_bad_dense_arrays_are_refused() -> None:
    with pytest.raises(InputError, match="kind must be a 3-dimensional array of integers"):
        FaultMap.from_dense(np.zeros((3, 3), dtype=int))
    with pytest.raises(InputError, match="kind must be a 3-dimensional array of integers"):
        FaultMap.from_dense(np.zeros(SHAPE))
    with pytest.raises(InputError, match="kind must be one of 1, 2, 3, got 4"):
        FaultMap.from_dense(np.full(SHAPE, 4))
    with pytest.raises(InputError, match=r"value must be numbers of shape \(2, 3, 4\)"):
        FaultMap.from_dense(np.full(SHAPE, 3), np.zeros((2, 3)))
    with pytest.raises(InputError, match="value must be finite"):
        FaultMap.from_dense(np.full(SHAPE, 3))


DEAD = "9,10000.0,11000.0,7456.806879600608,False\n65165,10000.0,11000.0,7300.033951356306,False\n"


def test_a_dead_cell_list(tmp_path: Path) -> None:
    path = tmp_path / "dead.csv"
    path.write_text(DEAD)
    faults = FaultMap.from_csv(path, layout="addresses")
    assert faults.shape == (1, 256, 256)
    # Word line in the upper byte, source line in the lower.
    positions = np.argwhere(faults.dense()).tolist()
    assert positions == [[0, 0, 9], [0, 65165 >> 8, 65165 & 255]]
    assert set(faults.kind) == {FaultKind.STUCK_AT}
    np.testing.assert_array_equal(faults.value, [1 / 7456.806879600608, 1 / 7300.033951356306])
    assert FaultMap.from_csv(path, (4, 128, 128), layout="addresses").shape == (4, 128, 128)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("65165", "65536", "line 2: address must be .*<= 65535, got 65536"),
        ("65165", "9", "strictly increasing, got 9 before 9"),
        ("False", "True", "line 1: a line must be"),
        ("7300.033951356306", "0.0", "line 2: 0 < low < high"),
        ("7300.033951356306", "nan", "line 2: 0 < low < high"),
        ("7300.033951356306", "10500", "line 2: resistance must miss its window"),
        (",11000.0", "", "line 1: a line must be"),
        ("False\n65165", "False65165", "line 1: a line must be"),
    ],
)
def test_a_bad_dead_cell_list_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "dead.csv"
    path.write_text(DEAD.replace(old, new, 1))
    with pytest.raises(FileFormatError, match=message):
        FaultMap.from_csv(path, layout="addresses")


@pytest.mark.data
def test_the_measured_dead_cell_list() -> None:
    try:
        path = data_file("rram", "nirram_C13_deadcells.csv")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    faults = FaultMap.from_csv(path, layout="addresses")
    assert len(faults) == faults.counts[FaultKind.STUCK_AT] == 778
    assert faults.cells == 65536
    assert faults.value.min() > 1 / 10_000  # all of too low a resistance
    assert "nirram_C13_deadcells.csv" in faults.note


# -------------------------------------------------------------------------------------------- patterns


def brute_morans_i(dense: np.ndarray, neighbours: int) -> float:
    """The definition, with the matrix of weights written out."""
    tiles, rows, columns = dense.shape
    places = [(t, r, c) for t in range(tiles) for r in range(rows) for c in range(columns)]
    weights = np.zeros((len(places), len(places)))
    for i, (t, r, c) in enumerate(places):
        for j, (u, s, d) in enumerate(places):
            down, across = abs(r - s), abs(c - d)
            near = down + across == 1 if neighbours == 4 else max(down, across) == 1
            weights[i, j] = t == u and near
    z = (dense.reshape(-1) > 0) - (dense > 0).mean()
    return float(len(z) / weights.sum() * (z @ weights @ z) / (z @ z))


@given(fault_maps(), st.sampled_from([4, 8]))
def test_morans_i_is_its_definition(faults: FaultMap, neighbours: Any) -> None:
    _, rows, columns = faults.shape
    seen = faults.morans_i(neighbours=neighbours)
    if len(faults) in (0, faults.cells) or rows * columns == 1:
        assert np.isnan(seen)
    else:
        assert seen == pytest.approx(brute_morans_i(faults.dense(), neighbours), abs=1e-12)


def test_morans_i_of_known_patterns() -> None:
    row, column = np.indices((8, 8))
    chequered = FaultMap.from_dense(((row + column) % 2)[np.newaxis])
    assert chequered.morans_i() == pytest.approx(-1.0)
    halves = FaultMap.from_dense((row < 4).astype(int)[np.newaxis])
    assert halves.morans_i() == pytest.approx(1 - 1 / 7)  # 8 of 112 pairs differ
    # Without a pattern, the mean over all arrangements is -1 / (n - 1).
    rng = np.random.default_rng(1)
    cells = np.repeat([0, 1], [25, 11])
    seen = [FaultMap.from_dense(rng.permutation(cells).reshape(1, 6, 6)).morans_i() for _ in range(4000)]
    assert abs(np.mean(seen) + 1 / 35) < 5 * np.std(seen) / 4000**0.5


@given(fault_maps())
def test_variance_to_mean_is_that_of_the_counts(faults: FaultMap) -> None:
    tiles, rows, columns = faults.shape
    counts = (faults.dense() > 0).sum(axis=(1, 2))
    if tiles < 2 or not counts.any():
        assert np.isnan(faults.variance_to_mean())
    else:
        assert faults.variance_to_mean() == pytest.approx(np.var(counts, ddof=1) / np.mean(counts))
    block = (max(1, rows // 2), max(1, columns // 3))
    down, across = rows // block[0], columns // block[1]
    inner = (faults.dense() > 0)[:, : down * block[0], : across * block[1]]
    counts = inner.reshape(tiles, down, block[0], across, block[1]).sum(axis=(2, 4)).reshape(-1)
    if counts.size < 2 or not counts.any():
        assert np.isnan(faults.variance_to_mean(block=block))
    else:
        assert faults.variance_to_mean(block=block) == pytest.approx(np.var(counts, ddof=1) / np.mean(counts))


def test_patterns_refuse_what_they_cannot_measure() -> None:
    with pytest.raises(InputError, match="neighbours must be one of 4, 8, got 6"):
        MAP.morans_i(neighbours=6)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"block\[0\] \(rows\) must be an integer >= 1 and <= 3, got 4"):
        MAP.variance_to_mean(block=(4, 1))


@given(fault_maps(shape=(2, 3, 3)), fault_maps(shape=(2, 3, 3)))
def test_overlay_keeps_the_first(first: FaultMap, second: FaultMap) -> None:
    both = first.overlay(second)
    dense = np.where(first.dense() > 0, first.dense(), second.dense())
    np.testing.assert_array_equal(both.dense(), dense)
    assert set(both.index) == set(first.index) | set(second.index)
    for index, value in zip(both.index.tolist(), both.value.tolist(), strict=True):
        origin = first if index in first.index else second
        np.testing.assert_equal(value, origin.value[origin.index == index][0])
    with pytest.raises(InputError, match="must be for cells of shape"):
        first.overlay(FaultMap.empty((1, 1, 1)))


def test_cells_that_miss_a_window_of_resistance() -> None:
    ohm = np.array([[1e3, 5e3, 10e3], [20e3, 1e6, 5e3]])
    ends = FaultMap.from_resistance(ohm, low=5e3, high=20e3, stuck="ends")
    assert ends.dense().tolist() == [[[FaultKind.STUCK_ON, 0, 0], [0, FaultKind.STUCK_OFF, 0]]]
    values = FaultMap.from_resistance(ohm, low=5e3, high=20e3, note="chip")
    assert values.index.tolist() == [0, 4]
    np.testing.assert_allclose(values.value, [1e-3, 1e-6])
    assert values.note == "chip"
    for bad, message in (
        ({"resistance": ohm - 1e3}, "resistance must be finite and > 0, got 0.0 at position 0"),
        ({"resistance": ohm[0]}, r"resistance must be floating, .* got shape \(3,\)"),
        ({"resistance": ohm, "low": 2.0, "high": 1.0}, "low must be >= 0 and <= high, got low = 2.0 and high = 1.0"),
        ({"resistance": ohm, "stuck": "on"}, "stuck must be one of 'value', 'ends', got 'on'"),
    ):
        with pytest.raises(InputError, match=message):
            FaultMap.from_resistance(**bad)


def test_stuck_values_outside_the_range_are_counted() -> None:
    """Half a level step beyond an end is where outside begins."""
    cell = Cell(g_min=1e-6, g_max=16e-6, levels=16)
    levels = np.array([-0.6, -0.4, 0.0, 7.5, 15.4, 15.6, 62.0, 71.0])
    faults = FaultMap(
        shape=(1, 2, 8),
        index=np.arange(10),
        kind=np.array([3] * 8 + [1, 2], np.uint8),
        value=np.concatenate([1e-6 + levels * 1e-6, [np.nan, np.nan]]),
    )
    outside = faults.outside(cell, 4)
    assert outside
    assert (outside.stuck_at, outside.below, outside.above, outside.maximum_level) == (8, 1, 3, 15)
    assert outside.lowest == pytest.approx(-0.6, abs=1e-4)
    assert outside.highest == pytest.approx(71.0, abs=1e-4)
    within = FaultMap.empty((1, 2, 8)).outside(cell, 4)
    assert not within
    both = outside + within + outside
    assert (both.stuck_at, both.below, both.above, both.lowest) == (16, 2, 6, outside.lowest)
    assert "8 of 16 stuck values lie outside levels 0 to 15 of cell 'custom' (2 below, 6 above): -0.6 to 71" in str(
        both
    )
    assert str(within).startswith("none of 0 stuck values outside")
