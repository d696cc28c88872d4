"""A matrix on one die: ``x @ crossbar`` is what a network of one linear layer gives."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import xbarsim as xb
from tests.strategies import ALL_ENCODINGS
from xbarsim.circuit import Wires
from xbarsim.design import AdcErrors, DacErrors
from xbarsim.devices import Cell, FaultMap, LineFaults, Polynomial, ProgrammingError, ReadNoise, StuckFaults
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Encoding, Mapping
from xbarsim.mitigation import ClosestValue, Diagnosis
from xbarsim.network import ClippingWarning

pytestmark = pytest.mark.usefixtures("one_thread")

QUIET = Cell(g_min=1e-6, g_max=1.2e-5, levels=16, read_voltage=0.2)
NOISY = Cell(
    g_min=1e-6,
    g_max=1.2e-5,
    levels=16,
    read_voltage=0.2,
    programming_error=ProgrammingError(
        spread=Polynomial(coefficients=(2e-7, 0.02), scale=1.0), valid_from=1e-7, valid_to=1e-4
    ),
    read_noise=ReadNoise(spread=Polynomial(coefficients=(5e-8, 0.01), scale=1.0), valid_from=1e-7, valid_to=1e-4),
)
EFFECTS: dict[str, dict[str, Any]] = {
    "faults": {"faults": StuckFaults(on=0.02, off=0.05)},
    "converters": {"faults": StuckFaults(on=0.02, off=0.05), "adc_bits": 5, "dac_bits": 2},
    "noise": {"cell": NOISY, "adc_bits": 6},
    "all": {
        "cell": NOISY,
        "faults": StuckFaults(on=0.02, off=0.05),
        "wires": Wires(word_line_resistance=20.0, bit_line_resistance=30.0),
        "line_faults": LineFaults(open_word_line=0.05, open_bit_line=0.05),
        "adc_bits": 6,
        "active_rows": 12,
        "adc_errors": AdcErrors(offset=0.5, gain=0.05, dead=0.02),
        "dac_errors": DacErrors(offset=0.02, gain=0.05, dead=0.02),
    },
}


def design(
    encoding: Encoding | None = None,
    *,
    cell: Cell = QUIET,
    faults: Any = None,
    wires: Wires | None = None,
    line_faults: LineFaults | None = None,
    **periphery: Any,
) -> xb.Design:
    mapping = Mapping(rows=32, columns=33) if encoding is None else Mapping(encoding=encoding, rows=32, columns=33)
    return xb.Design(
        cell=cell,
        mapping=mapping,
        periphery=xb.Periphery(**periphery),
        faults=faults,
        wires=wires,
        line_faults=line_faults,
    )


def numbers(*shape: int, seed: int = 0) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


WEIGHTS, CALIBRATION, X = numbers(40, 7), numbers(70, 40, seed=1), numbers(9, 40, seed=2)


@pytest.mark.parametrize("effects", EFFECTS)
@pytest.mark.parametrize("signed", [True, False])
def test_it_is_the_chip_of_one_linear_layer_bit_for_bit(effects: str, signed: bool) -> None:
    calibration, x = (CALIBRATION, X) if signed else (np.abs(CALIBRATION), np.abs(X))
    linear = nn.Linear(40, 7, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(WEIGHTS.T.copy()))
    accelerator = design(**EFFECTS[effects])
    network = xb.map_model(nn.Sequential(linear), accelerator, calibration=calibration)
    chip = network.fabricate(seed=5)
    crossbar = xb.Crossbar(WEIGHTS, accelerator, seed=5, calibration=calibration)
    answer = x @ crossbar
    assert answer.dtype == np.float32
    np.testing.assert_array_equal(answer, chip(torch.from_numpy(x)).numpy())
    assert crossbar.faults == chip.faults["0"]
    np.testing.assert_array_equal(crossbar.layer.cells(), chip.layers["0"].cells())
    assert [row[1:] for row in crossbar.plan().rows] == [row[1:] for row in chip.plan().rows]
    with torch.no_grad():
        np.testing.assert_array_equal(crossbar.digital(x), network.digital(torch.from_numpy(x)).numpy())
    assert crossbar.cost().power == chip.cost().power
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ClippingWarning)
        (own,), (theirs,) = crossbar.report(x).layers, chip.report(x).layers
    assert own.own == pytest.approx(theirs.own, rel=1e-5)
    assert (own.clipped, own.current_loss) == (theirs.clipped, theirs.current_loss)


@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
def test_integers_are_codes_and_an_ideal_die_multiplies_them_exactly(encoding: Encoding) -> None:
    rng = np.random.default_rng(3)
    weights, x = rng.integers(-127, 128, (40, 7)), rng.integers(-127, 128, (9, 40))
    for calibration in (None, x):
        crossbar = xb.Crossbar(weights, design(encoding), seed=1, calibration=calibration)
        np.testing.assert_array_equal(x @ crossbar, x @ weights)
        np.testing.assert_array_equal(crossbar.digital(x), x @ weights)
    unsigned = xb.Crossbar(weights, design(encoding, adc_range="lossless"), seed=1, calibration=np.abs(x))
    np.testing.assert_array_equal(np.abs(2 * x) @ unsigned, np.abs(2 * x) @ weights)


def test_floating_vectors_without_calibration_are_each_scaled_by_themselves() -> None:
    crossbar = xb.Crossbar(WEIGHTS, design(adc_bits=6, adc_range="full", faults=StuckFaults(on=0.02, off=0.0)), seed=1)
    whole = X @ crossbar
    for number, vector in enumerate(X):
        np.testing.assert_array_equal(vector @ crossbar, whole[number])
        np.testing.assert_array_equal((4 * vector) @ crossbar, 4 * whole[number])
    assert not (np.zeros(40) @ crossbar).any()
    ideal = xb.Crossbar(WEIGHTS, design(), seed=1)
    bound = 40 * (np.abs(X).max() * np.abs(WEIGHTS).max()) / 127
    np.testing.assert_allclose(X @ ideal, X @ WEIGHTS, atol=bound)
    assert ideal.clipped.inputs == X.size
    assert ideal.clipped.share == 0.0


def test_arrays_and_tensors_of_any_leading_shape() -> None:
    crossbar = xb.Crossbar(WEIGHTS.astype(np.float64), design(), seed=1, calibration=CALIBRATION)
    whole = X @ crossbar
    assert (X[0] @ crossbar).shape == (7,)
    assert (X[None, :, None] @ crossbar).shape == (1, 9, 1, 7)
    assert (X[:0] @ crossbar).shape == (0, 7)
    tensor = torch.from_numpy(X) @ crossbar
    assert isinstance(tensor, torch.Tensor)
    assert tensor.dtype == torch.float32
    np.testing.assert_array_equal(tensor.numpy(), whole)
    wide = torch.from_numpy(X).double() @ crossbar
    assert wide.dtype == torch.float64
    np.testing.assert_allclose(wide.numpy(), whole, rtol=1e-6)
    np.testing.assert_array_equal(X.tolist() @ crossbar, wide.numpy())
    assert crossbar.shape == (40, 7)
    assert repr(crossbar) == f"<Crossbar 40 x 7 on {crossbar.matrix.tiles} tiles, seed 1>"


def test_read_noise_is_drawn_anew_and_by_the_number_of_the_vector() -> None:
    crossbar, again = (xb.Crossbar(WEIGHTS, design(cell=NOISY), seed=1, calibration=CALIBRATION) for _ in range(2))
    first, second = X @ crossbar, X @ crossbar
    assert (first != second).any()
    np.testing.assert_array_equal(np.concatenate([X[:4] @ again, X[4:] @ again]), first)
    np.testing.assert_array_equal(again.multiply(X, first_vector=0), first)
    np.testing.assert_array_equal(again.multiply(X, first_vector=9), second)


def test_inputs_beyond_the_calibrated_range_are_counted_and_warned_of() -> None:
    crossbar = xb.Crossbar(WEIGHTS, design(), seed=1, calibration=CALIBRATION)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _ = CALIBRATION @ crossbar
    assert (crossbar.clipped.clipped, crossbar.clipped.inputs) == (0, CALIBRATION.size)
    beyond = X.copy()
    beyond[:, :2] = 100.0
    with pytest.warns(
        ClippingWarning, match="18 of 360 inputs lie beyond the calibrated range and are clipped"
    ) as seen:
        answer = beyond @ crossbar
    assert seen[0].filename == __file__
    assert crossbar.clipped.clipped == 18
    beyond[:, :2] = np.abs(CALIBRATION).max()
    np.testing.assert_array_equal(beyond @ crossbar, answer)


def test_a_die_that_is_made_again_is_the_same_and_mitigations_work_on_it() -> None:
    accelerator = design(faults=StuckFaults(on=0.1, off=0.02))
    plain, again, other = (xb.Crossbar(WEIGHTS, accelerator, seed=seed, calibration=CALIBRATION) for seed in (3, 3, 4))
    np.testing.assert_array_equal(X @ plain, X @ again)
    assert (X @ other != X @ plain).any()
    repaired = xb.Crossbar(
        WEIGHTS, accelerator, seed=3, calibration=CALIBRATION, mitigations=(ClosestValue(),), diagnosis=Diagnosis()
    )
    assert repaired.faults == plain.faults
    exact = plain.digital(X)
    assert np.square(X @ repaired - exact).sum() < 0.5 * np.square(X @ plain - exact).sum()
    assert "ClosestValue" in str(repaired.mitigations)
    given = FaultMap.empty(plain.faults.shape)
    np.testing.assert_array_equal(
        X @ xb.Crossbar(WEIGHTS, accelerator, seed=3, calibration=CALIBRATION, faults=given), exact
    )


def test_looking_at_tiles_and_cost() -> None:
    wires = Wires(word_line_resistance=20.0, bit_line_resistance=30.0)
    crossbar = xb.Crossbar(WEIGHTS, design(wires=wires), seed=3)
    view = crossbar.tile(1)
    np.testing.assert_array_equal(view.target, crossbar.matrix.levels[1])
    assert crossbar.solve(1).column_currents.shape == (33,)
    assert crossbar.cost().power > 0
    assert crossbar.report(X).layers[0].current_loss is not None
    with pytest.raises(InputError, match=r"tile must be an integer >= 0 and <= \d+, got 99"):
        crossbar.tile(99)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": np.zeros(3)}, r"weights must be a non-empty 2-dimensional array"),
        ({"weights": np.array([[np.nan]])}, r"weights must be finite, got nan at index \(0, 0\)"),
        ({"weights": np.array([[1000]])}, r"codes must be in \[-127, 127\] for 8-bit weights, got 1000"),
        ({"weights": [["a"]]}, r"weights must be a non-empty 2-dimensional array of floating numbers, got type"),
        ({"design": "isaac"}, "design must be of type Design"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
        ({"calibration": numbers(3, 39)}, r"calibration must have shape \(vectors, 40\), got \(3, 39\)"),
        ({"calibration": np.zeros((2, 40))}, "calibration must hold a number other than 0, got only zeros"),
        ({"calibration": np.full((2, 40), 300)}, r"calibration must be input codes of magnitude <= 255 where"),
        ({"calibration": np.full((2, 40), -200)}, r"calibration must be input codes of magnitude <= 127 where"),
        (
            {"design": design(adc_bits=6)},
            "calibration must be given for a design with adc_range 'calibrated', got None",
        ),
        ({"design": design(input_bits=1)}, "input_bits must be >= 2 for signed inputs, got 1"),
        ({"faults": FaultMap.empty((1, 2, 3))}, "the fault map must be for cells of shape"),
        ({"mitigations": (ClosestValue(),)}, "diagnosis must be given for ClosestValue"),
        ({"seconds": 5.0}, "drift must be given for a cell at later times"),
        ({"precision": "half"}, "precision must be one of 'single', 'double', got 'half'"),
    ],
)
def test_what_cannot_be_made_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        xb.Crossbar(**{"weights": WEIGHTS, "design": design(), "seed": 1, **arguments})


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (numbers(3, 39), r"x must have shape \(\.\.\., 40\), got \(3, 39\)"),
        (np.float64(3.0), r"x must have shape \(\.\.\., 40\), got \(\)"),
        (np.full((2, 40), np.nan), "x must be finite, got NaN or infinity"),
        (torch.full((2, 40), torch.inf), "x must be finite, got NaN or infinity"),
        (np.full((2, 40), 1j), "x must be real numbers, got type complex128"),
        (np.full((2, 40), "a"), "x must be real numbers, got type <U1"),
        (np.full((2, 40), 200), r"x must be input codes in \[-127, 127\] where it is of integers, got 200"),
    ],
)
def test_vectors_that_are_refused(x: Any, message: str) -> None:
    crossbar = xb.Crossbar(WEIGHTS, design(), seed=1)
    with pytest.raises(InputError, match=message):
        _ = x @ crossbar
    with pytest.raises(InputError, match="first_vector must be an integer >= 0"):
        crossbar.multiply(X, first_vector=-1)
