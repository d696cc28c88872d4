"""Speed of the engine as a ratio to plain float32 torch.

``python -m xbarsim.experiments.benchmarks [NAME ...] [--json FILE] [--threads N]``

Baseline and candidate run in turns in one process, and medians are compared. A ratio counts only with outputs checked:
against the reference engine bit for bit, in double precision where cells are off the levels, and single against double.
"""

from __future__ import annotations

import json
import math
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import nn

import xbarsim as xb
from xbarsim.compress import mappable_layers
from xbarsim.devices import Cell, Polynomial, ProgrammingError, ReadNoise, StuckFaults
from xbarsim.die import program
from xbarsim.engine import CompiledBackend, Plan, Scaling, Window, largest_conversion, make_plan, reference_multiply
from xbarsim.experiments.benchmarks.peers import peers
from xbarsim.experiments.benchmarks.pruned import RecurrentNet, VGG16Net, block_pruned, float_cases
from xbarsim.experiments.benchmarks.wires import Case, arrays, making_dies, running_dies
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import InputError, write_atomically
from xbarsim.mapping import Differential, MappedMatrix, map_matrix
from xbarsim.mitigation import Diagnosis, PermuteRows

__all__ = ["BENCHMARKS", "Measurement", "machine", "main", "medians", "one_pulse_on_levels", "run"]


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """One line of the table.

    Attributes
    ----------
    name, threads
        What ran, and on how many threads.
    ours, baseline
        Median seconds.
    must, aim
        Ratios to reach, or ``None`` where the figure is only reported.
    check
        What was checked, and the result.
    against
        The baseline, where it is not that of all of a benchmark's lines; :func:`run` fills it in.
    """

    name: str
    threads: int
    ours: float
    baseline: float
    must: float | None
    aim: float | None
    check: str
    against: str = ""

    @property
    def ratio(self) -> float:
        """Ours over baseline."""
        return self.ours / self.baseline


def medians(functions: Sequence[Callable[[], Any]], *, runs: int) -> list[float]:
    """Median seconds of each, run in turns, after one turn that is not counted."""
    times: list[list[float]] = [[] for _ in functions]
    for index in range(runs + 1):
        for each, function in zip(times, functions, strict=True):
            start = time.perf_counter()
            function()
            if index:
                each.append(time.perf_counter() - start)
    return [statistics.median(each) for each in times]


def _compare(ours: Callable[[], Any], baseline: Callable[[], Any], *, runs: int) -> tuple[float, float]:
    """Median seconds of both, the baseline first in each turn."""
    slow, fast = medians([baseline, ours], runs=runs)
    return fast, slow


# 8-bit weights in one pair of 7-bit cells, 8-bit inputs in one pulse, an 8-bit converter for each row tile.
_CELL = Cell(
    name="benchmark",
    g_min=1e-6,
    g_max=100e-6,
    levels=256,
    programming_error=ProgrammingError(
        spread=Polynomial(coefficients=(0.5e-6,), scale=1e-6), valid_from=1e-7, valid_to=1e-3
    ),
)


def _one_pulse(cell: Cell = _CELL) -> xb.Design:
    return xb.Design(
        cell=cell,
        mapping=xb.Mapping(rows=128, columns=128, weight_bits=8, cell_bits=7),
        periphery=xb.Periphery(input_bits=8, dac_bits=8, adc_bits=8),
        faults=StuckFaults(on=0.005, off=0.005),
    )


def one_pulse_on_levels() -> xb.Design:
    """The same with cells on their levels, but for those that are stuck."""
    return _one_pulse(_CELL.without_errors())


def _lossless() -> xb.Design:
    design = one_pulse_on_levels()
    return design.replace(periphery=replace(design.periphery, adc_bits=None, adc_range="lossless"))


def _sound() -> xb.Design:
    """One pulse, and nothing wrong with a cell."""
    return one_pulse_on_levels().replace(faults=StuckFaults(on=0.0, off=0.0))


