"""Layouts computed by torch: equal to the compiled kernels and to the reference engine."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.strategies import EngineCase, TiledLayer
from xbarsim.design import AdcErrors, ConverterErrors, Design, Periphery
from xbarsim.devices import Cell
from xbarsim.engine import Case, Noise, Scaling, TorchBackend, Window, common_fit, plain_products
from xbarsim.engine.backends.steps import thresholds
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Mapping, Offset, map_matrix
from xbarsim.testing import check_backend

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")),
]


@pytest.mark.parametrize("device", DEVICES)
def test_it_keeps_the_promise_of_a_backend(device: str) -> None:
    check_backend(TorchBackend(device), examples=60)


@settings(deadline=None, max_examples=200)
@given(
    step=st.floats(1e-12, 1e12),
    low=st.integers(-300, 0),
    high=st.integers(0, 300),
    kind=st.sampled_from([np.float32, np.float64]),
    seed=st.integers(0, 2**32 - 1),
)
def test_counting_thresholds_gives_the_code_of_the_formula(
    step: float, low: int, high: int, kind: Any, seed: int
) -> None:
    inverse = 1.0 / step
    found = thresholds(inverse, low, high, kind)
    rng = np.random.default_rng(seed)
    edges = ((np.arange(low - 2, high + 3) + 0.5) * step).astype(kind)
    values = np.concatenate([edges, np.nextafter(edges, kind(-np.inf)), np.nextafter(edges, kind(np.inf))])
    values = np.concatenate([values, (rng.uniform(low - 2, high + 2, 50) * step).astype(kind), found])
    wanted = np.clip(np.floor(values.astype(np.float64) * inverse + 0.5), low, high)
    np.testing.assert_array_equal(low + np.searchsorted(found, values, side="right"), wanted)


def test_thresholds_beyond_the_numbers_of_a_type_are_never_reached() -> None:
    found = thresholds(1e-38, -2, 5, np.float32)  # code 4 begins at 3.5e38
    assert np.isposinf(found[-2:]).all()
    assert np.isfinite(found[:-2]).all()
    assert thresholds(1.0, 0, 0, np.float32).shape == (0,)


def _convolution(rng: np.random.Generator, bits: int, adc: dict[str, Any], signed: bool, dac: int) -> Any:
    """A layer of a convolution, and maps of activations for it."""
    mapping = Mapping(rows=16, columns=8, weight_bits=5, cell_bits=2)
    periphery = Periphery(
        input_bits=bits, dac_bits=dac, signed_inputs="offset" if rng.integers(2) else "two_pass", **adc
    )
    design = Design(cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=16), mapping=mapping, periphery=periphery)
    matrix = map_matrix(rng.integers(-15, 16, (27, 5)), mapping)
    layer = TiledLayer.of(matrix, design, signed=signed, rows=16)
    return layer, rng.normal(0.3, 1.0, (5, 3, 7, 9)).astype(np.float32)


@pytest.mark.parametrize("device", DEVICES)
@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    bits=st.integers(2, 6),
    dac=st.integers(1, 6),
    signed=st.booleans(),
    adc=st.sampled_from([{}, {"adc_range": "lossless"}, {"adc_bits": 5, "adc_range": 40.0}]),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_a_convolution_is_that_of_the_compiled_kernels_bit_for_bit(
    device: str, seed: int, bits: int, dac: int, signed: bool, adc: Any, stride: int, dilation: int, padding: Any
) -> None:
    rng = np.random.default_rng(seed)
    layer, maps = _convolution(rng, bits, adc, signed, min(dac, bits))
    cells = layer.mapped.levels.astype(np.float32)
    cells[rng.random(cells.shape) < 0.1] = 3
    window = Window(kernel=(3, 3), stride=(stride, 1), dilation=(1, dilation), padding=padding)
    high = layer.drive.max_input
    scaling = Scaling(
        inverse_scale=high / 2.0,
        low=layer.drive.min_input,
        high=high,
        scale=rng.uniform(0.001, 0.1, 5),
        bias=rng.normal(size=5),
    )
    wanted, _ = layer.plan(cells).run(maps, window, scaling)
    found, finite = layer.plan(cells, backend=TorchBackend(device)).run(maps, window, scaling)
    assert finite
    np.testing.assert_array_equal(found, wanted)


@settings(deadline=None, max_examples=40)
@given(case=strategies.engine_cases(), seed=st.integers(0, 2**32 - 1))
def test_dies_computed_together_are_each_as_alone(case: EngineCase, seed: int) -> None:
    rng = np.random.default_rng(seed)
    cases, wanted = [], []
    for _ in range(3):
        # No cell has less than 0 S: a negative read would fall below the converter's codes, which no plan reckons with.
        cells = np.maximum(np.rint(case.cells), -np.floor(case.converter.offset_levels))
        cells[rng.random(cells.shape) < 0.2] = case.mapped.mapping.max_level
        cases.append(Case.of(case.reading, cells, case.drive, case.converter, precision="double"))
        wanted.append(case.product(case.vectors, np.where(case.mapped.used, cells, 0)))
    plan, _ = common_fit(cases)
    program = TorchBackend().stack([plan.layout(each) for each in cases])
    images, positions, inputs = case.codes.shape
    maps = torch.from_numpy(case.codes.reshape(images, 1, positions, inputs).astype(np.float32)).repeat(3, 1, 1, 1)
    scaling = Scaling.none(case.drive, case.mapped.shape[1])
    found = program.run_tensors(maps, Window(kernel=(1, inputs)), scaling, dtype=torch.float64)
    found = found.reshape(3, images, -1, positions).permute(0, 1, 3, 2).reshape(3, images * positions, -1)
    np.testing.assert_array_equal(found.numpy(), np.stack(wanted))
    if program._added_type == torch.int32 and not program._has_constant:  # the bound that allows it is one
        assert program._largest_added() >= np.abs(np.stack(wanted)).max() / case.converter.unit * (1 - 1e-12)


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), dac=st.sampled_from([1, 4]), offsets=st.booleans(), weights=st.booleans())
def test_converters_with_errors_are_those_of_the_compiled_kernels(
    seed: int, dac: int, offsets: bool, weights: bool
) -> None:
    rng = np.random.default_rng(seed)
    layer, _ = _convolution(rng, 4, {"adc_bits": 5, "adc_range": 40.0}, False, dac)
    tiles, reads = layer.mapped.tiles, layer.reading.reads
    errors = ConverterErrors(
        offset=rng.normal(0, 2.0, (tiles, reads)) if offsets else None,
        weights=AdcErrors(capacitor_mismatch=0.1).weights(5, (tiles, reads), rng) if weights else None,
    )
    codes = rng.integers(0, 16, (2, 3, 27))
    cells = layer.mapped.levels.astype(np.float32)
    plans = [
        layer.plan(cells, errors=errors, precision="double", backend=backend) for backend in (None, TorchBackend())
    ]
    np.testing.assert_array_equal(plans[1].multiply(codes), plans[0].multiply(codes))


def test_dies_of_different_matrices_are_refused() -> None:
    layouts = []
    for seed in (1, 2):
        layer, _ = _convolution(np.random.default_rng(seed), 3 + seed, {}, False, 1)
        case = Case.of(layer.reading, layer.mapped.levels.astype(np.float32), layer.drive, layer.converter)
        layouts.append(common_fit([case])[0].layout(case))
    with pytest.raises(InputError, match="layouts must be of dies of one placed matrix"):
        TorchBackend().stack(layouts)


def test_what_it_cannot_compute_is_refused() -> None:
    layer, _ = _convolution(np.random.default_rng(1), 4, {}, False, 4)
    noise = Noise(spread=np.full(layer.mapped.levels.shape, 0.1), key=1)
    with pytest.raises(InputError, match=r"without read noise for the backend 'torch', got some: use the compiled"):
        layer.plan(layer.mapped.levels.astype(np.float32), noise, backend=TorchBackend())
    for device in ("nowhere", "meta", "cuda:99", 3.5):
        with pytest.raises(InputError, match="device must be one that torch can compute in float64 on here"):
            TorchBackend(device)
    with pytest.raises(InputError, match="layouts must be at least one, got none"):
        TorchBackend().stack([])


def test_what_is_not_finite_is_told() -> None:
    layer, maps = _convolution(np.random.default_rng(1), 4, {}, False, 4)
    plan = layer.plan(layer.mapped.levels.astype(np.float32), backend=TorchBackend())
    assert plan.kernel == "torch"
    scaling = replace(Scaling.none(layer.drive, 5), low=0, high=15)
    for wrong in (np.nan, np.inf):
        maps[0, 0, 0, 0] = wrong
        assert not plan.run(maps, Window(kernel=(3, 3)), scaling)[1]


def test_products_are_not_shortened_and_settings_stay() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        with plain_products():
            assert torch.get_float32_matmul_precision() == "highest"
            assert not torch.backends.cudnn.allow_tf32
        assert torch.get_float32_matmul_precision() == "medium"
        assert torch.backends.cudnn.allow_tf32
    finally:
        torch.set_float32_matmul_precision(before)


def test_threads_that_multiply_at_once_leave_the_settings_as_they_were() -> None:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    inside, gone = threading.Barrier(2), threading.Event()
    found = []

    def stay() -> None:
        with plain_products():
            inside.wait()
            gone.wait()
            found.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))

    thread = threading.Thread(target=stay)
    try:
        with plain_products():  # the first to come is the first to leave
            thread.start()
            inside.wait()
        gone.set()
        thread.join()
        assert found == [("highest", False)]
        assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == ("medium", True)
    finally:
        gone.set()
        torch.set_float32_matmul_precision(before)


def test_sums_of_inputs_are_taken_off_one_group_of_columns_too() -> None:
    """A matrix of one tile whose reference is digital: each output is the only column's code, less the inputs' sum."""
    mapping = Mapping(encoding=Offset(reference="digital"), rows=4, columns=4, weight_bits=2, cell_bits=2)
    design = Design(
        cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=4),
        mapping=mapping,
        periphery=Periphery(input_bits=2, dac_bits=2, adc_bits=2, adc_range="full"),
    )
    layer = TiledLayer.of(map_matrix(np.array([[1, -1], [-1, 1], [1, 1]]), mapping), design, signed=False, rows=4)
    cells = layer.mapped.levels.astype(np.float32)
    codes = np.array([[[3, 1, 2]], [[0, 3, 3]]])
    wanted = layer.plan(cells).multiply(codes)
    assert (wanted != 0).any()
    np.testing.assert_array_equal(layer.plan(cells, backend=TorchBackend()).multiply(codes), wanted)
