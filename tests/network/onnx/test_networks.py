"""Whole networks: against onnxruntime, and the same chip as through torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import xbarsim as xb
from tests.network.onnx.exports import FILES, Exported
from tests.network.onnx.writing import Array
from xbarsim.cost import OPERATIONS
from xbarsim.devices import Cell, StuckFaults

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

DESIGN = xb.Design(
    cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=16, read_voltage=0.2),
    mapping=xb.Mapping(rows=32, columns=32, weight_bits=8),
    faults=StuckFaults(off=0.01, on=0.005),
)
IDEAL = DESIGN.replace(faults=None)


# What stands between the products is rounded exactly, so that every library gives the same bits.
EXACT = ("vgg",)


def run_by_onnxruntime(path: Path, x: Array) -> Array:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


@pytest.mark.parametrize(("name", "exporter"), FILES)
def test_a_network_gives_what_onnxruntime_gives(name: str, exporter: str, exported: Callable[[str], Exported]) -> None:
    given = exported(name)
    path, x = given.path(exporter), given.array
    network = xb.map_onnx(path, IDEAL, calibration=x)
    expected = run_by_onnxruntime(path, x)
    floating = network.floating(x)
    assert floating.dtype == np.float32
    np.testing.assert_allclose(floating, expected, rtol=1e-5, atol=1e-5)
    double = network.skeleton.doubled().run(xb.network.samples.Samples.of(x))
    assert double.dtype == np.float64
    np.testing.assert_allclose(double, expected, rtol=1e-5, atol=1e-5)
    # quantised to 8 bits it is close to that, and an ideal chip is the quantised network bit for bit
    digital = network.digital(x)
    assert np.linalg.norm(digital - expected) < 0.05 * np.linalg.norm(expected)
    np.testing.assert_array_equal(network.fabricate(seed=0)(x), digital)
    np.testing.assert_array_equal(network.digital(x[2:5]), digital[2:5])


@pytest.mark.parametrize(("name", "exporter"), [each for each in FILES if each[0] != "mobile"])
def test_a_file_gives_the_same_chip_as_torch(name: str, exporter: str, exported: Callable[[str], Exported]) -> None:
    given = exported(name)
    one = xb.map_model(given.model, DESIGN, calibration=given.samples)
    other = xb.map_onnx(given.path(exporter), DESIGN, calibration=given.array)
    same_chip(one, other)
    answers = one.fabricate(seed=5)(given.samples).numpy(), other.fabricate(seed=5)(given.array)
    if name in EXACT:
        np.testing.assert_array_equal(*answers)
    else:
        np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-5)


def same_chip(one: xb.MappedNetwork, other: xb.MappedNetwork) -> None:
    """Equal codes, scales and cells of a seed, layer by layer."""
    dies = one.fabricate(seed=5), other.fabricate(seed=5)
    assert len(one.layers) == len(other.layers)
    for (name, a), (other_name, b) in zip(one.layers.items(), other.layers.items(), strict=True):
        np.testing.assert_array_equal(a.layer.codes, b.layer.codes)
        np.testing.assert_array_equal(a.layer.weight_scale, b.layer.weight_scale)
        np.testing.assert_array_equal(a.layer.bias, b.layer.bias)
        assert a.layer.input_scale == b.layer.input_scale
        assert (a.layer.signed, a.layer.window, a.layer.adapter) == (b.layer.signed, b.layer.window, b.layer.adapter)
        assert a.vectors_per_image == b.vectors_per_image
        if b.layer.output_names:  # a file says nothing of what attention calls its outputs
            assert a.layer.output_names == b.layer.output_names
        np.testing.assert_array_equal(dies[0].layers[name].cells(), dies[1].layers[other_name].cells())


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", ["vgg", "lstm"])
def test_a_file_with_a_fixed_batch_size_is_run_whatever_it_is_or_refused(
    name: str, batch: int, exported: Callable[[str], Exported]
) -> None:
    given = exported(name)
    free = xb.map_onnx(given.path("legacy"), IDEAL, calibration=given.array)
    path = given.path("legacy", batch=batch)
    if batch > 1 and name == "lstm":  # the first state has a constant shape
        with pytest.raises(xb.InputError, match=f"batch size is fixed to {batch}"):
            xb.map_onnx(path, IDEAL, calibration=given.array)
        return
    fixed = xb.map_onnx(path, IDEAL, calibration=given.array)
    assert any("fixes the batch size" in note for note in fixed.notes)
    np.testing.assert_array_equal(fixed.digital(given.array), free.digital(given.array))
    assert [each.vectors_per_image for each in fixed.layers.values()] == [
        each.vectors_per_image for each in free.layers.values()
    ]


def test_samples_that_do_not_fit_a_file_are_refused(exported: Callable[[str], Exported]) -> None:
    given = exported("vgg")
    path, x = given.path("legacy"), given.array
    for wrong, message in (
        (x[:, :2], r"input 'x' must have shape \(samples, 3, 8, 8\), got \(8, 2, 8, 8\)"),
        (x[:, :, 0], "must have shape"),
        ((x, x), "must be the inputs x, got 0, 1"),
        ({"y": x}, "must be the inputs x, got y"),
        (np.zeros((4, 3, 8, 8), np.int64) + np.arange(8), "must be float32, got int64"),
        (np.zeros_like(x), "more than one value"),
        (np.where(x > 3, np.nan, x) * np.where(x > 2, np.nan, 1), "finite"),
    ):
        with pytest.raises(xb.InputError, match=message):
            xb.map_onnx(path, IDEAL, calibration=wrong)
    network = xb.map_onnx(path, IDEAL, calibration={"x": x})
    np.testing.assert_array_equal(network.digital(x=x), network.digital(x))
    with pytest.raises(xb.InputError, match="must have shape"):
        network.fabricate(seed=1)(x[:, :, :4])


def totals(network: xb.MappedNetwork) -> dict[str, float]:
    return {kind: sum(getattr(use, kind) for use in network.digital_work) for kind in OPERATIONS}


@pytest.mark.parametrize(("name", "exporter"), [each for each in FILES if each[0] not in ("mobile", "encoder")])
def test_digital_work_is_counted_as_for_torch(name: str, exporter: str, exported: Callable[[str], Exported]) -> None:
    given = exported(name)
    one = totals(xb.map_model(given.model, DESIGN, calibration=given.samples))
    other = totals(xb.map_onnx(given.path(exporter), DESIGN, calibration=given.array))
    if name in ("attention", "sequence"):
        # queries and keys are each scaled, instead of their product, by the root of the factor
        assert other.pop("elementwise") >= one.pop("elementwise")
    if name == "vision":  # files write SiLU as a sigmoid and a multiplication; torch's is counted as one function
        other["elementwise"] -= 5
    assert one == other


def test_work_of_attention_and_of_norms_is_in_the_cost(exported: Callable[[str], Exported]) -> None:
    given = exported("attention")
    network = xb.map_onnx(given.path("legacy"), DESIGN, calibration=given.array)
    work = {use.kind: use for use in network.digital_work}
    assert totals(network)["multiply_accumulates"] == 2 * 2 * 5 * 5 * 6  # scores and mixing, two heads of 6, 5 steps
    assert work["Softmax"].nonlinear == 2 * 5 * 5
    assert work["LayerNormalization"].parameters == 24
    assert (work["LayerNormalization"].elementwise, work["LayerNormalization"].nonlinear) == (7 * 60, 5)
    assert "Softmax" in str(network.cost("isaac2016").digital)
