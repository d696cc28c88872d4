"""Good calls of networks and their cost; see ``tests/calls.py``."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from xbarsim import compress, cost, network, plot
from xbarsim.engine import TorchBackend
from xbarsim.mitigation import ClosestValue, Diagnosis
from xbarsim.network import layers, lowered, onnx
from xbarsim.network.samples import Samples

Add = Callable[..., None]

#: What is not tried, and why.
NOT_TRIED = {("network.layer_page(support)", "None"): "maps every type of layer, for seconds"}

#: Public names that are not called, and why.
EXCLUDED = {
    **dict.fromkeys(
        ["Adc", "InputRange", "LayerAdapter", "Lowering", "ProductFunction", "Skeleton"], "an abstract base"
    ),
    **dict.fromkeys(["ClippingWarning", "NotMappedWarning"], "a warning that the library raises"),
    **dict.fromkeys(
        ["Call", "ClippedInputs", "CrossbarLayer", "DigitalLayer"],
        "made anew, or run, at each use of a layer: what comes to it is checked once, where the network is called",
    ),
    **dict.fromkeys(
        [
            "Actions",
            "Change",
            "Comparison",
            "ComponentCost",
            "ComponentEnergy",
            "Deltas",
            "Graph",
            "GraphSkeleton",
            "LayerCost",
            "LayerWork",
            "Peak",
            "Sources",
        ],
        "a record that only the library makes",
    ),
    "Replication": "the name of a type",
    **dict.fromkeys(
        [
            "LargestInput",
            "LeastSquaredError",
            "adc_names",
            "digital_names",
            "hardware_names",
            "layer_support",
            "supported_operations",
        ],
        "takes nothing",
    ),
}


class _TakesNothingApart(network.Lowering):
    handles = nn.Bilinear

    def lower(self, module: Any) -> nn.Module:
        return nn.Identity()


def _register(entry: network.Lowering | network.ProductFunction) -> None:
    network.register(entry).remove()


def write_onnx(path: Path) -> None:
    """A network of one product, and what follows it."""
    import onnx as files
    from onnx import TensorProto, helper, numpy_helper

    weights = numpy_helper.from_array(np.linspace(-1, 1, 12, dtype=np.float32).reshape(4, 3), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="fc"), helper.make_node("Relu", ["y"], ["z"], name="relu")],
        "walk",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [None, 4])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, [None, 3])],
        initializer=[weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    files.save_model(model, str(path))


def add_networks(add: Add, w: Any) -> None:
    """Calls of `xbarsim.network`."""
    n = network
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2)).eval()
    samples = np.linspace(0, 1, 24, dtype=np.float32).reshape(6, 4)
    labels = np.array([0, 1, 0, 1, 0, 1])
    path = w.folder / "network.onnx"
    write_onnx(path)
    add("network", n.map_model, model=model, design=w.design, calibration=samples, ranges="max", rescale=None)
    add("network", n.map_onnx, path=str(path), design=w.design, calibration=samples, ranges="max", rescale=None)
    add("network", onnx.lower_file, path=str(path), design=w.design, samples=Samples.of(samples))
    add("network", onnx.read_graph, path=str(path))
    mapped = n.map_model(model, w.design, calibration=samples)
    chip = mapped.fabricate(seed=1)
    parts = {name: getattr(mapped, name) for name in ("design", "lowered", "layers", "image_shape", "orders", "probe")}
    add("network", n.MappedNetwork, **parts)
    placed = {name: getattr(mapped, name) for name in ("design", "skeleton", "layers", "image_shape")}
    add("network", n.PlacedNetwork, **placed)
    making: dict[str, Any] = {"faults": None, "mitigations": (), "diagnosis": None, "precision": "single"}
    add("network", mapped.fabricate, "MappedNetwork.fabricate", seed=1, **making)
    add("network", mapped.with_faults, "MappedNetwork.with_faults", faults=None)
    add("network", mapped.save, "MappedNetwork.save", path=str(w.folder / "network.safetensors"))
    add("compress", compress.weight_prices, report=mapped.cost(read_voltage=0.2), model=model)
    add("network", mapped.cost, "MappedNetwork.cost", hardware="isaac2016", data=True, read_voltage=0.2)
    saved = w.folder / "saved.safetensors"
    mapped.save(saved)
    add("network", n.MappedNetwork.load, "MappedNetwork.load", path=str(saved), model=model)
    first = next(iter(mapped.layers))
    layer = mapped.layers[first]
    add("network", n.MappedLayer, **{f.name: getattr(layer, f.name) for f in dataclasses.fields(layer)})
    cells = layer.matrix.levels.astype(np.float32)
    add("network", layer.cells_power, "MappedLayer.cells_power", cells=cells, design=w.design, read_voltage=0.2)
    storage = n.LayerStorage(layer="a", weights=4, kept=2, arrays=1, cells_used=0.5, index_bits=8, csr_bits=12)
    add("network", n.LayerStorage, **vars(storage))
    add("network", n.StorageTable, layers=(storage,))
    add("network", n.PlanTable, rows=(("a", "b", "c"),))
    add("network", n.Network, skeleton=mapped.skeleton, layers=None)
    add("network", lambda images: mapped.digital(images), "Network.call", images=samples)

    # --- dies
    def run(images: Any, first_image: int | None) -> Any:
        return chip(images, first_image=first_image)

    add("network", n.Chip, network=mapped, seed=1, **making, seconds=0.0, fabricated=None, backend=None)
    add("network", run, "Chip.call", images=samples, first_image=0)
    add("network", chip.at, "Chip.at", seconds=0.0)
    add("network", chip.save, "Chip.save", path=str(w.folder / "chip.safetensors"))
    chip.save(w.folder / "die.safetensors")
    add("network", n.Chip.load, "Chip.load", path=str(w.folder / "die.safetensors"), model=model)
    add("network", chip.report, "Chip.report", images=samples, batch_size=3, clipping=0.5)
    add("network", chip.activity, "Chip.activity", images=samples, batch_size=3)
    table = chip.activity(samples)
    add("network", network.ActivityTable, layers=dict(table.layers), samples=3)
    add("network", chip.cost, "Chip.cost", hardware="isaac2016", read_voltage=0.2, activity=table)
    add("network", chip.tile, "Chip.tile", layer=first, tile=0)
    add("network", chip.solve, "Chip.solve", layer=first, tile=0, voltages=np.full(4, 0.1), law=None)
    add("network", chip.to, "Chip.to", device="cpu")
    add("network", chip.with_backend, "Chip.with_backend", backend=TorchBackend())
    add(
        "network",
        n.DieBatch,
        network=mapped,
        seeds=[1, 2],
        backend=None,
        mitigations=(),
        diagnosis=None,
        precision="single",
    )
    dies = n.DieBatch(mapped, [1, 2])
    add("network", lambda images: dies(images), "DieBatch.call", images=samples)
    repaired = mapped.fabricate(seed=1, mitigations=(ClosestValue(),), diagnosis=Diagnosis())
    add("plot", plot.mitigation, chip=repaired, layer=first, tile=0)
    add("plot", plot.noise_to_signal, table=repaired.mitigations)
    page = str(w.folder / "tiles.html")
    add("plot", plot.tile_explorer, die=chip, path=page, title="a", most_bytes=10**6)
    matrix = np.array([[1.0, -0.5], [0.25, 0.5], [0.0, 1.0]])
    making.pop("faults")
    add(
        "network", n.Crossbar, weights=matrix, design=w.design, seed=1, calibration=matrix.T, faults=None, **making,
        seconds=0.0,
    )  # fmt: skip
    crossbar = n.Crossbar(matrix, w.design, seed=1, calibration=matrix.T)
    add("network", crossbar.multiply, "Crossbar.multiply", x=matrix.T, first_vector=0)
    add("network", crossbar.digital, "Crossbar.digital", x=matrix.T)
    add("network", crossbar.save, "Crossbar.save", path=str(w.folder / "matrix.safetensors"))
    crossbar.save(w.folder / "crossbar.safetensors")
    add("network", n.Crossbar.load, "Crossbar.load", path=str(w.folder / "crossbar.safetensors"))
    add("network", crossbar.report, "Crossbar.report", x=matrix.T, clipping=0.5)
    add("network", crossbar.cost, "Crossbar.cost", hardware="isaac2016", read_voltage=0.2)
    add("network", crossbar.tile, "Crossbar.tile", tile=0)
    add("network", crossbar.solve, "Crossbar.solve", tile=0, voltages=np.array([0.1, 0.1, 0.1, 0.0]), law=None)

    # --- samples and answers
    measuring: dict[str, Any] = {"metric": "accuracy", "batch_size": 3, "first_image": 0, "progress": False}
    add("network", n.evaluate, model=chip, images=samples, labels=labels, **measuring)
    add("network", n.evaluate, "evaluate of torch", model=model, images=samples, labels=labels, **measuring)
    made = n.evaluate(chip, samples, labels, progress=False)
    add("network", n.Evaluation, **{f.name: getattr(made, f.name) for f in dataclasses.fields(made)})
    add("network", made.interval, "Evaluation.interval", confidence=0.95)
    add("network", lambda value: Samples.of(value), "Samples.of", value=samples)
    add("network", n.Percentile, percent=99.0)
    add("network", n.MovingAverage, momentum=0.9)
    add("network", n.Rescale, strength=0.5)
    add("network", n.keep_state, state=torch.ones(2, 3))
    # --- what networks are made of
    product = next(iter(mapped.lowered.products.values()))
    add("network", n.Product, **{f.name: getattr(product, f.name) for f in dataclasses.fields(product)})
    add("network", lowered.GivenCodes, codes=np.ones((2, 2), np.int32), scale=np.ones(2))
    add("network", n.NotMapped, name="a", kind="b", parameters=3, reason="c")
    low = mapped.lowered
    add("network", n.Lowered, **{f.name: getattr(low, f.name) for f in dataclasses.fields(low)})
    add("network", low.without, "Lowered.without", reasons={first: "a"})
    quantised = layer.layer
    add("network", n.QuantisedLayer, **{f.name: getattr(quantised, f.name) for f in dataclasses.fields(quantised)})
    add("network", layers.LinearAdapter, features=3)
    add("network", layers.Conv1dAdapter, channels=3)
    add("network", layers.Conv2dAdapter, channels=3)
    add("network", layers.Conv3dAdapter, channels=3, kernel=2, stride=1, dilation=1, padding=(0, 0))
    add("network", layers.TransposedAdapter, channels=3, stride=(1, 1), edges=(0, 0, 0, 0), dimensions=2)
    add("network", _register, "register", entry=_TakesNothingApart())
    error = n.LayerError(layer="a", own=0.1, total=0.1)
    add("network", n.LayerError, **{f.name: getattr(error, f.name) for f in dataclasses.fields(error)})
    add("network", n.ErrorReport, layers=(error,), images=1, tiles=(), notes=())
    add("network", n.LayerSupport, name="Linear", status="mapped", products=1, remark="")
    add("network", n.layer_page, support=(n.LayerSupport(name="Linear", status="mapped"),))


def add_costs(add: Add, w: Any) -> None:
    """Calls of `xbarsim.cost`."""
    c = cost
    card = c.Hardware.load("isaac2016")
    table = c.AdcCard.load(c.adc_names()[0])
    prices = c.DigitalCard.load(c.digital_names()[0])
    sizes: dict[str, Any] = {
        "arrays": 2, "rows": 128, "columns": 128, "adc_bits": 8, "dac_bits": 1, "reads_per_vector": 16,
        "macs_per_vector": 4096, "vectors_per_image": 1, "cells_power": 0.1, "driven_rows": 100, "inputs": 128,
        "input_bits": 8, "copies": 1, "spare_columns": 0, "columns_per_adc": 8,
    }  # fmt: skip
    shares = {"inputs": 0.5, "drives": 0.25, "reads": 0.5, "conversions": 0.5, "steps": 1.0}
    add("cost", c.Activity, **shares)
    add("cost", c.LayerUse, name="a", **sizes, activity=c.Activity(**shares), skip_idle=True)
    use = c.LayerUse(name="a", **sizes)
    digital = c.DigitalUse(name="a", kind="b", elementwise=3)
    add("cost", c.DigitalUse, **{f.name: getattr(digital, f.name) for f in dataclasses.fields(digital)})
    add(
        "cost", c.estimate, uses=[use], hardware=card, level=None, sharing="whole", digital=(digital,), remarks=("a",)
    )  # fmt: skip
    report = c.estimate([use], card)
    add("cost", report.workload, "CostReport.workload", replication="none", pipelined=True)
    add("cost", report.to_rows, "CostReport.to_rows", by="part")
    add("cost", report.to_frame, "CostReport.to_frame", by="part")
    add("cost", c.run_workload, peak=report, replication="none", pipelined=True)
    add("cost", report.workload().to_rows, "Workload.to_rows", by="part")
    add("cost", report.workload().to_frame, "Workload.to_frame", by="part")
    add("cost", c.replicate, uses=[use], hardware=card, arrays=8)
    add("cost", c.compare, before=report, after=report, names=("a", "b"))
    add("cost", c.totals, hardware=card, level=card.counted_to, units=1)
    add("cost", c.compare_published, hardware=card)
    add("cost", c.parse_unit, unit="mW")
    add("cost", c.Amount, value=1.0, unit="mW")
    add("cost", c.SourcedValue, **vars(card.read_time))
    add("cost", c.Series, values=(1.0, 2.0), unit="pJ", origin="assumed", source="a")
    add("cost", c.Reference, **vars(card.references[0]))
    add("cost", c.Hardware, **vars(card))
    add("cost", c.Hardware.load, "Hardware.load", name_or_path="isaac2016")
    add("cost", card.with_adc, "Hardware.with_adc", adc=table)
    add("cost", card.with_digital, "Hardware.with_digital", digital=prices)
    add("cost", card.level_index, "Hardware.level_index", level=card.counted_to)
    add("cost", card.arrays_per, "Hardware.arrays_per", level=card.counted_to)
    add("cost", card.time_per_read, "Hardware.time_per_read", columns=128)
    add("cost", c.Level, **vars(card.levels[-1]))
    add("cost", c.Component, **vars(card.levels[0].components[0]))
    add("cost", c.ReferenceArray, **vars(card.array))
    add("cost", c.Published, **vars(card.published[0]))
    add("cost", c.AdcCard, **vars(table))
    add("cost", c.AdcCard.load, "AdcCard.load", name_or_path=c.adc_names()[0])
    rates = {"rate": card.adc.rate, "nameplate_rate": card.adc.rate} if card.adc is not None else {}
    add("cost", table.at, "AdcCard.at", **rates)
    for kind in (c.AdcTable, c.AdcRegression):
        found = next(
            adc for adc in (card.adc, *(c.AdcCard.load(name).adc for name in c.adc_names())) if isinstance(adc, kind)
        )
        add("cost", kind, **vars(found))
        add("cost", found.energy_per_conversion, f"{kind.__name__}.energy_per_conversion", bits=8)
        add("cost", found.area_each, f"{kind.__name__}.area_each", bits=8)
    add("cost", c.DigitalCard, **vars(prices))
    add("cost", c.DigitalCard.load, "DigitalCard.load", name_or_path=c.digital_names()[0])
    add("cost", c.DigitalPrices, **vars(prices.digital))
    add("cost", prices.digital.energy, "DigitalPrices.energy", operation="elementwise", node=32e-9)