def _bit_serial() -> xb.Design:
    return xb.Design(
        cell=_CELL.without_errors(),
        mapping=xb.Mapping(rows=128, columns=128, weight_bits=8, cell_bits=2),
        periphery=xb.Periphery(input_bits=8, dac_bits=1, adc_bits=8, adc_range=96.0),
        faults=StuckFaults(on=0.005, off=0.005),
    )


def _die(mapped: MappedMatrix, design: xb.Design, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    return program(mapped.levels, design.cell, design.mapping.cell_bits, rng, faults=design.faults)


def _matrix(design: xb.Design, threads: int, name: str, must: float, aim: float, runs: int) -> Measurement:
    """1152 x 256 weights times 1024 vectors, from activations to activations, against one torch.mm."""
    inputs, outputs, vectors = 1152, 256, 1024
    rng = np.random.default_rng(1)
    weights = rng.normal(0, 25, (inputs, outputs)).round().clip(-127, 127).astype(np.int32)
    activations = rng.gamma(1.0, 30.0, (vectors, inputs)).clip(0, 255).astype(np.float32)
    mapped = map_matrix(weights, design.mapping)
    codes = np.floor(activations.astype(np.float64) + 0.5).astype(np.int64)
    reading, drive = design.reading(mapped), design.drive(signed=False)
    largest = largest_conversion(reading, drive, codes[:64], offset_levels=design.offset_levels)
    converter = design.converter(rows=128, calibrated_range=largest)
    cells = _die(mapped, design, rng)
    plan = make_plan(reading, cells, drive, converter)
    window = Window(kernel=(1, inputs))
    scaling = Scaling(inverse_scale=1.0, low=0, high=255, scale=np.ones(outputs), bias=np.zeros(outputs))
    maps = activations.reshape(vectors, 1, 1, inputs)
    expected = reference_multiply(codes[:32], reading, cells, drive, converter)
    got = plan.run(maps[:32], window, scaling)[0].reshape(32, outputs)  # what is timed: from activations to activations
    check = _check(
        got,
        expected.astype(np.float32),
        plan,
        make_plan(reading, cells, drive, converter, precision="double"),
        codes[:32],
    )
    left, right = torch.from_numpy(activations), torch.from_numpy(weights.astype(np.float32))
    ours, baseline = _compare(lambda: plan.run(maps, window, scaling), lambda: torch.mm(left, right), runs=runs)
    return Measurement(name=name, threads=threads, ours=ours, baseline=baseline, must=must, aim=aim, check=check)


def _check(got: Any, expected: Any, plan: Plan, double: Plan, codes: Any) -> str:
    if np.array_equal(got, expected):
        return f"{plan.name}: equal to the reference, bit for bit"
    if not np.array_equal(double.multiply(codes[np.newaxis])[0].astype(np.float32), expected):
        raise AssertionError(f"plan {plan.name} in double precision differs from the reference")
    worst = float(np.abs(got - expected).max() / np.abs(expected).max())
    moved = float((np.abs(got - expected) > 1e-5 * np.abs(expected).max()).mean())
    if worst > 0.02:
        raise AssertionError(f"plan {plan.name} is {worst:.1e} of full scale away from the reference")
    return (
        f"{plan.name}: double precision equal to the reference bit for bit; single moves {moved:.2%} of the outputs, "
        f"at most by {worst:.1e} of full scale"
    )


def _vgg16() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(1)
    return VGG16Net().eval(), torch.rand(64, 3, 32, 32)


def _resnet20(images: int) -> tuple[nn.Module, torch.Tensor]:
    from xbarsim.models import load_model, load_test_set

    model, _ = load_model("resnet20")
    pictures, _ = load_test_set("resnet20", count=images)
    return model, torch.from_numpy(pictures)


def _liaf(samples: int) -> tuple[nn.Module, torch.Tensor]:
    """Analog neurons over 10 steps of 34 x 34 events, as dense as those of N-MNIST; untrained, for timing only."""
    from xbarsim.models import EventNet

    torch.manual_seed(1)
    return EventNet("relu1", size=34).eval(), (torch.rand(samples, 10, 2, 34, 34) < 0.08).float()


def _network(
    model: nn.Module,
    images: torch.Tensor,
    design: xb.Design,
    threads: int,
    name: str,
    must: float | None,
    aim: float | None,
    runs: int,
    dense: nn.Module | None = None,
) -> Measurement:
    """A whole network against the same network in float32, or against a dense one."""
    network = xb.map_model(model, design, calibration=images[:64])
    chip = network.fabricate(seed=1)
    double = network.fabricate(seed=1, precision="double")
    few = images[:8]
    same = bool(torch.equal(chip(few), double(few)))
    layer = next(iter(chip.layers))
    mapped = network.layers[layer]
    drive = mapped.drive
    codes = np.random.default_rng(2).integers(drive.min_input, drive.max_input + 1, (1, 4, mapped.matrix.shape[0]))
    reference = reference_multiply(codes[0], mapped.reading, chip.layers[layer].cells(), drive, mapped.converter)
    if not np.array_equal(double.layers[layer].plan("double").multiply(codes)[0], reference):
        raise AssertionError(f"layer {layer!r} differs from the reference")
    agree = int((chip(images).argmax(1) == double(images).argmax(1)).sum())
    check = (
        f"{'logits equal' if same else 'logits close'} to double precision; {agree} of {len(images)} classes the same"
    )
    if dense is not None:
        check += f"; {network.tiles} arrays, dense {xb.map_model(dense, design, calibration=images[:64]).tiles}"
    baseline_model = model if dense is None else dense
    with torch.no_grad():
        ours, baseline = _compare(lambda: chip(images), lambda: baseline_model(images), runs=runs)
    return Measurement(name=name, threads=threads, ours=ours, baseline=baseline, must=must, aim=aim, check=check)


def _recurrent() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(1)
    return RecurrentNet().eval(), torch.randn(32, 20, 256)


def _pruned_networks(threads: int) -> list[Measurement]:
    """Networks with block-column-row pruning without their zeros, in float32, against the same networks dense."""
    networks = {
        "vgg16": (_vgg16, 64, 32),
        "resnet20": (lambda: _resnet20(256), 16, 64),
        "gru": (_recurrent, 64, None),
    }
    found = []
    for case in float_cases(networks, (2, 4, 8, 16)):
        ours, baseline = _compare(case.ours, case.dense, runs=7)
        must = 0.25 if case.name.endswith("-8x") else None
        found.append(
            Measurement(
                name=case.name, threads=threads, ours=ours, baseline=baseline, must=must, aim=None, check=case.check
            )
        )
    return found


def _pruned_dies(threads: int) -> list[Measurement]:
    """Dies of networks with block-column-row pruning, whose zeros take no cells, against the networks dense in torch.

    Each block of as many outputs as a tile has keeps its own share of the rows, of the largest norm; the first and the
    last layer stay dense.
    """
    design = _one_pulse()
    packed = design.replace(mapping=replace(design.mapping, pack="block"))
    found = []
    for name, (model, images), rates in (("vgg16", _vgg16(), (2, 4, 8, 16)), ("resnet20", _resnet20(256), (2, 8))):
        for rate in rates:
            layers = tuple(mappable_layers(model))[1:-1]
            pruned = block_pruned(model, rate, filters=packed.mapping.outputs_per_tile, layers=layers)
            title = f"{name}-bcr-{rate}x-die"
            found.append(_network(pruned, images, packed, threads, title, None, None, runs=5, dense=model))
    return found


def _noisy_network(threads: int) -> Measurement:
    """A die whose cells have read noise of 1 % of their conductance, against the same die without."""
    law = ReadNoise(spread=Polynomial(coefficients=(0.0, 0.01), scale=1.0), valid_from=1e-7, valid_to=1e-3)
    noisy = replace(_CELL, read_noise=law)
    model, images = _resnet20(256)
    quiet = xb.map_model(model, _one_pulse(), calibration=images[:64]).fabricate(seed=1)
    network = xb.map_model(model, _one_pulse(noisy), calibration=images[:64])
    chip, double = network.fabricate(seed=1), network.fabricate(seed=1, precision="double")
    layers = list(double.layers)
    for name in (layers[0], layers[-1]):
        layer = double.layers[name]
        reading, drive, cells = layer.reading, layer.drive, layer.cells()
        noise = layer.noise(cells)
        assert noise is not None
        codes = np.random.default_rng(2).integers(drive.min_input, drive.max_input + 1, (1, 4, reading.matrix.shape[0]))
        reads = reading.reads * drive.row_group_count(reading.matrix.mapping.rows)
        normals = noise.normals(9, (4, drive.passes, drive.planes, reading.matrix.tiles, reads))
        expected = reference_multiply(
            codes[0], reading, cells, drive, layer.converter, noise_spread=noise.spread, normals=normals
        )
        if not np.array_equal(layer.plan("double").multiply(codes, first_image=9)[0], expected):
            raise AssertionError(f"layer {name!r} differs from the reference with the same draws")
    few = images[:32]
    if not torch.equal(chip(few, first_image=40)[5:], chip(few[5:], first_image=45)):
        raise AssertionError("noise depends on the batch")
    same = float((chip(few, first_image=0).argmax(1) == double(few, first_image=0).argmax(1)).float().mean())
    ours, baseline = _compare(lambda: chip(images), lambda: quiet(images), runs=7)
    return Measurement(
        name="resnet20-noise",
        threads=threads,
        ours=ours,
        baseline=baseline,
        must=2.5,
        aim=1.5,
        check="first and last layer in double precision equal to the reference with the same draws, bit for bit; "
        f"{same:.0%} of 32 classes as in double precision",
    )


def _fabricate(threads: int) -> Measurement:
    """One VGG-16 die with faults and programming error, against copying the weights once."""
    model, images = _vgg16()
    network = xb.map_model(model, _one_pulse(), calibration=images[:16])
    weights = [p.detach() for p in model.parameters()]
    ours, baseline = _compare(lambda: network.fabricate(seed=1), lambda: [weight.clone() for weight in weights], runs=3)
    cells = sum(mapped.matrix.levels.size for mapped in network.layers.values())
    peak = _peak_memory()
    return Measurement(
        name="fabricate-vgg16",
        threads=threads,
        ours=ours,
        baseline=baseline,
        must=None,
        aim=None,
        check=f"{cells / 1e6:.0f} M cells; peak memory of the process {peak:.2f} GiB",
    )


def _repair(threads: int) -> Measurement:
    """A VGG-16 die with 10 % of its cells stuck, every tile's rows on their best lines, against the die left alone."""
    model, images = _vgg16()
    design = _one_pulse().replace(mapping=replace(_one_pulse().mapping, encoding=Differential()))
    faults = StuckFaults(on=0.084, off=0.016)
    network = xb.map_model(model, design.replace(faults=faults), calibration=images[:16])
    methods, diagnosis = (PermuteRows(),), Diagnosis(coverage=0.99, false_alarm=0.001)
    ours, baseline = _compare(
        lambda: network.fabricate(seed=1, mitigations=methods, diagnosis=diagnosis),
        lambda: network.fabricate(seed=1),
        runs=1,
    )
    table = network.fabricate(seed=1, mitigations=methods, diagnosis=diagnosis).mitigations
    before, after, signal = (math.fsum(getattr(tile, name) for tile in table.tiles) for name in _POWERS)
    if not after < 0.1 * before:
        raise AssertionError(f"the repair left {after / signal} of {before / signal}")
    return Measurement(
        name="repair",
        threads=threads,
        ours=ours,
        baseline=baseline,
        must=None,
        aim=None,
        check=f"{network.tiles} arrays, 10 % stuck, 99 % found, rows permuted exactly: error power over signal "
        f"{before / signal:.3f} to {after / signal:.4f}; peak memory of the process {_peak_memory():.2f} GiB",
    )


_POWERS = ("before", "after", "signal")


def _peak_memory() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _import(threads: int) -> Measurement:
    def start(what: str) -> Callable[[], Any]:
        return lambda: subprocess.run([sys.executable, "-c", f"import {what}"], check=True)

    ours, baseline = _compare(start("xbarsim"), start("numpy"), runs=5)
    return Measurement(
        name="import", threads=threads, ours=ours, baseline=baseline, must=None, aim=None, check="whole processes"
    )


def _sweep(threads: int) -> list[Measurement]:
    """A short sweep and one of twice as many images a die: what starting costs weighs half as much there."""
    from xbarsim.experiments.benchmarks.overhead import sweep_overhead

    made = []
    for name, images in (("sweep", 500), ("sweep-1000", 1000)):
        total, inference, check = sweep_overhead(_one_pulse(), workers=threads, images=images)
        made.append(
            Measurement(
                name=name, threads=threads, ours=total, baseline=inference, must=1 / 0.92, aim=1 / 0.96, check=check
            )
        )
    return made


def _warping(threads: int) -> Measurement:
    """Dynamic time warping of all pairs against an established package, on one thread, whatever `threads` says."""
    from xbarsim.experiments.benchmarks.sequences import all_pairs

    xb.set_threads(1)
    ours, baseline, against, check = all_pairs()
    fast, slow = _compare(ours, baseline, runs=7)
    aim = None if baseline is ours else 1.0
    return Measurement(
        name="dtw", threads=1, ours=fast, baseline=slow, must=None, aim=aim, check=check, against=against
    )


def _on_device(threads: int) -> list[Measurement]:
    """ResNet-20 dies on the best device that torch has here, against the compiled kernels on the same machine."""
    from xbarsim.experiments.benchmarks.device import device_rates

    designs = {"tiled": one_pulse_on_levels(), "exact": _lossless(), "bitplane": _bit_serial()}
    return [Measurement(**vars(rate), threads=threads, must=None) for rate in device_rates(designs)]


_ONE_THREAD = ("dtw", "irdrop")  # always on one thread


def _timed(case: Case, threads: int) -> Measurement:
    ours, baseline = _compare(case.ours, case.baseline, runs=case.runs)
    return Measurement(
        name=case.name, threads=threads, ours=ours, baseline=baseline, must=case.must, aim=case.aim, check=case.check,
        against=case.against,
    )  # fmt: skip


def _voltage_drop(threads: int) -> list[Measurement]:
    """Arrays with wires against solvers of the whole circuit; on one thread, whatever `threads` says."""
    xb.set_threads(1)
    return [_timed(case, 1) for case in arrays()]


BENCHMARKS: dict[str, tuple[str, Callable[[int], Measurement | list[Measurement]]]] = {
    "matmul": (
        "torch.mm",
        lambda threads: _matrix(_one_pulse(), threads, "matmul", 1.1, 0.9, runs=31),
    ),
    "resnet20": (
        "torch network",
        lambda threads: _network(*_resnet20(256), _one_pulse(), threads, "resnet20", 1.3, 1.0, runs=7),
    ),
    "vgg16": (
        "torch network",
        lambda threads: _network(*_vgg16(), _one_pulse(), threads, "vgg16", 1.1, 0.9, runs=5),
    ),
    "resnet20-exact": (
        "torch network",
        lambda threads: _network(*_resnet20(256), _lossless(), threads, "resnet20-exact", 0.8, 0.4, runs=7),
    ),
    "vgg16-exact": (
        "torch network",
        lambda threads: _network(*_vgg16(), _lossless(), threads, "vgg16-exact", 0.8, 0.4, runs=5),
    ),
    "bitserial": (
        "torch.mm",
        lambda threads: _matrix(_bit_serial(), threads, "bitserial", 4.0, 2.0, runs=15),
    ),
    "resnet20-bitserial": (
        "torch network",
        lambda threads: _network(*_resnet20(64), _bit_serial(), threads, "resnet20-bitserial", 4.0, 2.0, runs=5),
    ),
    "liaf": (
        "torch network",
        lambda threads: _network(*_liaf(64), _one_pulse(), threads, "liaf", None, 1.0, runs=5),
    ),
    "bcr": ("dense torch network", _pruned_networks),
    "bcr-die": ("dense torch network", _pruned_dies),
    "resnet20-noise": ("noise-free die", _noisy_network),
    "resnet20-wires": (
        "ideal wires",
        lambda threads: _timed(running_dies(*_resnet20(1000), one_pulse_on_levels()), threads),
    ),
    "fabricate-vgg16": ("copying the weights", _fabricate),
    "fabricate-vgg16-wires": (
        "ideal wires",
        lambda threads: _timed(making_dies(*_vgg16(), one_pulse_on_levels()), threads),
    ),
    "repair": ("the die left alone", _repair),
    "import": ("import numpy", _import),
    "irdrop": ("circuit solvers", _voltage_drop),
    "sweep": ("its inference alone", _sweep),
    "peers": (
        "another simulator",
        lambda threads: [_timed(case, threads) for case in peers(*_resnet20(64), _sound())],
    ),
    "dtw": ("an established package", _warping),
    "gpu": ("compiled kernels", _on_device),
}


def run(names: list[str], threads: list[int]) -> list[Measurement]:
    """Measure some benchmarks, on each number of threads.

    Raises
    ------
    InputError
        If a name is no benchmark.
    """
    for name in names:
        if name not in BENCHMARKS:
            raise InputError(f"name must be one of {', '.join(BENCHMARKS)}, got {name!r}")
    measured = []
    for name in names:
        for count in threads:
            if name in _ONE_THREAD and count != threads[-1]:
                continue
            xb.set_threads(count)
            result = BENCHMARKS[name][1](count)
            for each in result if isinstance(result, list) else [result]:
                measured.append(replace(each, against=each.against or BENCHMARKS[name][0]))
    return measured


def machine() -> str:
    """What a figure was measured on: processor, versions and instruction set."""
    model = platform.processor() or platform.machine()
    path = Path("/proc/cpuinfo")
    if path.exists():
        named = [
            line.split(":", 1)[1].strip() for line in path.read_text().splitlines() if line.startswith("model name")
        ]
        model = named[0] if named else model
    return f"{model}, torch {torch.__version__}, numpy {np.__version__}, {CompiledBackend()}"


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Benchmarks to run; all by default.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the figures here.")] = None,
    threads: Annotated[list[int] | None, typer.Option(help="Numbers of threads.")] = None,
) -> None:
    """Time the engine against plain float32 torch."""
    rows = run(names or list(BENCHMARKS), threads or [2, 1])
    table = [
        (
            m.name,
            m.threads,
            f"{1e3 * m.ours:.2f}",
            f"{1e3 * m.baseline:.2f}",
            m.against,
            f"{m.ratio:.2f}" if m.ratio >= 0.1 else f"1/{1 / m.ratio:.0f}",
            "-" if m.must is None else f"{m.must:g}" if m.must >= 0.1 else f"1/{1 / m.must:.0f}",
            "-" if m.aim is None else f"{m.aim:g}",
        )
        for m in rows
    ]
    header = ("name", "threads", "ours (ms)", "baseline (ms)", "baseline", "ratio", "must", "aim")
    typer.echo(format_table(header, table))
    for m in rows:
        typer.echo(f"{m.name} ({m.threads} threads): {m.check}")
    typer.echo(machine())
    if json_file is not None:
        content = {"machine": machine(), "measurements": [vars(m) | {"ratio": m.ratio} for m in rows]}
        write_atomically(json_file, json.dumps(content, indent=2).encode())
