"""What is broken is drawn from the seed alone, each part from a stream of its own, before anything is programmed."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.strategies import ALL_ENCODINGS
from xbarsim.design import AdcErrors, DacErrors, Design, Periphery
from xbarsim.devices import (
    Cell,
    FaultKind,
    FaultMap,
    LineFaults,
    ListedConductances,
    Polynomial,
    ProgrammingError,
    StuckAtFaults,
    StuckFaults,
    StuckValueWarning,
)
from xbarsim.die import Purpose, Silicon, generator, stream
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Encoding, Mapping, TwoColumn, map_matrix

CELL = Cell(g_min=1e-6, g_max=1.2e-5, levels=16)
ERRORS: dict[str, Any] = {
    "adc_bits": 6,
    "adc_range": "full",
    "columns_per_adc": 3,
    "adc_errors": AdcErrors(offset=0.5, gain=0.1, capacitor_mismatch=0.05, dead=0.1),
    "dac_errors": DacErrors(offset=0.1, gain=0.1, dead=0.1),
}


def design(encoding: Encoding | None = None, **changes: Any) -> Design:
    mapping = Mapping(encoding=encoding or TwoColumn(), rows=6, columns=50, weight_bits=5, cell_bits=4, pack="none")
    return replace(
        Design(
            cell=CELL,
            mapping=mapping,
            periphery=Periphery(input_bits=4, **ERRORS),
            faults=StuckFaults(on=0.1, off=0.1),
            line_faults=LineFaults(open_word_line=0.2, open_bit_line=0.2, shorted_bit_lines=0.2),
        ),
        **changes,
    )


def drawn(of: Design, *, seed: int = 3, index: int = 1, weights_seed: int = 0, **given: Any) -> Silicon:
    weights = np.random.default_rng(weights_seed).integers(-15, 16, (11, 9))
    reading = of.reading(map_matrix(weights, of.mapping))
    return Silicon.draw(of, reading, of.converter(rows=6), seed=seed, index=index, **given)


def parts(silicon: Silicon) -> dict[str, Any]:
    assert silicon.lines is not None
    assert silicon.drivers is not None
    assert silicon.converters is not None
    return {
        "faults": silicon.faults.dense(),
        "word lines": silicon.lines.open_word_lines,
        "bit lines": silicon.lines.open_bit_lines,
        "shorts": silicon.lines.shorted_bit_lines,
        "driver gain": silicon.drivers.gain,
        "driver offset": silicon.drivers.offset,
        "converter gain": silicon.converters.gain,
        "converter offset": silicon.converters.offset,
        "bits": silicon.converters.weights,
    }


@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
def test_the_seed_alone_says_what_is_broken(encoding: Encoding) -> None:
    """Not the weights, and not how cells are programmed."""
    first = parts(drawn(design(encoding)))
    error = ProgrammingError(spread=Polynomial(coefficients=(4e-7,), scale=1.0), valid_from=1e-7, valid_to=2e-5)
    noisy = Cell(g_min=1e-6, g_max=1.2e-5, levels=16, programming_error=error)
    for same in (drawn(design(encoding), weights_seed=5), drawn(design(encoding, cell=noisy))):
        for name, value in parts(same).items():
            np.testing.assert_array_equal(value, first[name], err_msg=name)
    for other in (drawn(design(encoding), seed=4), drawn(design(encoding), index=2)):
        for name, value in parts(other).items():
            assert (value != first[name]).any(), name


def test_an_effect_that_a_design_lacks_is_not_there_and_moves_no_other() -> None:
    whole = parts(drawn(design()))
    bare = drawn(design(faults=None, line_faults=None, periphery=Periphery(input_bits=4)))
    assert len(bare.faults) == 0
    assert (bare.lines, bare.drivers, bare.converters) == (None, None, None)
    for lacking in ("adc_errors", "dac_errors"):
        periphery = Periphery(input_bits=4, **{name: value for name, value in ERRORS.items() if name != lacking})
        silicon = drawn(design(faults=None, periphery=periphery))
        assert (silicon.converters is None) == (lacking == "adc_errors")
        assert (silicon.drivers is None) == (lacking == "dac_errors")
        assert silicon.lines is not None
        np.testing.assert_array_equal(silicon.lines.open_bit_lines, whole["bit lines"])
        if silicon.converters is not None:
            np.testing.assert_array_equal(silicon.converters.gain, whole["converter gain"])
        if silicon.drivers is not None:
            np.testing.assert_array_equal(silicon.drivers.gain, whole["driver gain"])


def test_a_given_fault_map_is_used_instead_and_must_fit() -> None:
    shape = drawn(design()).faults.shape
    broken = FaultMap.from_dense(np.full(shape, int(FaultKind.STUCK_ON)))
    silicon = drawn(design(), faults=broken)
    assert silicon.faults == broken
    np.testing.assert_array_equal(parts(silicon)["driver gain"], parts(drawn(design()))["driver gain"])
    with pytest.raises(InputError, match="the fault map must be for cells of shape"):
        drawn(design(), faults=FaultMap.empty((1, 2, 3)))


def test_dead_drivers_and_converters_have_no_gain() -> None:
    periphery = Periphery(
        adc_bits=6, adc_range="full", adc_errors=AdcErrors(dead=1.0, offset=1.0), dac_errors=DacErrors(dead=1.0)
    )
    silicon = drawn(design(periphery=periphery))
    assert silicon.drivers is not None
    assert silicon.converters is not None
    assert not silicon.drivers.gain.any()
    assert not silicon.converters.gain.any()
    assert not silicon.converters.offset.any()


def test_no_two_streams_of_a_die_are_alike() -> None:
    keys = {
        tuple(stream(seed, layer, purpose, *more).generate_state(4))
        for seed in (0, 1)
        for layer in (0, 1)
        for purpose in Purpose
        for more in ((), (0,), (1,), (0, 1))
    }
    assert len(keys) == 2 * 2 * len(Purpose) * 4
    assert generator(1, 2, Purpose.FAULTS).random() == generator(1, 2, Purpose.FAULTS).random()
    assert {purpose.name: int(purpose) for purpose in Purpose} == {
        "PROGRAMMING": 0,
        "FAULTS": 1,
        "READ_NOISE": 2,
        "LINES": 3,
        "DRIVERS": 4,
        "CONVERTERS": 5,
        "DRIFT": 16,
        "STATES": 17,
        "DIAGNOSIS": 32,
        "MITIGATION": 33,
    }


def test_the_key_of_a_stream_is_layer_then_purpose_then_parts() -> None:
    """In this order: exchanged, layer 2 would draw its faults from what programs layer 1."""
    key = stream(7, 2, Purpose.DRIFT, 5, 6)
    assert (key.entropy, key.spawn_key) == (7, (2, 16, 5, 6))
    assert stream(7, 0, Purpose.FAULTS).spawn_key == (0, 1)
    expected = np.random.default_rng(np.random.SeedSequence(7, spawn_key=(0, 1))).random()
    assert generator(7, 0, Purpose.FAULTS).random() == expected


def test_stuck_values_outside_the_range_are_warned_of_in_the_same_words_on_every_die() -> None:
    """From faults of another technology, 62 to 71 levels of 15: by a model, and by a map."""
    step = (CELL.g_max - CELL.g_min) / 15
    far = ListedConductances(values=(CELL.g_min + 62 * step, CELL.g_min + 71 * step))
    faults = StuckAtFaults(where=StuckFaults(on=0.0, off=0.1), off_conductances=far)
    messages = []
    for seed, index in ((1, 0), (2, 0), (2, 1)):
        with pytest.warns(
            StuckValueWarning, match=r"StuckAtFaults: \d+ of \d+ stuck values lie outside levels 0 to 15"
        ) as got:
            drawn(design(faults=faults), seed=seed, index=index)
        messages += [str(warning.message) for warning in got]
    assert len(messages) == 3
    assert len(set(messages)) == 1
    assert "62 to 71 levels: they may be of another technology than the cell" in messages[0]
    shape = drawn(design()).faults.shape
    given_map = FaultMap(shape=shape, index=np.array([3]), kind=np.array([3]), value=np.array([1e-3]))
    with pytest.warns(
        StuckValueWarning, match=r"the fault map: 1 of 1 stuck values lie outside .*\(0 below, 1 above\)"
    ):
        drawn(design(), faults=given_map)
    near = ListedConductances(values=(CELL.g_max + 0.4 * step, 0.8 * CELL.g_min))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        drawn(design())
        drawn(design(faults=StuckAtFaults(where=StuckFaults(on=0.0, off=0.1), off_conductances=near)))
