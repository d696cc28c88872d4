"""A good call of every public function and class, and the bad values that are put into it one by one.

``tests/test_public_calls.py`` walks over them. What is new in the ``__all__`` of a room needs a line here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from tests import calls_of_networks, calls_of_sequences
from tests.sweep.subjects import DESIGN, tiny
from tests.training.squares import QUICK, data, network
from xbarsim import circuit, compress, design, devices, die, engine, mapping, mitigation, models, sweep
from xbarsim.devices import faults
from xbarsim.training import Callback, History

#: Public names that are not called, and why.
EXCLUDED = {
    # bases: they say what a subclass must supply, and hold nothing
    **dict.fromkeys(
        [
            "Conductances",
            "Drift",
            "FieldFaults",
            "NoiseModel",
            "OnOffFaults",
            "Encoding",
            "Packing",
            "PairEncoding",
            "CurrentLaw",
            "Backend",
            "Plan",
            "Program",
            "Mitigation",
            "ArrayTest",
            "Callback",
            "Disturbance",
            "Method",
            "MethodCallback",
            "Target",
            "Measure",
            "StopRule",
        ],
        "an abstract base",
    ),
    **dict.fromkeys(
        ["FaultKind", "Granularity", "Purpose", "Needs", "Shape", "UpdateRule"], "an enumeration or the name of a type"
    ),
    **dict.fromkeys(
        ["ConvergenceError", "FloatingNodeError", "CollectError", "Interrupted"], "an error that the library raises"
    ),
    **dict.fromkeys(["CompiledBackend", "InProcess", "plain_products"], "takes nothing"),
    **dict.fromkeys(
        [
            "TorchProgram",
            "BlockedMaps",
            "PlainProgram",
            "ChecksumReport",
            "LinearisationError",
            "MappableLayer",
            "PackedNetwork",
            "Solution",
            "TileView",
            "DigitsSplit",
            "Proposal",
            "DriftEstimate",
            "ErrorEstimate",
            "Finding",
            "Law",
            "NoiseParts",
            "NoiseSeries",
            "QuantileEstimate",
            "WriteLaw",
            "Written",
        ],
        "a record that only the library makes",
    ),
    **dict.fromkeys(
        [
            "AdmmCallback",
            "GrowAndPruneCallback",
            "compress",
            "find_tickets",
            "grow_and_prune_in_parallel",
            "critical_rate",
            "faulty_accuracy",
            "fine_tune",
            "prune",
            "prune_progressively",
            "retrain",
        ],
        "trains or measures for seconds a call: what it takes is checked by classes and functions of this walk",
    ),
    "LocalProcesses": "starts processes",
    "dask_executor": "connects to a network",
    "main": "the command line, with tests of its own",
    "application": "the command line, with tests of its own",
    **dict.fromkeys(
        ["ConvNet", "DigitsNet", "LeNet5", "MnistNet", "ResNet18", "ResNet20", "VGG16"],
        "a torch module that takes nothing",
    ),
    **dict.fromkeys(
        ["convnet", "lenet5", "resnet18", "resnet20", "vgg16", "load_digits_net", "data_folder", "load_digits_split"],
        "takes nothing",
    ),
    **dict.fromkeys(
        [
            "load_babi",
            "load_cifar10",
            "load_keyword_net",
            "load_keywords",
            "load_mnist",
            "load_neurram_network",
            "load_nmnist",
            "load_resnet20",
            "load_spoken_digits",
            "spoken_digit_features",
        ],
        "needs the data folder; its tests try bad files",
    ),
    **dict.fromkeys(
        ["EventFrames", "Recordings", "SpokenDigitFeatures", "StoryQuestions"], "a record that only the library makes"
    ),
    **dict.fromkeys(["log_mel", "mel_filters"], "features of recordings: bad ones are tried in the tests of data"),
    **dict.fromkeys(
        ["KeywordNet", "NeuRRAMMnistNet", "NeuRRAMResNet20", "SpokenDigitsNet", "StoryTransformer"], "a torch module"
    ),
    **dict.fromkeys(["Fire", "RecurrentCell", "Surrogate"], "a type"),
    **dict.fromkeys(
        ["EventNet", "LiafLayer", "Neuron", "RecurrentLiaf", "SequenceNet", "StoryNet"],
        "torch modules: what they refuse is in the tests of models",
    ),
    **dict.fromkeys(
        ["load_spoken_digits_net", "load_story_transformer", "spoken_digits_weights"],
        "networks that ship: their tests try other names and files",
    ),
    "restore_onnx": "called by the loading of a file, which is checked before",
    **dict.fromkeys(
        ["cost_breakdown", "cost_layers", "layer_errors", "tile", "tile_occupancy"],
        "draws results of rooms above this walk",
    ),
    **dict.fromkeys(["array_test_names", "cell_names", "design_names", "preset_names", "write_names"], "takes nothing"),
    "StuckOutside": "a record that only the library makes",
    **dict.fromkeys(["FailedDiesWarning", "StuckValueWarning"], "a warning that the library raises"),
    "count_clipped": "run at each use of a layer: what comes to it is checked once, where the network is called",
    **calls_of_networks.EXCLUDED,
    **calls_of_sequences.EXCLUDED,
}


class _Double(devices.Conductances):
    def draw(self, count: int, rng: np.random.Generator) -> Any:
        return np.full(count, 1e-6)


@dataclass
class World:
    """What good calls are made of, in a folder of their own."""

    folder: Path

    def __post_init__(self) -> None:
        self.cell = DESIGN.cell
        self.mapping = mapping.Mapping(rows=4, columns=8, weight_bits=4, cell_bits=2)
        self.design = design.Design(cell=self.cell, mapping=self.mapping, faults=devices.StuckFaults(on=0.1, off=0.1))
        self.matrix = mapping.map_matrix(np.array([[5, -3], [0, 1], [2, 2]]), self.mapping)
        self.reading = mapping.Reading.of(self.matrix, "analog")
        self.drive = design.Drive(signed=False, input_bits=4, dac_bits=1)
        self.converter = design.Converter()
        self.cells = self.matrix.levels.astype(np.float32)
        self.silicon = die.Silicon.draw(self.design, self.reading, self.converter, seed=3, index=0)
        self.faults = self.silicon.faults
        self.case = engine.Case(
            reading=self.reading, drive=self.drive, converter=self.converter, cells=self.cells, whole=True, noisy=False
        )
        self.task = sweep.Task(network=tiny(), design=DESIGN, images=10, calibration=10)
        self.measured = sweep.MeasuredDie(
            task=self.task.id,
            die=0,
            correct=3,
            images=10,
            seconds=1.0,
            inference_seconds=0.5,
            fault_hash="ab",
            cells=9,
            stuck_on=1,
            stuck_off=1,
            stuck_at=0,
        )
        self.result = sweep.TaskResult(
            columns={**self.task.columns(), "a": 1}, tags=("a",), stop=sweep.Dies(count=1), collected=(self.measured,)
        )
        self.recipe = compress.Recipe(
            rules=(compress.LayerRule(layers=("*",), targets=(compress.Unstructured(keep=0.5),)),)
        )
        self.toml = str(self.folder / "design.toml")
        self.design.save(self.toml)
        self.measured_cells = str(self.folder / "cells.csv")
        Path(self.measured_cells).write_text("level,g (uS)\n0,1\n1,2\n1,3\n")
        self.listed_faults = str(self.folder / "listed.csv")
        Path(self.listed_faults).write_text("row,column,kind\n1,2,x\n")
        os.mkfifo(self.folder / "pipe")
        (self.folder / "deep.toml").write_text("a = " + "[" * 5000 + "]" * 5000)
        (self.folder / "zeros.npz").write_bytes(b"\0" * 100)


def rng() -> np.random.Generator:
    return np.random.default_rng(1)


def good_calls(w: World) -> dict[str, tuple[Callable[..., Any], Callable[[], dict[str, Any]]]]:
    """By ``room.name``: what is called, and what makes its arguments anew."""
    weights = np.array([[1.0, -0.2], [-0.3, 0.1]])
    matrix = torch.arange(12.0).reshape(3, 4)
    conductance = np.full((3, 3), 1e-5)
    wires = circuit.Wires(word_line_resistance=1.0, bit_line_resistance=1.0)
    polynomial = devices.Polynomial(coefficients=(1e-6,), scale=1e-6)
    error = devices.ProgrammingError(spread=polynomial, valid_from=0.0, valid_to=1.0)
    shape = (1, 4, 4)
    history = {"loss": (1.0,), "penalty": (0.0,), "training_accuracy": (0.5,), "validation_accuracy": (0.5,)}
    calls: dict[str, tuple[Callable[..., Any], Callable[[], dict[str, Any]]]] = {}

    def add(room: str, called: Callable[..., Any], name: str | None = None, /, **arguments: Any) -> None:
        calls[f"{room}.{name or called.__name__}"] = called, lambda: dict(arguments)

    # --- devices
    d = devices
    for f in (
        d.StuckFaults,
        d.ClusteredFaults,
        d.BetaBinomialFaults,
        d.GradientFaults,
        d.RadialFaults,
        d.StuckLineFaults,
    ):
        more: dict[str, Any] = {
            d.ClusteredFaults: {"size": 3.0, "spread": 1.0},
            d.BetaBinomialFaults: {"correlation": 0.1},
            d.GradientFaults: {"contrast": 0.5},
            d.RadialFaults: {"contrast": 0.5},
            d.StuckLineFaults: {"row_share": 0.5},
        }.get(f, {})
        add("devices", f, on=0.1, off=0.05, **more)
        model = f(on=0.1, off=0.05, **more)
        add("devices", model.sample, f"{f.__name__}.sample", shape=shape, rng=rng())
        add("devices", model.with_total, f"{f.__name__}.with_total", rate=0.1)
        add("devices", model.probability, f"{f.__name__}.probability", shape=shape)
    stuck = d.StuckFaults(on=0.1, off=0.1)
    add("devices", d.CombinedFaults, models=(stuck, stuck))
    add("devices", d.CombinedFaults(models=(stuck, stuck)).with_total, "CombinedFaults.with_total", rate=0.3)
    add("devices", d.WearOutFaults, writes=1.0, endurance=10.0, weibull_shape=1.0, on_share=0.5)
    add(
        "devices",
        d.WearOutFaults(writes=1.0, endurance=10.0, weibull_shape=1.0, on_share=0.5).sample,
        "WearOutFaults.sample",
        shape=shape,
        rng=rng(),
    )
    add("devices", d.ListedConductances, values=(1e-6,))
    add("devices", d.UniformConductances, low=1e-6, high=1e-5)
    add("devices", d.LogNormalConductances, median=1e-6, sigma=0.5)
    add("devices", d.StuckAtFaults, where=stuck, on_conductances=d.ListedConductances(values=(1e-6,)))
    csv = w.folder / "map.csv"
    d.FaultMap.from_dense(np.ones(shape, int)).save(csv)
    add("devices", d.MeasuredFaults, path=str(csv))
    add(
        "devices",
        d.FaultMap,
        shape=shape,
        index=np.array([1, 3]),
        kind=np.array([1, 2]),
        value=np.array([np.nan, np.nan]),
    )
    add("devices", d.FaultMap.load, "FaultMap.load", path=str(csv))
    add("devices", d.FaultMap.from_csv, "FaultMap.from_csv", path=str(csv), shape=shape)
    add("devices", d.FaultMap.from_dense, "FaultMap.from_dense", kind=np.ones(shape, int))
    add("devices", d.FaultMap.from_resistance, "FaultMap.from_resistance", resistance=np.full((2, 2), 1e4), low=1.0)
    add("devices", w.faults.save, "FaultMap.save", path=str(w.folder / "out.csv"))
    add("devices", w.faults.tile, "FaultMap.tile", tile=0)
    add("devices", w.faults.overlay, "FaultMap.overlay", other=w.faults)
    add("devices", w.faults.conductance, "FaultMap.conductance", cell=w.cell)
    add("devices", w.faults.apply, "FaultMap.apply", held=np.zeros(w.faults.shape), stuck=np.zeros(len(w.faults)))
    add("devices", w.faults.morans_i, "FaultMap.morans_i", neighbours=4)
    add("devices", d.FaultDifference, added=np.array([1]), removed=np.array([2]), changed=np.array([3]))
    add(
        "devices",
        d.BrokenLines,
        open_word_lines=np.zeros((1, 2), bool),
        open_bit_lines=np.zeros((1, 2), bool),
        shorted_bit_lines=np.zeros((1, 1), bool),
    )
    add("devices", d.LineFaults, open_word_line=0.1)
    add("devices", d.LineFaults().sample, "LineFaults.sample", shape=shape, rng=rng())
    add("devices", d.Cell, g_min=1e-6, g_max=1e-5, levels=16, programming_error=error, read_voltage=0.2)
    add("devices", d.Cell.load, "Cell.load", name_or_path="milo2021")
    add("devices", w.cell.program, "Cell.program", levels=np.array([0, 3]), cell_bits=2, rng=rng())
    add("devices", w.cell.conductance, "Cell.conductance", levels=np.array([0, 3]), cell_bits=2)
    add("devices", w.cell.maximum_level, "Cell.maximum_level", cell_bits=2)
    add("devices", w.cell.save, "Cell.save", path=str(w.folder / "out.toml"), source="a", origin="cited")
    add("devices", d.card, name_or_path="milo2021")
    add("devices", d.card_support, name="milo2021")
    add("devices", d.CardSupport, **vars(d.card_support("milo2021")[0]))
    numbers = np.array([1e-6, 2e-6])
    writing: dict[str, Any] = {
        "tolerance": 1e-6,
        "most_pulses": 9,
        "pulse_spread": polynomial,
        "valid_from": 0.0,
        "valid_to": 1.0,
    }
    write = d.WriteVerify(**writing)
    add("devices", d.WriteVerify, **writing, pulse_bias=None, read_spread=polynomial, pulse_seconds=0.1)
    add("devices", d.WriteVerify.load, "WriteVerify.load", name_or_path="wan2022")
    add("devices", d.WriteCard, name="a", description="b", source="c", origin="cited", note="d", value=write)
    add("devices", write.law, "WriteVerify.law", target=numbers)
    add("devices", write.program, "WriteVerify.program", target=numbers, rng=rng(), start=numbers)
    add("devices", write.programming_error, "WriteVerify.programming_error", valid_from=1e-6, valid_to=2e-6)
    add("devices", d.Readings, conductance=numbers, level=np.array([0, 1]), time=numbers, read_voltage=0.1)
    add("devices", d.Readings, "Readings of targets", conductance=numbers, target=numbers, cell=np.array([0, 1]))
    add("devices", d.Readings.from_csv, "Readings.from_csv", path=w.measured_cells, unit="uS", read_voltage=0.1,
        decimal=".", rename={"level": "level"})  # fmt: skip
    fitted = d.fit_cell(w.measured_cells)
    add(
        "devices",
        d.fit_cell,
        data=w.measured_cells,
        name="a",
        levels=4,
        scale=1e-6,
        drift_law="walk",
        noise_law="whole",
        unit="uS",
        implausible=None,
    )
    add("devices", fitted.save, "CellFit.save", path=str(w.folder / "fit.toml"), source="a", description="b")
    add("devices", fitted.card, "CellFit.card", source="a", doi="b")
    add("devices", d.read_fault_map, path=w.listed_faults, layout="list", shape=shape, first=0, kinds={"x": "works"})
    add("devices", d.fault_preset, name_or_path="chen2015_sa0_hrs")
    add("devices", d.FaultModel.load, "FaultModel.load", name_or_path="chen2015_sa0_hrs")
    add("devices", d.Polynomial, coefficients=(1e-6,), scale=1e-6)
    add("devices", d.ProgrammingError, spread=polynomial, valid_from=0.0, valid_to=1.0)
    add("devices", d.round_to_grid, level_units=weights, offset_levels=1.0)
    add("devices", d.ReadNoise, spread=polynomial, valid_from=0.0, valid_to=1.0)
    add("devices", d.Programming, target=weights, bias=weights, spread=weights)
    add("devices", d.NoiseVariance, constant=weights, linear=weights, quadratic=weights)
    add("devices", d.SummedNoise, mechanisms=(d.ReadNoise(spread=polynomial, valid_from=0.0, valid_to=1.0),))
    add("devices", d.CardValue, value=1.0, unit="S", origin="cited", note="")
    noise = d.ReadNoise(spread=polynomial, valid_from=0.0, valid_to=1.0)
    add("devices", d.ThermalNoise, bandwidth=1e6)
    add("devices", d.ShotNoise, bandwidth=1e6)
    add("devices", d.FlickerNoise, coefficient=1e-3, low_frequency=1.0, high_frequency=1e6)
    band = {"low_frequency": 1.0, "high_frequency": 1e6}
    add("devices", d.FlickerNoise, "FlickerNoise of a power", coefficient=1e-3, scale=1e-5, exponent=-1.0, largest=0.1,
        **band)  # fmt: skip
    add("devices", d.TelegraphNoise, saturation=0.1, corner=1e-5)
    add(
        "devices", d.TelegraphNoise, "TelegraphNoise in a band", saturation=0.1, corner=1e-5, switching_time=1.0, **band
    )
    add("devices", noise.variance, "ReadNoise.variance", conductance=weights, code_voltage=0.1)
    drift = d.LogarithmicDrift(spread=polynomial, valid_from=0.0, valid_to=1.0, valid_seconds=1e6)
    add("devices", d.LogarithmicDrift, spread=polynomial, valid_from=0.0, valid_to=1.0, valid_seconds=1e6)
    add("devices", drift.relax, "LogarithmicDrift.relax", conductance=weights**2, seconds=10.0, rng=rng())
    measured = d.Cell.load("levy2021_c").drift
    assert isinstance(measured, d.MeasuredDrift)
    add("devices", d.MeasuredDrift, **vars(measured))
    exponent = {"offset": 0.05, "slope": 0.01, "scale": 1e-5, "least": 0.0, "most": 0.1}
    law = d.ExponentLaw(**exponent)
    add("devices", d.ExponentLaw, **exponent)
    add("devices", d.PowerLawDrift, mean=law, spread=law, valid_from=0.0, valid_to=1.0, valid_seconds=1e6)
    add("devices", d.DriftStep, **vars(measured.steps[0]))
    fit = {"data": "a", "cells": (1,), "time_s": (1.0,), "mean_residual": (0.1,), "spread_residual": (0.1,)}
    add("devices", d.DriftFit, **fit, sampling_error=(0.1, 0.1))
    add("devices", d.Fit, data="a", cells=1, time_s=1.0, spread_residual=0.1, bias_residual=0.1)
    add("devices", d.DriftValue, value=drift, unit="S", origin="fitted")
    add("devices", d.ProgrammingErrorValue, value=error, unit="S", origin="fitted")
    add("devices", d.ReadNoiseValue, value=noise, unit="S", origin="fitted")
    add("devices", d.FaultPreset, name="a", description="", source="", origin="cited", faults=stuck)
    add("devices", d.Card, **vars(d.card("milo2021")))
    add("devices", faults.draw_positions, cells=10, count=3, rng=rng())
    add("devices", faults.as_shape, shape=shape)
    add("devices", d.check_voltage, name="read_voltage", value=0.1, implausible=None)
    outside = d.StuckOutside(cell="a", maximum_level=15)
    add("devices", d.warn_outside, outside=outside, source="a")
    # --- mapping
    m = mapping
    add("mapping", m.quantise, weights=weights, bits=4)
    add("mapping", m.map_matrix, codes=np.array([[5, -3]]), mapping=w.mapping)
    add("mapping", m.Mapping, encoding=m.TwoColumn(), rows=4, columns=8, weight_bits=4, cell_bits=2)
    lines = {"rows": np.zeros((1, 1), np.int32), "columns": np.zeros((1, 1), np.int32), "arrays": np.zeros(1, np.int32)}
    add("mapping", m.Arrangement, **lines, shape=(1, 1, 1))
    add("mapping", m.Arrangement.identity, "Arrangement.identity", shape=(1, 2, 3), spare_rows=1, spare_columns=2)
    identity = m.Arrangement.identity((1, 2, 3))
    nothing = devices.FaultMap.empty((1, 2, 3))
    add("mapping", identity.faults_of_tiles, "Arrangement.faults_of_tiles", faults=nothing)
    add("mapping", m.Unary, cells=3)
    add("mapping", m.Offset, reference="column")
    for encoding in (
        m.TwoColumn(),
        m.Differential(),
        m.Balanced(),
        m.DuplicatedTop(),
        m.DuplicatedDifferential(),
        m.Offset(),
        m.Unary(),
    ):
        name = type(encoding).__name__
        add("mapping", encoding.slice_count, f"{name}.slice_count", weight_bits=8, cell_bits=4)
        add("mapping", encoding.slice_weights, f"{name}.slice_weights", weight_bits=8, cell_bits=4)
        add("mapping", encoding.encode, f"{name}.encode", codes=np.array([3]), weight_bits=8, cell_bits=4)
        add("mapping", type(encoding), name) if name not in ("Unary", "Offset") else None
    add("mapping", m.QuantisedMatrix, codes=np.array([[1]]), scale=np.array([1.0]), bits=4)
    add("mapping", w.matrix.decode, "MappedMatrix.decode", cells=w.cells)
    add("mapping", w.matrix.cells_of, "MappedMatrix.cells_of", row=0, output=0)
    add("mapping", w.matrix.weight_at, "MappedMatrix.weight_at", tile=0, row=0, column=0)
    add(
        "mapping",
        m.MappedMatrix,
        mapping=w.mapping,
        shape=w.matrix.shape,
        tile_rows=w.matrix.tile_rows,
        tile_outputs=w.matrix.tile_outputs,
        levels=w.matrix.levels,
    )
    add("mapping", m.Reading.of, "Reading.of", matrix=w.matrix, subtraction="analog")
    integers = np.array([0], np.int32)
    add("mapping", m.TileGroup, rows=integers, physical_rows=integers, tiles=integers)
    add("mapping", m.CellSet, tile=integers, row=integers, column=integers, slice=integers, side=integers)
    add("mapping", m.WeightCell, row=0, output=0, slice=0, side=0)
    # --- design
    s = design
    add("design", s.Design, cell=w.cell, mapping=w.mapping, periphery=s.Periphery(), faults=stuck)
    add("design", s.Design.load, "Design.load", name_or_path=w.toml)
    add("design", s.design_card, name_or_path="isaac2016")
    add("design", s.DesignValue, parameters=("cell",), origin="cited", note="a")
    add("design", s.DesignCard, **vars(s.design_card("islped2019")))
    add("design", s.Design.from_toml, "Design.from_toml", text=w.design.to_toml())
    add("design", w.design.save, "Design.save", path=str(w.folder / "out.toml"))
    add("design", w.design.drive, "Design.drive", signed=False)
    add("design", w.design.converter, "Design.converter", rows=4)
    add("design", w.design.reading, "Design.reading", matrix=w.matrix)
    add("design", s.Periphery, drift_compensation="layer", input_bits=8, dac_bits=1, adc_bits=8, active_rows=4)
    add("design", s.AdcErrors, offset=0.1, gain=0.1)
    add("design", s.AdcErrors(capacitor_mismatch=0.1).weights, "AdcErrors.weights", bits=4, count=(2, 2), rng=rng())
    add("design", s.DacErrors, offset=0.1, gain=0.1)
    add("design", s.Drive, signed=False, input_bits=4, dac_bits=1)
    add("design", s.Converter, step=1.0, low=0, high=15)
    add("design", s.ConverterErrors, offset=weights)
    add("design", s.successive_approximation, position=np.array([1.0]), weights=np.array([[1.0, 2.0]]), low=0)
    # --- circuit
    c = circuit
    add("circuit", c.Wires, word_line_resistance=1.0, drive="one")
    add("circuit", c.PolynomialLaw, quadratic=(0.0,), maximum_voltage=1.0)
    add("circuit", c.SinhLaw, voltage_scale=1.0)
    add(
        "circuit",
        c.solve,
        conductance=conductance,
        voltages=np.full(3, 0.1),
        wires=wires,
        law=None,
        rows=np.ones(3, bool),
        tolerance=1e-10,
        maximum_iterations=9,
    )
    add("circuit", c.effective_conductance, conductance=conductance, wires=wires, rows=np.ones(3, bool))
    add("circuit", c.reference_effective_conductance, conductance=conductance, wires=wires)
    hot = devices.NoiseVariance.of((3, 3), constant=1e-5)
    add("circuit", c.reference_covariance, conductance=conductance, variance=hot, codes=np.ones(3), wires=wires)
    add(
        "circuit",
        c.effective_variance,
        conductance=conductance,
        effective=c.effective_conductance(conductance, wires),
        variance=hot,
        wires=wires,
        rows=np.ones(3, bool),
        filling=0.3,
    )
    add(
        "circuit",
        c.linearisation_error,
        conductance=conductance,
        voltages=np.full(3, 0.1),
        wires=wires,
        law=c.SinhLaw(voltage_scale=1.0),
    )
    add(
        "circuit",
        c.working_conductance,
        conductance=conductance,
        effective=c.effective_conductance(conductance, wires),
        law=c.SinhLaw(voltage_scale=1.0),
        voltage=0.2,
        wires=wires,
        codes=3,
        rows=np.ones(3, bool),
        filling=0.3,
    )
    # --- engine
    e = engine
    codes = np.array([[1, 2, 3]])
    add("engine", e.Case, **{**vars(w.case)})
    add("engine", e.Window, kernel=(1, 1), stride=(1, 1))
    add("engine", e.Noise, spread=w.cells, key=1)
    add(
        "engine",
        e.choose_plan,
        reading=w.reading,
        cells=w.cells,
        drive=w.drive,
        converter=w.converter,
        whole=True,
        noisy=False,
    )
    add(
        "engine",
        e.make_plan,
        reading=w.reading,
        cells=w.cells,
        drive=w.drive,
        converter=w.converter,
        precision="single",
    )
    add("engine", e.largest_read, reading=w.reading, drive=w.drive, cells=w.cells, offset_levels=0.0)
    add("engine", e.largest_conversion, reading=w.reading, drive=w.drive, codes=codes, offset_levels=0.0)
    add("engine", e.clipped_share, reading=w.reading, drive=w.drive, converter=w.converter, codes=codes, cells=w.cells)
    add(
        "engine",
        e.reference_multiply,
        "reference_multiply",
        codes=codes,
        reading=w.reading,
        cells=w.cells,
        drive=w.drive,
        converter=w.converter,
    )
    add("engine", e.planes_layout, case=w.case)
    add("engine", e.common_fit, cases=[w.case], plans=e.PLANS)
    add("engine", e.plan_case, case=w.case, backend=None, plans=e.PLANS)
    add("engine", e.TorchBackend, device="cpu")
    of = {name: getattr(w.case, name) for name in ("reading", "cells", "drive", "converter", "noise", "errors")}
    add("engine", e.Case.of, "Case.of", **of, precision="single")
    add("engine", e.whole_layout, case=w.case)
    add("engine", e.Scaling, inverse_scale=1.0, low=0, high=15, scale=np.ones(2), bias=np.zeros(2))
    add("engine", e.input_offset, case=w.case, column_sums=np.ones(2))
    add("engine", e.quantise_codes, values=np.ones(3, np.float32), inverse_scale=1.0, low=0, high=15)
    add("engine", e.unfold, codes=np.ones((1, 1, 3, 3), np.int32), window=e.Window())
    layout = e.planes_layout(w.case)
    add("engine", e.Layout, **vars(layout))
    add("engine", e.Columns, **vars(layout.columns[0]))
    add("engine", e.clipping_bounds, inverse_scale=1.0, low=0, high=15)
    # --- die
    add("die", die.program, levels=w.matrix.levels, cell=w.cell, cell_bits=2, rng=rng(), faults=w.faults)
    add("die", die.seen_cells, cells=w.cells, matrix=w.matrix, design=w.design, drive=w.drive)
    add("die", die.through_wires, cells=w.cells, matrix=w.matrix, design=w.design, drive=w.drive)
    add(
        "die",
        die.seen_variance,
        cells=w.cells,
        variance=devices.NoiseVariance.of(w.cells.shape, constant=1.0),
        matrix=w.matrix,
        design=w.design,
        drive=w.drive,
    )
    add("die", die.fold_errors, cells=w.cells, reading=w.reading, design=w.design, drive=w.drive, silicon=w.silicon)
    add(
        "die", die.current_losses, layer="a", cells=w.cells, matrix=w.matrix, design=w.design, drive=w.drive, lines=None
    )
    add("die", die.check_age, cell=w.cell, seconds=0.0)
    add(
        "die",
        die.Silicon.draw,
        "Silicon.draw",
        design=w.design,
        reading=w.reading,
        converter=w.converter,
        seed=3,
        index=0,
    )
    add("die", die.Silicon, faults=w.faults)
    add(
        "die",
        die.DieLayer,
        name="a",
        reading=w.reading,
        drive=w.drive,
        converter=w.converter,
        design=w.design,
        silicon=w.silicon,
        seed=3,
    )
    one = np.zeros(1, np.int32)
    add("die", die.WeightCorrection, inputs=one, outputs=one, values=np.ones(1))
    add("die", die.TileLoss, layer="a", tile=0, mean=0.1, worst=0.2)
    add("die", die.stream, seed=1, layer=0, purpose=die.Purpose.FAULTS)
    add("die", die.generator, seed=1, layer=0, purpose=die.Purpose.FAULTS)
    add("die", die.Drivers, gain=weights, offset=weights)
    add("die", die.Converters, gain=weights, offset=weights)
    # --- mitigation
    t = mitigation
    tile = t.KnownLayer.of(w.matrix, cell=w.cell, faults=w.faults).tile(0)
    add("mitigation", t.KnownTile, layer=tile.layer, tile=0, fit=tile.fit)
    add("mitigation", t.ClosestValue().fit, "ClosestValue.fit", tile=tile, rng=rng())
    add("mitigation", t.ClosestValue().overhead, "ClosestValue.overhead", tile=tile, fit=tile.fit)
    add("mitigation", t.KnownLayer.of, "KnownLayer.of", matrix=w.matrix, cell=w.cell, faults=w.faults, spare_rows=0)
    add("mitigation", t.PermuteRows, search="exact", spare=0)
    add("mitigation", t.PermuteColumns, search="greedy", spare=0)
    add("mitigation", t.FlipSigns, each="output")
    add("mitigation", t.OrderSlices)
    add("mitigation", t.AssignArrays, search="count")
    add("mitigation", t.AverageCopies, copies=2)
    add("mitigation", t.ChooseCopies, copies=2, best=1)
    add("mitigation", t.JointCopies, copies=2)
    add("mitigation", t.CorrectDigitally, share=0.1)
    add("mitigation", t.RecalibrateOutputs, largest_gain=10.0)
    add("mitigation", t.Correction, rows=one, outputs=one, values=np.ones(1))
    add("mitigation", t.TileFit, **vars(tile.fit))
    add("mitigation", t.MitigatedLayer, silicon=w.silicon)
    add("mitigation", t.OutputStatistics, mean=np.ones(2), variance=np.ones(2))
    add("mitigation", t.OutputAdjustment, gain=np.ones(2), offset=np.ones(2))
    stuck_on = {devices.FaultKind.STUCK_ON: 0.01}
    add("mitigation", t.fault_power, mapping=w.mapping, rates=stuck_on)
    add("mitigation", t.best_clip, weights=weights, mapping=w.mapping, rates=stuck_on)
    add("mitigation", t.Diagnosis, coverage=1.0)
    add("mitigation", t.KindCoverage, stuck_off=0.9, stuck_on=0.9, stuck_at=0.9)
    add("mitigation", t.Diagnosis().time, "Diagnosis.time", cells=4)
    add("mitigation", t.Diagnosis().energy, "Diagnosis.energy", cells=4)
    add("mitigation", t.Diagnosis().known, "Diagnosis.known", faults=w.faults, rng=rng())
    checksums = t.Checksums.of(np.ones((3, 4), np.int64), 3)
    add("mitigation", t.ChecksumSum, counts=(2, 1))
    add("mitigation", t.ChecksumSum.smallest, "ChecksumSum.smallest", most=9, largest=3, variance=1.0)
    sums = {"plain": checksums.plain, "weighted": checksums.weighted}
    add("mitigation", t.Checksums, outputs=4, largest=3, **sums)
    add(
        "mitigation",
        t.Checksums.of,
        "Checksums.of",
        weights=np.ones((3, 4), np.int64),
        largest=3,
        weighted=True,
        added=0.5,
    )
    add("mitigation", checksums.extend, "Checksums.extend", weights=np.ones((3, 4), np.int64))
    add(
        "mitigation",
        checksums.check,
        "Checksums.check",
        sums=np.ones((2, 4 + checksums.columns)),
        threshold=1.0,
    )
    add("mitigation", t.output_sigma, noise=0.5, step=1.0, counts=(1.0, 4.0))
    add("mitigation", checksums.residual_sigma, "Checksums.residual_sigma", sigma=1.0)
    add("mitigation", checksums.threshold, "Checksums.threshold", sigma=1.0, false_alarm=0.1)
    add("mitigation", checksums.worst_rounding, "Checksums.worst_rounding", step=1.0)
    add("mitigation", checksums.detection, "Checksums.detection", error=1.0, sigma=1.0, threshold=1.0)
    add("mitigation", checksums.location, "Checksums.location", error=1.0, sigma=1.0, output=1)
    operations = t.ArrayOperations(name="a", write_time=1e-6, read_time=1e-6, write_energy=1e-9, read_energy=1e-9)
    add("mitigation", t.ArrayOperations, **vars(operations))
    element = t.MarchElement(order="up", operations=("w0", "r0"))
    add("mitigation", t.MarchElement, **vars(element))
    add("mitigation", t.MarchTest, name="a", elements=(element,), source="b")
    march = t.MarchTest(name="a", elements=(element,))
    add("mitigation", t.MarchTest.parse, "MarchTest.parse", notation="up(w0,r0)", name="a", source="b")
    add("mitigation", march.find, "MarchTest.find", faults=w.faults, cell=w.cell, tolerance=1e-6, rng=rng())
    add(
        "mitigation",
        march.diagnosis,
        "MarchTest.diagnosis",
        cell=w.cell,
        tolerance=1e-6,
        read_sigma=0.0,
        values=None,
        operations=operations,
        cells=4,
        seed=0,
    )
    add("mitigation", march.time, "MarchTest.time", operations=operations, cells=4)
    add("mitigation", march.energy, "MarchTest.energy", operations=operations, cells=4)
    add("mitigation", t.CountedTest, name="a", writes=1, reads=1, extra_writes=0, source="b")
    add("mitigation", t.array_test, name="mats+")
    add("mitigation", t.spare_line_yield, lines=4, spares=1, rate=0.1, correlation=0.1)
    add("mitigation", t.spare_lines_needed, lines=4, rate=0.1, correlation=0.1, target=0.5, at_most=9)
    add("mitigation", t.ProtectLayers, layers=("a",), rest=False)
    add("mitigation", t.Overhead, reprogrammed_cells=1)
    add("mitigation", t.check_mitigations, mitigations=(t.ClosestValue(),), diagnosis=t.Diagnosis())
    add(
        "mitigation",
        t.mitigate,
        layer="a",
        matrix=w.matrix,
        silicon=w.silicon,
        design=w.design,
        mitigations=(t.ClosestValue(),),
        diagnosis=t.Diagnosis(),
        seed=1,
        index=0,
    )
    add("mitigation", t.ClosestValue)
    row = {"layer": "a", "tile": 0, "method": "b", "needs": "nothing", "before": 0.1, "after": 0.1, "signal": 1.0}
    add("mitigation", t.TileMitigation, **row, overhead=t.Overhead())
    add("mitigation", t.MitigationTable, tiles=())
    # --- data
    from xbarsim.data import EventRecordings, data_file, event_frames, folds, validation_split

    add("data", validation_split, labels=np.array([0, 1, 0, 1]), validation=2, seed=0)
    add("data", folds, labels=np.array([0, 1, 0, 1]), count=2, seed=0)
    one = np.zeros(3, np.int64)
    events = {"time": one, "row": one, "column": one, "polarity": one, "offsets": np.array([0, 3])}
    add("data", EventRecordings, **events, labels=np.zeros(1, np.int64), size=2)
    recorded = EventRecordings(**events, labels=np.zeros(1, np.int64), size=2)
    add("data", event_frames, recordings=recorded, bins=2, seconds=0.03, pool=1)
    calls["data.data_file"] = lambda part: data_file(part), lambda: {"part": "absent"}
    # --- models
    coded = w.folder / "coded.safetensors"
    linear = nn.Linear(3, 2, bias=False)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[7.0, -7.0, 1.0], [7.0, 0.0, 2.0]]))
    holder = nn.Sequential(linear)
    models.save_coded(coded, holder, bits=4, about={"network": "nosuch"})
    add("models", models.save_coded, path=str(w.folder / "out.safetensors"), model=holder, bits=4, about={"a": 1})
    add("models", models.load_coded, path=str(coded), model=holder)
    add("models", models.read_card, path=str(coded))
    add("models", models.load_zoo_file, path=str(next(iter(sorted(models.ZOO.glob("*.safetensors"))))))
    add("models", models.normalise, images=np.zeros((1, 3, 2, 2), np.uint8))
    add("models", models.load_images, data_set="digits", split="test", count=2)
    add("models", models.load_test_set, name="digits", count=2)
    add("models", models.load_model, name="digits")
    add("models", models.untrained_model, name="lenet5", seed=0)
    add("models", models.check_trained, name="digits")
    add("models", models.exhaustive_code, classes=4)
    add("models", models.mnist_net, num_classes=3, ternary=True)
    add("models", models.DiscreteActivation, exponent=1, limit=1.0, window=0.5, width=0.5)
    add("models", models.random_code, classes=4, length=5, seed=0)
    add("models", models.CodedClassifier, network=holder, code=models.exhaustive_code(3))
    add(
        "models",
        models.Architecture,
        name="walk",
        description="",
        parameters=1,
        input_shape=(1, 2, 2),
        classes=2,
        source="",
        build=lambda: holder,
    )
    add("models", models.ModelCard, **vars(models.MODELS["digits"]))
    add("models", models.register_model, card=models.MODELS["digits"])
    add("models", models.register_architecture, architecture=models.ARCHITECTURES["lenet5"])
    # --- training
    from xbarsim.training import ParameterGroup, Training, TrainingSet, augment, train

    small = data(8, validation=4)
    calls["training.train"] = (
        train,
        lambda: {
            "model": network(),
            "data": small,
            "training": Training(epochs=1, batch=4, device="cpu"),
            "callbacks": (Callback(),),
            "checkpoint": None,
            "progress": False,
        },
    )
    add("training", Training, epochs=1, batch=4, learning_rate=0.1, milestones=(), device="cpu")
    add("training", Training.load, "Training.load", path=w.toml.replace("design", "training"))
    QUICK.save(w.toml.replace("design", "training"))
    add("training", QUICK.rate, "Training.rate", epoch=0.5)
    add("training", augment, images=small.images, augmentation="none", generator=torch.Generator())
    add("training", ParameterGroup, parameters=(nn.Parameter(torch.ones(2)),), rate_factor=1.0)
    add("training", TrainingSet, **{name: getattr(small, name) for name in small.__dataclass_fields__})
    add("training", History, **history, selected=0, seconds=(1.0,))
    # --- compress
    k = compress
    add("compress", k.Magnitude)
    add("compress", k.Admm)
    price = k.LayerPrice(layer="0", cells=1.0, drivers=1.0, converters=1.0)
    add("compress", k.LayerPrice, **vars(price))
    add("compress", price.of, "LayerPrice.of", resources=("cells",))
    add("compress", k.Reweighted, per="weight", prices=(price,), keep=0.5)
    add("compress", k.Reweighted, "plain Reweighted")
    add("compress", k.Unstructured, keep=0.5)
    add("compress", k.Filters, keep=0.5)
    add("compress", k.Columns, keep=0.5)
    add("compress", k.Tiles, tile_filters=1, tile_columns=2, keep=0.5)
    add("compress", k.BlockColumnRow, block_filters=2, block_columns=2, keep_filters=0.5, keep_columns=0.5)
    add("compress", k.KernelShapes, kernel=3, group_filters=1, group_channels=1, keep=0.5)
    add("compress", k.RigidShapes, group_filters=1, group_channels=1, keep=0.5, shapes=("010", "111"))
    add("compress", k.kernel_shape_mask, matrix=matrix, keep=0.5, kernel=3, group_filters=1, group_channels=1)
    add("compress", k.GrowAndPrune, parts=2, tile_filters=1, tile_columns=1, rounds=1, every=1, seed=0)
    writes = k.Writes(changes={"0": torch.ones(2, 3).int()}, steps={"0": torch.ones(2, 3).int()}, of_all=4)
    add("compress", k.Writes, **vars(writes))
    add("compress", writes.counts, "Writes.counts", in_place=True)
    worn = devices.WearOutFaults(writes=1.0, endurance=10.0, weibull_shape=2.0, on_share=0.5)
    add("compress", writes.worn_out, "Writes.worn_out", cells=worn, in_place=True)
    add("compress", k.GrowAndPrune().grown, "GrowAndPrune.grown", turn=1)
    add("compress", k.LearnedShapes, learn=1, warm_up=1, strength=1.0, rate_factor=1.0, seed=0)
    add("compress", k.RandomMasks, seed=0)
    add("compress", k.magnitude_masks, model=holder, keep=0.5, layers=None, among=None)
    accuracies: dict[float, tuple[float, ...]] = {0.1: (0.5, 0.6)}
    arms = k.TicketArms(sparsity=0.9, dense=accuracies, ticket=accuracies, random=accuracies, small=accuracies)
    add("compress", k.TicketArms, **vars(arms))
    add("compress", k.ticket, arms=arms, similar=0.01, gap=0.01, least_sparsity=0.5)
    add("compress", k.Tickets, dense=holder, initial=holder, masks=(), accuracies=(0.5,))
    condition = k.Condition(text="a", holds=True)
    add("compress", k.Condition, **vars(condition))
    add("compress", k.TicketVerdict, kind="none", conditions=(condition,))
    add("compress", k.unstructured_mask, matrix=matrix, keep=0.5)
    add("compress", k.filter_mask, matrix=matrix, keep=0.5)
    add("compress", k.column_mask, matrix=matrix, keep=0.5)
    add("compress", k.tile_mask, matrix=matrix, keep=0.5, tile_filters=1, tile_columns=2)
    add("compress", k.block_mask, matrix=matrix, block_filters=2, block_columns=2, keep_filters=0.5, keep_columns=0.5)
    add("compress", k.nearest_codes, matrix=matrix, bits=4, zero=True)
    add("compress", k.nearest_levels, matrix=matrix, bits=4, mask=matrix > 2)
    add("compress", k.Levels, bits=4)
    add("compress", k.Levels, "ternary Levels", bits=2, threshold=0.7)
    add("compress", k.DiscreteStates, exponent=1, limit=1.0, steepness=3.0)
    add("compress", k.DiscreteStates().nearest, "DiscreteStates.nearest", weights=matrix)
    add("compress", k.DiscreteStates().spread, "DiscreteStates.spread", weights=matrix)
    add("compress", k.DiscreteTransitions, states=k.DiscreteStates(), layers=("*",), rate_factor=1.0)
    add("compress", k.kept_count, keep=0.5, total=4)
    add("compress", k.gemm_view, weight=matrix)
    add("compress", k.mappable_layers, model=holder)
    add("compress", k.LayerRule, layers=("*",), targets=(k.Unstructured(keep=0.5),), levels=k.Levels(bits=4))
    add("compress", k.Recipe, rules=w.recipe.rules)
    add("compress", k.Recipe.from_toml, "Recipe.from_toml", text=w.recipe.to_toml())
    add("compress", w.recipe.layers, "Recipe.layers", model=holder)
    add("compress", k.compression, model=holder, masks={"0": torch.ones(2, 3, dtype=torch.bool)}, recipe=None)
    add("compress", k.Injection, design=w.design, dies=2, every=1, seed=0, copies=2)
    add("compress", k.Hardening, masks={}, levels={}, injection=None, layers=None, validate_injected=False, clip=0.9)
    add("compress", k.Compressed, model=holder, masks={}, pruning=None, retraining=None)
    part = {"weights": 4, "kept": 2, "filters": 2, "filters_kept": 2, "columns": 2, "columns_kept": 2, "bits": 4}
    add("compress", k.LayerCompression, name="a", pruned=True, **part)
    add("compress", k.Compression, layers=(k.LayerCompression(name="a", pruned=True, **part),))
    step = k.PruningStep(layers=("a",), ratio=0.5, accuracy=0.5, kept=True, best=True)
    add("compress", k.PackedLayer, name="a", weights=4, kept=2, computed=3)
    add("compress", k.pack_network, model=holder, samples=None, images_at_once=None)
    add("compress", k.PruningStep, **vars(step))
    add("compress", k.ProgressivePruning, model=holder, accuracy=0.5, before=0.6, steps=(step,))
    add("compress", k.Residual, epoch=0, layer="a", constraint="targets", value=0.1)
    rates = k.Rates(largest=0.1)
    add("compress", k.Rates, largest=0.1, law="ramp", ramp_steps=3)
    add("compress", rates.at, "Rates.at", step=1, die=2, seed=0)
    add("compress", k.LostWeights, rates=rates, noise=0.1, seed=0)
    add("compress", k.FrozenStatistics, epoch=0)
    add("compress", k.Distillation, teacher=holder, weight=1.0, temperature=2.0)
    add("compress", k.clip_weights, matrix=matrix, quantile=0.9)
    add("compress", k.FineTuned, model=holder, history=History(**history, selected=0, seconds=(1.0,)))
    # --- sweep
    p = sweep
    add("sweep", p.die_seed, root=1, die=0)
    add("sweep", p.Dies, count=1)
    add("sweep", p.MeanWithin, half_width=0.1)
    add("sweep", p.YieldWithin, target=0.5, half_width=0.1)
    add("sweep", p.Task, network=tiny(), design=DESIGN, images=10, calibration=10, metrics=(), seed=1, tags={"a": 1})
    own = tiny()
    add(
        "sweep",
        p.Subject,
        **{name: getattr(own, name) for name in ("name", "data_set", "model", "images", "labels", "calibration")},
    )
    add(
        "sweep",
        p.collect,
        tasks=[w.task],
        stop=1,
        store=None,
        executor=p.InProcess(),
        progress=False,
        shard=None,
        report=None,
    )
    add("sweep", p.Store, path=str(w.folder / "store.sqlite"), read_only=False)
    add(
        "sweep",
        p.Sweep.loads,
        "Sweep.loads",
        text='network = "digits"\nimages = 2\n[stop]\ntype = "Dies"\ncount = 1\n[design]\ncell = "milo2021"\n',
    )
    add("sweep", p.MeasuredDie, **{name: getattr(w.measured, name) for name in w.measured.__dataclass_fields__})
    add("sweep", p.FailedDie, task="0", die=0, tries=1, reason="ended by SIGKILL", traceback="")
    add("sweep", p.TaskResult, columns=w.result.columns, tags=("a",), stop=p.Dies(count=1), collected=(w.measured,))
    results = p.Results(tasks=(w.result,))
    add("sweep", p.Results, tasks=(w.result,))
    add("sweep", results.to_csv, "Results.to_csv", path=str(w.folder / "out.csv"), every=False)
    add("sweep", results.summary, "Results.summary", confidence=0.95, target=0.5)
    add("sweep", w.result.mean, "TaskResult.mean", confidence=0.95, method="t")
    add("sweep", w.result.yield_, "TaskResult.yield_", target=0.5)
    add("sweep", p.InputClipping, images=3)
    add("sweep", p.MitigationOverhead)
    for measure in (p.Accuracy, p.Cost, p.LayerErrors):
        add("sweep", measure)
    estimate = w.result.mean()
    add(
        "sweep",
        p.CriticalRate,
        rate=0.1,
        low=0.1,
        high=0.2,
        target=0.5,
        confidence=0.95,
        measured=((0.1, estimate),),
        results=results,
    )
    add("sweep", p.Range, low=1, high=4, log=False)
    add("sweep", p.Limit, at_least=0.1, at_most=0.9)
    add("sweep", p.Trial, number=0, values={"a": 1}, task=None, result=None, objectives={}, within=False, reason="")
    means = {"accuracy": estimate, "area_m2": estimate}
    trial = p.Trial(number=0, values={"a": 1}, task=w.task, result=w.result, objectives=means, within=True)
    found = p.SearchResult(trials=(trial,), directions={"accuracy": "maximise", "area_m2": "minimise"})
    add("sweep", p.SearchResult, trials=(trial,), directions={"accuracy": "maximise"})
    add("sweep", found.rows, "SearchResult.rows")
    add("sweep", found.to_csv, "SearchResult.to_csv", path=str(w.folder / "out.csv"))
    asked: dict[str, Any] = {"make_task": lambda values: w.task, "space": {"a": (1, 2)}, "stop": p.Dies(count=1)}
    add("sweep", p.Search, **asked, maximise=("accuracy",), minimise=(), trials=2, sampler="tpe", batch=1, seed=1)
    text = (
        'network = "digits"\nimages = 2\nstop = { type = "Dies", count = 1 }\ndesign = { cell = "milo2021" }\n'
        'search = { maximise = ["accuracy"] }\nfields = { design.mapping.rows = [16, 32] }\n'
    )
    add("sweep", p.Search.loads, "Search.loads", text=text, source="a", folder=".")
    add("sweep", p.Sweep, tasks=(w.task,), stop=p.Dies(count=1), text="")
    # --- plot
    from matplotlib.figure import Figure

    from xbarsim import plot

    add("plot", plot.cell_fit, fit=fitted)
    add("plot", plot.cell_card, card=devices.card("milo2021"))
    add("plot", plot.caption, figure=Figure())
    add("plot", plot.search, found=found, x="area_m2", y="accuracy", names=True)
    add("plot", plot.save_figure, figure=Figure(), path=str(w.folder / "out.svg"))
    add("plot", plot.fault_map, faults=w.faults, tile=0, title="a")
    rows = [
        {"mapping": "a", "rate": rate, "fault_rate": rate, "accuracy": 0.9, "layer": "b"}
        for rate in (0.0, 0.0, 0.1, 0.1)
    ]
    add("plot", plot.accuracy, rows=rows, group="mapping", rate="rate", confidence=0.95)
    add("plot", plot.yield_curve, dies=rows, target=0.5, group="mapping")
    add("plot", plot.die_violins, dies=rows, group="mapping")
    add("plot", plot.layer_sensitivity, dies=rows, baseline=0.95)
    points = [
        {"name": "a", "power_W": 1.0, "area_m2": 1.0, "accuracy": 0.9},
        {"name": "b", "power_W": 2.0, "area_m2": 1.0, "accuracy": 0.95},
    ]
    add("plot", plot.pareto_front, rows=points)
    add("plot", plot.pareto, rows=points, group="name")
    solution = circuit.solve(conductance, np.full(3, 0.1), wires)
    add("plot", plot.circuit, solution=solution)
    calls_of_networks.add_networks(add, w)
    calls_of_networks.add_costs(add, w)
    calls_of_sequences.add_sequences(add, w)
    return calls


class _Anything:
    def __init__(self, *_: Any, **__: Any) -> None:
        pass


def bad_values(w: World) -> dict[str, Any]:
    """Values of every kind that no function wants, by name."""
    cycle: list[Any] = []
    cycle.append(cycle)
    return {
        "None": None,
        "True": True,
        "three": 3,
        "minus one": -1,
        "zero": 0,
        "2**62": 2**62,
        "2**40": 2**40,
        "5,000 digits": 10**5000,
        "1.5": 1.5,
        "NaN": math.nan,
        "inf": math.inf,
        "-inf": -math.inf,
        "-1.0": -1.0,
        "denormal": 5e-324,
        "1e308": 1e308,
        "complex": 1j,
        "empty text": "",
        "text": "nosuch",
        "NUL": "a\0b",
        "surrogate": "\ud800",
        "long text": "x" * 10_000,
        "bytes": b"x",
        "object": object(),
        "list": [],
        "tuple": (),
        "list of objects": [object()],
        "ragged": [[1], [1, 2]],
        "cycle": cycle,
        "dict": {},
        "dict of objects": {1: object()},
        "set": {1},
        "function": lambda *_, **__: 0,
        "class": _Anything,
        # paths
        "pipe": str(w.folder / "pipe"),
        "folder": str(w.folder),
        "/dev/zero": "/dev/zero",
        "/dev/full": "/dev/full",
        "absent": str(w.folder / "absent" / "file"),
        "deep TOML": str(w.folder / "deep.toml"),
        "no npz": str(w.folder / "zeros.npz"),
        "path": w.folder / "pipe",
        # arrays
        "empty array": np.zeros(0),
        "array of NaN": np.full((2, 2), np.nan),
        "array of inf": np.full(3, np.inf),
        "200,000 x 200,000": np.broadcast_to(np.float32(0), (200_000, 200_000)),
        "complex array": np.ones((2, 2), complex),
        "object array": np.array([None, 1]),
        "text array": np.array([["a"]]),
        "big-endian": np.ones((2, 2), ">f8"),
        "masked": np.ma.masked_array([1.0], [True]),
        "9 dimensions": np.ones((1,) * 9),
        "dates": np.array(["2020"], "M8[Y]"),
        "negative strides": np.arange(6.0).reshape(2, 3)[::-1, ::-1],
        "huge integers": np.full((2, 2), 2**63, np.uint64),
        # tensors
        "bfloat16": torch.ones(2, 2, dtype=torch.bfloat16),
        "meta": torch.ones(2, 2, device="meta"),
        "sparse": torch.eye(2).to_sparse(),
        "nested": torch.nested.nested_tensor([torch.ones(1), torch.ones(2)]),
        "gradient": torch.ones(2, 2, requires_grad=True),
        "half": torch.ones(2, 2, dtype=torch.half),
        "empty tensor": torch.ones(0, 2),
        "tensor of NaN": torch.full((2, 2), math.nan),
    }


#: What is not tried, and why.
NOT_TRIED = {("sweep.collect(executor)", "None"): "starts processes", **calls_of_networks.NOT_TRIED}

#: What single parameters take besides what their annotation says.
ALSO = {"devices.FaultMap(value)": "None", "sequences.Sequences.of(sequences)": "ragged"}

#: Of each kind of parameter, the names of the values that might do: these may pass or be refused, all others must be
#: refused. A parameter of several kinds takes what any of them might.
MIGHT_DO: dict[str, str] = {
    "int": "three|minus one|zero|2**62|2**40|5,000 digits",
    "float": "three|minus one|zero|2**62|2**40|5,000 digits|1.5|inf|-inf|-1.0|denormal|1e308",
    "bool": "True",
    "str": "empty text|text|NUL|surrogate|long text|pipe|folder|/dev/zero|/dev/full|absent|deep TOML|no npz",
    "path": "text|long text|pipe|folder|/dev/zero|/dev/full|absent|deep TOML|no npz|path",
    "none": "None",
    "literal": "three|zero",
    "array": (
        "three|minus one|zero|2**62|2**40|1.5|NaN|inf|-inf|-1.0|denormal|1e308|True|list|tuple|empty array|"
        "array of NaN|array of inf|big-endian|negative strides|9 dimensions|huge integers|half|empty tensor|"
        "tensor of NaN"
    ),
    "tensor": "bfloat16|meta|sparse|nested|gradient|half|empty tensor|tensor of NaN",
    "callable": "function|class",
    "sequence": "list|tuple",
    "mapping": "dict",
    "class": "",
}
