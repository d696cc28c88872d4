"""Mitigations between what is broken and what is programmed: exact where they say so, honest about what is known."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import event, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import xbarsim as xb
from tests.strategies import ALL_ENCODINGS, encodings, fault_maps
from xbarsim.devices import Cell, FaultKind, FaultMap, Polynomial, ProgrammingError, StuckFaults
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Differential, Encoding, Mapping, TwoColumn, map_matrix
from xbarsim.mitigation import (
    AssignArrays,
    ClosestValue,
    CorrectDigitally,
    Diagnosis,
    FlipSigns,
    KnownLayer,
    KnownTile,
    Mitigation,
    Needs,
    OrderSlices,
    Overhead,
    PermuteColumns,
    PermuteRows,
    ProtectLayers,
    RecalibrateOutputs,
    TileFit,
)
from xbarsim.network import MappedNetwork
from xbarsim.testing.mitigation import check_mitigation

pytestmark = pytest.mark.usefixtures("one_thread")

Levels = npt.NDArray[np.uint8]

CELL = Cell(g_min=1e-6, g_max=1.6e-5, levels=256, read_voltage=0.2)
METHODS: tuple[Mitigation, ...] = (
    ClosestValue(),
    PermuteRows(),
    PermuteRows(search="greedy", spare=2),
    PermuteRows(search="in order"),
    PermuteColumns(),
    PermuteColumns(search="greedy"),
    FlipSigns(),
    FlipSigns(each="slice"),
    OrderSlices(),
    AssignArrays(),
    CorrectDigitally(share=0.2),
    RecalibrateOutputs(),
    ProtectLayers(layers=("layer",)),
    ProtectLayers(layers=("other",), rest=True),
)


@pytest.mark.parametrize("method", METHODS, ids=repr)
def test_methods_keep_their_promises(method: Mitigation) -> None:
    check_mitigation(method, examples=60)


# --- closest value


@st.composite
def known_tiles(draw: st.DrawFn) -> KnownTile:
    """A tile whose weights have few enough level patterns to try them all; any faults, also off the levels."""
    encoding = draw(encodings())
    cell_bits = draw(st.integers(1, 3))
    weight_bits = draw(
        st.sampled_from(
            [bits for bits in range(2, 8) if cell_bits * encoding.slice_count(bits, cell_bits) * encoding.sides <= 12]
            or [2]
        )
    )
    cells = encoding.slice_count(weight_bits, cell_bits) * encoding.sides
    mapping = Mapping(
        encoding=encoding,
        rows=3,
        columns=2 * cells + 1 + encoding.has_reference,
        weight_bits=weight_bits,
        cell_bits=cell_bits,
        pack="none",
    )
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    largest = mapping.max_weight
    matrix = map_matrix(rng.integers(-largest, largest, (3, 2), endpoint=True), mapping)
    kinds = np.where(rng.random(matrix.levels.shape) < 0.4, rng.integers(1, 4, matrix.levels.shape), 0)
    values = rng.uniform(0.0, 1.5 * CELL.g_max, matrix.levels.shape)
    return KnownLayer.of(matrix, cell=CELL, faults=FaultMap.from_dense(kinds, values)).tile(0)


@settings(deadline=None, max_examples=60)
@given(tile=known_tiles())
def test_the_closest_value_is_that_of_all_patterns_tried_one_by_one(tile: KnownTile) -> None:
    """Every pattern of the healthy cells, decoded by the encoding: none is nearer, and none as near draws less."""
    mapping = tile.mapping
    bits = mapping.weight_bits, mapping.cell_bits
    cells = mapping.slices * mapping.sides
    event(f"{type(mapping.encoding).__name__} {mapping.cell_bits}")
    fit = ClosestValue().fit(tile, np.random.default_rng(0))
    levels, stuck = fit.levels, tile.stuck_at(tile.fit)
    before, after = np.abs(tile.deviation(tile.fit)), np.abs(tile.deviation(fit))
    held = tile.held(tile.fit)
    matrix = tile.layer.matrix
    patterns: dict[int, Any] = {}
    for row, output in np.argwhere(tile.used[:, : 2 * cells : cells]).tolist():
        own = slice(output * cells, (output + 1) * cells)
        healthy = np.flatnonzero(np.isnan(stuck[row, own]))
        if len(healthy) not in patterns:
            shape = (mapping.max_level + 1,) * len(healthy)
            patterns[len(healthy)] = np.array(list(np.ndindex(shape)), dtype=np.float64)
        tried = np.repeat(held[row, own][np.newaxis], len(patterns[len(healthy)]), axis=0)
        tried[:, healthy] = patterns[len(healthy)]

        def weight(of: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return mapping.encoding.decode(of.reshape(len(of), mapping.slices, mapping.sides), *bits)

        # What the rest of the row adds: a reference cell, which may be stuck too.
        rest = matrix.decode(held[np.newaxis])[row, output] - weight(held[row, own][np.newaxis])[0]
        distances = np.abs(weight(tried) + rest - tile.codes[row, output])
        np.testing.assert_allclose(after[row, output], distances.min(), rtol=0, atol=1e-9)
        if after[row, output] < before[row, output]:
            nearest = tried[distances <= distances.min() + 1e-9][:, healthy].sum(axis=1).min()
            assert levels[row, own][healthy].sum() == nearest
        else:
            np.testing.assert_array_equal(levels[row, own][healthy], tile.levels[row, own][healthy])
        # cells believed to be stuck are written where they are believed to be
        broken = np.flatnonzero(~np.isnan(stuck[row, own]))
        expected = np.clip(np.rint(stuck[row, own][broken]), 0, mapping.max_level)
        if len(broken):
            np.testing.assert_array_equal(levels[row, own][broken], expected)


@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
def test_many_bits_need_no_list_of_patterns(encoding: Encoding) -> None:
    """16-bit weights in 4-bit cells: far too many patterns to try; the error falls, and whole weights come right."""
    cells = encoding.slice_count(16, 4) * encoding.sides
    mapping = Mapping(
        encoding=encoding, rows=8, columns=3 * cells + encoding.has_reference, weight_bits=16, cell_bits=4, pack="none"
    )
    rng = np.random.default_rng(1)
    matrix = map_matrix(rng.integers(-32767, 32767, (8, 3), endpoint=True), mapping)
    faults = StuckFaults(on=0.03, off=0.03).sample(matrix.levels.shape, rng)
    tile = KnownLayer.of(matrix, cell=CELL, faults=faults).tile(0)
    fit = ClosestValue().fit(tile, rng)
    assert tile.error(fit) < tile.error(tile.fit)
    assert (tile.deviation(fit) == 0).sum() >= (tile.deviation(tile.fit) == 0).sum()


def test_a_single_stuck_cell_of_a_pair_costs_nothing_or_the_weight() -> None:
    """With one pair a weight the healthy partner makes up for it, or makes the weight 0: by the sign alone."""
    mapping = Mapping(encoding=TwoColumn(), rows=1, columns=2, weight_bits=4, cell_bits=3)
    for code, side, kind in itertools.product((-5, 5), (0, 1), (FaultKind.STUCK_ON, FaultKind.STUCK_OFF)):
        dense = np.zeros((1, 1, 2), int)
        dense[0, 0, side] = kind
        matrix = map_matrix(np.array([[code]]), mapping)
        tile = KnownLayer.of(matrix, cell=CELL, faults=FaultMap.from_dense(dense)).tile(0)
        (deviation,) = tile.deviation(ClosestValue().fit(tile, np.random.default_rng(0))).ravel()
        excluded = (code > 0) == (
            (side == 0) == (kind == FaultKind.STUCK_OFF)
        )  # positive cell off, or negative cell on
        assert deviation == (-code if excluded else 0)


# --- what is known


@given(faults=fault_maps(), seed=st.integers(0, 100))
def test_a_diagnosis_finds_all_or_nothing_at_its_ends_and_more_with_more_coverage(faults: FaultMap, seed: int) -> None:
    before: set[int] = set()
    for coverage in (0.0, 0.3, 0.9, 1.0):
        known = Diagnosis(coverage=coverage).known(faults, np.random.default_rng(seed))
        assert known.shape == faults.shape
        difference = known.difference(faults)
        assert not difference.removed.size
        assert not difference.changed.size
        assert before <= set(known.index.tolist())
        before = set(known.index.tolist())
    assert Diagnosis(coverage=1.0).known(faults, np.random.default_rng(seed)) == faults
    assert len(Diagnosis(coverage=0.0).known(faults, np.random.default_rng(seed))) == 0


def test_coverage_is_the_share_that_is_found() -> None:
    faults = FaultMap.from_dense(np.full((4, 50, 50), int(FaultKind.STUCK_ON)))
    found = len(Diagnosis(coverage=0.9).known(faults, np.random.default_rng(3)))
    assert abs(found - 9000) < 5 * 30  # five standard deviations
    for bad in (-0.1, 1.1, "1"):
        with pytest.raises(InputError, match="coverage must be"):
            Diagnosis(coverage=bad)  # type: ignore[arg-type]


# --- on a chip


def network(cell: Cell = CELL, faults: Any = StuckFaults(on=0.1, off=0.02)) -> MappedNetwork:  # noqa: B008
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = nn.Sequential(nn.Linear(40, 12), nn.ReLU(), nn.Linear(12, 5))
    mapping = Mapping(encoding=Differential(), rows=32, columns=32)
    return xb.map_model(model, xb.Design(cell=cell, mapping=mapping, faults=faults), calibration=images())


def images() -> Tensor:
    return torch.randn(30, 40, generator=torch.Generator().manual_seed(3))


def error(chip: xb.Chip, of: MappedNetwork) -> float:
    with torch.no_grad():
        return float(((chip(images()) - of.digital(images())) ** 2).sum())


def test_without_faults_every_method_leaves_a_chip_as_it_is() -> None:
    sound = network(faults=None)
    chip = sound.fabricate(1, mitigations=METHODS[:1], diagnosis=Diagnosis())
    for name, layer in chip.layers.items():
        np.testing.assert_array_equal(layer.targets, sound.layers[name].matrix.levels)
    with torch.no_grad():
        assert torch.equal(chip(images()), sound.digital(images()))
    assert all(tile.before == tile.after == 0.0 for tile in chip.mitigations.tiles)


def test_a_repaired_chip_is_the_same_die_with_other_targets() -> None:
    broken = network()
    plain = broken.fabricate(1)
    repaired, again = (broken.fabricate(1, mitigations=[ClosestValue()], diagnosis=Diagnosis()) for _ in range(2))
    assert repaired.faults == plain.faults
    assert torch.equal(repaired(images()), again(images()))
    assert error(repaired, broken) < 0.5 * error(plain, broken)
    for name, layer in repaired.layers.items():
        stuck = layer.faults.dense() > 0
        np.testing.assert_array_equal(layer.cells()[~stuck], layer.targets[~stuck])
        np.testing.assert_array_equal(layer.cells()[stuck], plain.layers[name].cells()[stuck])
        np.testing.assert_array_equal(repaired.tile(name, 0).target, layer.targets[0])
    assert plain.mitigations.tiles == ()
    assert str(plain.mitigations) == "no mitigation"


def test_the_table_says_what_was_done_and_what_it_costs() -> None:
    broken = network()
    chip = broken.fabricate(1, mitigations=(ClosestValue(),), diagnosis=Diagnosis())
    table = chip.mitigations
    places = [(name, tile) for name, layer in chip.layers.items() for tile in range(layer.matrix.tiles)]
    assert [(row.layer, row.tile) for row in table.tiles] == places
    for row in table.tiles:
        layer = chip.layers[row.layer]
        assert (row.method, row.needs) == ("ClosestValue", "map")
        assert 0 < row.after < row.before
        changed = int((layer.targets[row.tile] != layer.matrix.levels[row.tile]).sum())
        assert row.overhead == Overhead(reprogrammed_cells=changed)
    # by hand for one layer: mean squares of inputs times squared deviations of weights
    layer, mapped = chip.layers["2"], broken.layers["2"]
    deviation = mapped.matrix.decode(layer.cells()) - mapped.layer.codes
    power = mapped.mean_square_input[:, np.newaxis] * (mapped.layer.weight_scale * deviation) ** 2
    assert sum(row.after for row in table.tiles if row.layer == "2") == pytest.approx(float(power.sum()), rel=1e-9)
    assert len(table.to_rows()) == len(table.tiles)
    assert table.to_rows()[0]["reprogrammed_cells"] == table.tiles[0].overhead.reprogrammed_cells
    text = str(table)
    assert "cells rewritten" in text
    assert "ClosestValue" in text


def test_what_is_not_known_is_not_repaired() -> None:
    broken = network()
    plain = error(broken.fabricate(1), broken)
    errors = [
        error(broken.fabricate(1, mitigations=(ClosestValue(),), diagnosis=Diagnosis(coverage=coverage)), broken)
        for coverage in (0.0, 0.7, 1.0)
    ]
    assert errors[0] == plain
    assert errors[0] > errors[1] > errors[2]
    with pytest.raises(InputError, match="diagnosis must be given for ClosestValue, which needs a map of the faults"):
        broken.fabricate(1, mitigations=(ClosestValue(),))
    with pytest.raises(InputError, match="mitigations must be of type sequence"):
        broken.fabricate(1, mitigations=ClosestValue())  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"mitigations\[0\] must be of type Mitigation"):
        broken.fabricate(1, mitigations=("closest",))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"mitigations\[0\] must say what it needs .*Mitigation does not"):
        broken.fabricate(1, mitigations=(Mitigation(),))
    with pytest.raises(InputError, match="diagnosis must be of type Diagnosis"):
        broken.fabricate(1, diagnosis=0.9)  # type: ignore[arg-type]


def test_a_method_is_told_no_more_than_it_needs() -> None:
    told: dict[str, list[tuple[bool, bool]]] = {}

    @dataclass(frozen=True, kw_only=True)
    class Curious(Mitigation):
        needs: ClassVar[Needs] = "nothing"

        def fit(self, tile: KnownTile, rng: np.random.Generator) -> TileFit:
            told.setdefault(self.needs, []).append((tile.array_stuck_at is not None, tile.rates is not None))
            return tile.fit

    kinds: dict[str, type[Curious]] = {
        needs: dataclass(frozen=True, kw_only=True)(type("Curious", (Curious,), {"needs": needs}))
        for needs in ("nothing", "images", "rates", "map")
    }
    network().fabricate(1, mitigations=[kind() for kind in kinds.values()], diagnosis=Diagnosis(), images=images())
    assert {needs: set(seen) for needs, seen in told.items()} == {
        "nothing": {(False, False)},
        "images": {(False, False)},
        "rates": {(False, True)},
        "map": {(True, True)},
    }


def test_methods_work_one_after_another() -> None:
    """A second method is given what the first one left; the targets stay those of the mapping."""
    broken = network()
    twice = broken.fabricate(1, mitigations=(ClosestValue(), ClosestValue()), diagnosis=Diagnosis())
    once = broken.fabricate(1, mitigations=(ClosestValue(),), diagnosis=Diagnosis())
    assert torch.equal(twice(images()), once(images()))
    assert len(twice.mitigations.tiles) == 2 * len(once.mitigations.tiles)


def test_protected_layers_have_no_faults_and_the_others_those_they_would_have() -> None:
    broken = network()
    plain = broken.fabricate(1)
    for method, whole in ((ProtectLayers(layers=("0",)), "0"), (ProtectLayers(layers=("0",), rest=True), "2")):
        chip = broken.fabricate(1, mitigations=(method,))
        for name in broken.layers:
            expected = FaultMap.empty(plain.faults[name].shape) if name == whole else plain.faults[name]
            assert chip.faults[name] == expected
    with pytest.raises(InputError, match="layers must be one of '0', '2', got 'first'"):
        broken.fabricate(1, mitigations=(ProtectLayers(layers=("first",)),))


def test_an_aged_chip_keeps_what_was_done() -> None:
    aging = Cell.load("levy2021_b")
    bits = int(np.log2(aging.levels))
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = nn.Sequential(nn.Linear(40, 6))
    mapping = Mapping(encoding=Differential(), rows=32, columns=32, cell_bits=min(bits, 2))
    design = xb.Design(cell=aging, mapping=mapping, faults=StuckFaults(on=0.1, off=0.02))
    chip = xb.map_model(model, design, calibration=images()).fabricate(
        1, mitigations=(ClosestValue(),), diagnosis=Diagnosis(coverage=0.9)
    )
    later = chip.at(100.0)
    np.testing.assert_array_equal(later.layers["0"].targets, chip.layers["0"].targets)
    assert later.faults == chip.faults
    assert (later.layers["0"].cells() != chip.layers["0"].cells()).any()
    assert later.mitigations.tiles == chip.mitigations.tiles


def test_partners_are_programmed_with_errors_of_their_own() -> None:
    error_law = ProgrammingError(spread=Polynomial(coefficients=(2e-7,), scale=1.0), valid_from=1e-7, valid_to=1e-4)
    noisy = Cell(g_min=1e-6, g_max=1.6e-5, levels=256, read_voltage=0.2, programming_error=error_law)
    chip = network(noisy).fabricate(1, mitigations=(ClosestValue(),), diagnosis=Diagnosis())
    layer = chip.layers["0"]
    moved = layer.programmed() - layer.targets
    assert 0.1 < float(moved.std()) < 0.4  # 0.2 of a level step
