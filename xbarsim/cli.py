"""The command line: ``xbarsim demo``, ``xbarsim info``, ``xbarsim evaluate``.

Nothing heavy is loaded before a command needs it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

import xbarsim
from xbarsim.foundation.validation import FileFormatError, FileWriteError, InputError, check_integer, prepare_folder

if TYPE_CHECKING:
    from xbarsim.design import Design
    from xbarsim.devices import Polynomial

__all__ = ["app", "main"]

_BAD_INPUT, _MISSING_DATA, _CANNOT_WRITE, _INTERRUPTED = 2, 3, 4, 130
_EXIT_CODES = (
    "Exit codes: 0 done; 2 wrong usage or input; 3 data, or a package that brings them, is missing; "
    "4 a result cannot be written; 130 interrupted."
)
_MOST_WORKERS = 4  # each loads torch: some 400 MB

app = typer.Typer(
    name="xbarsim",
    help="Accuracy, power and area of neural networks on faulty resistive-memory crossbars.",
    epilog=_EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Turn what a user can cause into one line on standard error and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        _fail("interrupted", _INTERRUPTED)
    except FileWriteError as error:
        _fail(error.strerror or str(error), _CANNOT_WRITE)
    except (FileNotFoundError, ImportError) as error:
        _fail(str(error), _MISSING_DATA)
    except (InputError, FileFormatError) as error:
        _fail(str(error), _BAD_INPUT)


def _fail(message: str, code: int) -> None:
    Console(stderr=True).print(f"xbarsim: {message}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xbarsim {xbarsim.__version__}")
        raise typer.Exit


@app.callback()
def _xbarsim(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def _cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


# ------------------------------------------------------------------------------------------------ demo


@app.command(epilog=_EXIT_CODES)
def demo(
    output: Annotated[Path, typer.Option(help="Folder for the results; made if it does not exist.")] = Path("demo"),
    dies: Annotated[int | None, typer.Option(help="Dies at each point (20, or 3 with --quick).")] = None,
    seed: Annotated[int, typer.Option(help="Root of the dies' seeds.")] = 1,
    quick: Annotated[bool, typer.Option("--quick", help="Three fault rates and few dies, in some seconds.")] = False,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes to share the work (one a core, 4 at most); changes no result."),
    ] = None,
) -> None:
    """Measure a small network on crossbars with stuck cells, under three mappings.

    Prints accuracy, power and area, and writes results.csv (one row a die), summary.csv (one row a point) and
    accuracy.png.
    """
    with _one_line_errors():
        from xbarsim import demo as demonstration

        dies = (3 if quick else 20) if dies is None else dies
        workers = min(_cores(), _MOST_WORKERS) if workers is None else workers
        for name, value, least in (("dies", dies, 1), ("seed", seed, 0), ("workers", workers, 1)):
            check_integer(name, value, at_least=least)  # before a folder is made for the results
        folder = prepare_folder(output)
        rates = (0.0, 0.01, 0.1) if quick else demonstration.RATES
        result = demonstration.run_demo(dies=dies, seed=seed, rates=rates, workers=workers)
        console = Console()
        for table in result.tables():
            console.print(table)
        _lines(console, result.notes(), "note: ")
        for path in result.save(folder):
            typer.echo(f"wrote {path}")


def _lines(console: Console, lines: Iterable[object], start: str = "") -> None:
    """Print plain text, one line each, left to the terminal to wrap so that it can be copied."""
    for line in lines:
        console.print(f"{start}{line}", markup=False, highlight=False, soft_wrap=True)


# ------------------------------------------------------------------------------------------------ info


class Topic(StrEnum):
    """What ``xbarsim info`` can list."""

    devices = "devices"
    encodings = "encodings"
    networks = "networks"
    components = "components"
    faults = "faults"


def _show(
    console: Console, title: str, header: Iterable[str], rows: Iterable[Iterable[object]], *, right: int | None = None
) -> None:
    """Print a table under its title; the column `right` is flush right."""
    from rich.text import Text

    console.print(Text(title, style="bold"), soft_wrap=True)
    table = Table()
    for index, name in enumerate(header):
        table.add_column(name, justify="right" if index == right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(value)) for value in row))
    console.print(table)


def _source(source: str, doi: str | None) -> str:
    """A citation, with its DOI where the text does not hold it yet."""
    return f"source: {source}" if doi is None or doi in source else f"source: {source} doi:{doi}"


def _law(law: Polynomial) -> str:
    """A polynomial of the conductance as text, in uS."""
    from math import isfinite

    terms: list[str] = []
    for order, coefficient in enumerate(law.coefficients):
        factor = 1e6 * coefficient / (1e6 * law.scale) ** order
        power = "" if order == 0 else " g" if order == 1 else f" g^{order}"
        sign = "-" if factor < 0 else "+" if terms else ""
        terms.append(f"{sign}{' ' if terms else ''}{abs(factor):.4g}{power}")
    text = " ".join(terms)
    return f"{text}, at least {1e6 * law.minimum:g}" if isfinite(law.minimum) else text


def _info_devices(console: Console) -> None:
    from xbarsim.devices import Drift, NoiseModel, Quantity, ReadNoise, card, cell_names

    for name in cell_names():
        found = card(name)
        rows: list[tuple[str, ...]] = []
        notes: list[str] = []
        for key, quantity in found.values().items():
            label = key.replace("_", " ") if not key.startswith("g_") else key
            if quantity.note:
                notes.append(f"{label}: {quantity.note}")
            if isinstance(quantity, Quantity):
                value = 1e6 * quantity.value if quantity.unit == "S" else quantity.value
                unit = "uS" if quantity.unit == "S" else quantity.unit
                rows.append((label, f"{value:g}", unit, quantity.origin))
                continue
            law = quantity.value
            if isinstance(law, Drift):
                rows.append((label, str(law), "", quantity.origin))
                some = [found.cell().g_min, (found.cell().g_min + found.cell().g_max) / 2, found.cell().g_max]
                for g, mean, spread in zip(some, *law.moments(some, law.longest), strict=True):
                    moved = f"{1e6 * mean:+.3g} +- {1e6 * spread:.3g}"
                    what = "error" if law.needs_programming else "change"
                    about = f"{label}, {what} at {1e6 * g:.3g} uS after {law.longest:g} s"
                    rows.append((about, moved, "uS", quantity.origin))
                continue
            if isinstance(law, NoiseModel) and not isinstance(law, ReadNoise):
                rows.append((label, str(law), "SI", quantity.origin))
                continue
            rows.append((f"{label}, spread", _law(law.spread), "uS (g in uS)", quantity.origin))
            bias = getattr(law, "bias", None)
            if bias is not None:
                rows.append((f"{label}, bias", _law(bias), "uS (g in uS)", quantity.origin))
        _show(console, f"{name}: {found.description}", ("quantity", "value", "unit", "origin"), rows)
        _lines(console, [*notes, _source(found.source, found.doi), ""])


def _info_encodings(console: Console) -> None:
    from xbarsim.mapping import ENCODINGS, Mapping

    weight_bits, cell_bits = Mapping().weight_bits, Mapping().cell_bits
    largest = Mapping().max_weight
    rows = []
    about = []
    for name, kind in ENCODINGS.items():
        encoding = kind()
        what, _, references = (inspect.getdoc(kind) or "").partition("References\n----------\n")
        about.append(f"{name}: {' '.join(what.partition('Examples')[0].partition('Parameters')[0].split())}")
        if references:
            about.append(_source(" ".join(references.partition("\n\n")[0].removeprefix(".. [1]").split()), None))
        held = (encoding.encode([code], weight_bits, cell_bits)[0].tolist() for code in (0, largest, -largest))
        cells = encoding.slice_count(weight_bits, cell_bits) * encoding.sides
        rows.append((name, f"{cells} + column" if encoding.has_reference else cells, *held))
    title = f"encodings, here of weights of {weight_bits} bits in cells of {cell_bits} bits"
    header = ("name", "cells", *(f"levels of {code}" for code in (0, largest, -largest)))
    _show(console, title, header, rows)
    _lines(console, ["levels: of each slice, the least significant first; of both cells of its pair", *about, ""])


def _info_networks(console: Console) -> None:
    from xbarsim.models import MODELS

    compressed = [found for found in MODELS.values() if found.weight_bits is not None]
    for found in MODELS.values():
        if found in compressed:
            continue
        rows = [
            ("parameters", f"{found.parameters:,}", "1"),
            ("input (channels, height, width)", " x ".join(map(str, found.input_shape)), "1"),
            ("classes", found.classes, "1"),
            (f"test images of {found.data_set}", f"{found.test_images:,}", "1"),
            ("accuracy in float32, measured here", f"{100 * found.accuracy:.2f}", "%"),
            ("licence", found.licence, ""),
            ("needs the data folder", "yes" if found.needs_data_folder else "no", ""),
        ]
        _show(console, f"{found.name}: {found.description}", ("quantity", "value", "unit"), rows, right=1)
        _lines(console, [_source(found.source, None), ""])
    if not compressed:
        return
    header = ("name", "data set", "bits", "weights kept", "float32 (%)", "simulator (%)")
    _show(
        console,
        "compressed networks, and their accuracy in float32 and mapped onto crossbars without faults",
        header,
        [
            (
                found.name,
                found.data_set,
                found.weight_bits,
                f"{found.details['weights_kept']:,}",
                f"{100 * found.accuracy:.2f}",
                f"{100 * found.details['accuracy_simulator']:.2f}",
            )
            for found in compressed
        ],
    )
    _lines(console, [*(_source(text, None) for text in dict.fromkeys(found.source for found in compressed)), ""])


def _info_components(console: Console) -> None:
    from xbarsim.cost import Hardware, hardware_names

    for name in hardware_names():
        found = Hardware.load(name)
        rows = [(row["name"], f"{row['value']:g}", row["unit"], row["origin"], row["source"]) for row in found.values()]
        title = f"{name}: {found.description}"
        _show(console, title, ("component", "value", "unit", "origin", "source"), rows, right=1)
        _lines(console, [*found.references, ""])


def _info_faults(console: Console) -> None:
    from xbarsim.devices import StuckFaults, fault_preset, preset_names

    for name in preset_names():
        found = fault_preset(name)
        model = found.faults
        rows: list[tuple[object, ...]]
        if isinstance(model, StuckFaults):
            rows = [
                ("stuck on (at g_max)", f"{100 * model.on:g}", "% of cells", found.origin),
                ("stuck off (at g_min)", f"{100 * model.off:g}", "% of cells", found.origin),
            ]
        else:
            rows = [(type(model).__name__, repr(model), "", found.origin)]
        _show(console, name, ("quantity", "value", "unit", "origin"), rows, right=1)
        _lines(console, [" ".join(found.description.split()), _source(found.source, found.doi), ""])


_TOPICS = {
    Topic.devices: _info_devices,
    Topic.encodings: _info_encodings,
    Topic.networks: _info_networks,
    Topic.components: _info_components,
    Topic.faults: _info_faults,
}


@app.command(epilog=_EXIT_CODES)
def info(
    topic: Annotated[Topic | None, typer.Argument(help="What to list; everything without it.")] = None,
) -> None:
    """List what comes with the project: values, units, where each is from, and sources."""
    with _one_line_errors():
        console = Console()
        for each in Topic if topic is None else [topic]:
            _TOPICS[each](console)


# ---------------------------------------------------------------------------------------------------- cost


@app.command(epilog=_EXIT_CODES)
def cost(
    network: Annotated[str, typer.Argument(help="resnet18, vgg16, resnet20 or digits.")],
    preset: Annotated[
        str, typer.Option(help="Hardware: a card of 'xbarsim info components', or a TOML file.")
    ] = "isaac2016",
    design: Annotated[
        Path | None,
        typer.Option(help="Design as a TOML file, see Design.save (milo2021 cells, Differential, 8-bit ADC)."),
    ] = None,
    adc: Annotated[str | None, typer.Option(help="Another converter: cimloop2024, or a TOML file.")] = None,
    compare: Annotated[
        str | None, typer.Option(help="Another design (a TOML file) or hardware (a card) to print the difference to.")
    ] = None,
    replication: Annotated[
        str, typer.Option(help="Copies of layers: none, chip (fill whole chips), or a number of arrays to fill.")
    ] = "none",
    spare_columns: Annotated[int, typer.Option(help="Spare columns of each array.")] = 0,
    redundancy: Annotated[int, typer.Option(help="Arrays that do the work of one.")] = 1,
    trained: Annotated[
        bool, typer.Option("--trained", help="Use stored weights: cells draw the power of their own conductances.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option(help="Folder for CSV files and plots; made if it does not exist.")
    ] = None,
) -> None:
    """Print what a network costs: power, area, energy, latency; of any architecture, without weights.

    Prints peak and workload view by component and by layer, and the difference to another design or hardware. With
    --output, writes peak.csv, energy.csv, layers.csv, summary.csv, deltas.csv, sources.bib and plots.
    """
    with _one_line_errors():
        from xbarsim.cost import Hardware
        from xbarsim.cost.command import network_cost, parse_replication
        from xbarsim.design import Design

        hardware = Hardware.load(preset)
        if adc is not None:
            hardware = hardware.with_adc(adc)
        copies = parse_replication(replication)
        chosen = _first_design() if design is None else Design.load(design)
        other: Design | Hardware | None = None
        if compare is not None:
            other = Design.load(compare) if compare.endswith(".toml") else Hardware.load(compare)
        folder = None
        if output is not None:
            folder = prepare_folder(output)
        found = network_cost(
            network,
            chosen,
            hardware,
            other=other,
            trained=trained,
            replication=copies,
            spare_columns=spare_columns,
            redundancy=redundancy,
        )
        typer.echo(str(found))
        for path in found.save(folder) if folder is not None else []:
            typer.echo(f"wrote {path}")


# ------------------------------------------------------------------------------------------------ evaluate


def _first_design() -> Design:
    """The design of the project's first example."""
    from xbarsim.design import Design, Periphery
    from xbarsim.devices import Cell, StuckFaults
    from xbarsim.mapping import Differential, Mapping

    return Design(
        cell=Cell.load("milo2021"),
        mapping=Mapping(encoding=Differential(), rows=128, columns=128, weight_bits=8, cell_bits=4),
        periphery=Periphery(input_bits=8, dac_bits=1, adc_bits=8),
        faults=StuckFaults(on=0.009, off=0.0175),
    )


def _calibration(network: str) -> Any:
    """Training images to calibrate a network with, as it wants them."""
    from xbarsim.models import DATA_SETS, MODELS, load_images

    data_set = next(name for name, title in DATA_SETS.items() if title == MODELS[network].data_set)
    return load_images(data_set, "train", count=None if data_set == "digits" else 128)[0]


@app.command(epilog=_EXIT_CODES)
def evaluate(
    network: Annotated[str, typer.Argument(help="digits, resnet20 or another of 'xbarsim info networks'.")],
    design: Annotated[
        Path | None,
        typer.Option(help="Design as a TOML file, see Design.save (milo2021 cells, Differential, 8-bit ADC)."),
    ] = None,
    dies: Annotated[int, typer.Option(help="Dies to make.")] = 5,
    seed: Annotated[int, typer.Option(help="Root of the dies' seeds.")] = 1,
    images: Annotated[int | None, typer.Option(help="Test images, from the first (all).")] = None,
) -> None:
    """Map a network by a design, make dies of it, and report accuracy, errors by layer, and cost."""
    with _one_line_errors():
        check_integer("dies", dies, at_least=1)
        check_integer("seed", seed, at_least=0)
        from xbarsim.design import Design

        chosen = _first_design() if design is None else Design.load(design)
        from xbarsim.models import MODELS, check_trained

        check_trained(network, called="network")
        if images is not None:
            check_integer("images", images, at_least=1, at_most=MODELS[network].test_images)
        _evaluate(network, chosen, dies, seed, images)


def _evaluate(name: str, design: Design, dies: int, seed: int, images: int | None) -> None:
    import statistics

    import numpy as np

    from xbarsim.foundation.intervals import student_half_width
    from xbarsim.models import load_model, load_test_set
    from xbarsim.network import map_model
    from xbarsim.network.evaluation import evaluate as measure

    model, _ = load_model(name)
    pictures, labels = load_test_set(name, count=images)
    network = map_model(model, design, calibration=_calibration(name))
    typer.echo(f"{network}\n\n{network.plan()}\n")
    typer.echo(f"digital, quantised: {measure(network.digital, pictures, labels)}")
    accuracies: list[float] = []
    chip = None
    for die_seed in np.random.SeedSequence(seed).generate_state(dies, np.uint32):
        chip = network.fabricate(int(die_seed))
        result = measure(chip, pictures, labels)
        accuracies.append(result.accuracy)
        typer.echo(f"die {die_seed}: {result}")
    mean = statistics.fmean(accuracies)
    text = f"mean accuracy {mean:.2%}"
    if dies > 1:
        half = student_half_width(statistics.stdev(accuracies), dies, 0.95)
        text += (
            f" (95 % interval {max(0.0, mean - half):.2%} to {min(1.0, mean + half):.2%}, Student's t over {dies} dies)"
        )
    assert chip is not None
    typer.echo(f"{text}\n\nthe last die against the quantised digital network:")
    typer.echo(f"{chip.report(pictures[:100])}\n\n{chip.cost()}")


# --------------------------------------------------------------------------------------------- experiments


def _guarded(command: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        with _one_line_errors():
            command(*arguments, **options)

    return run


# Commands of the room above, which nothing here imports: it is found by its name.
for _command in importlib.import_module("xbarsim.experiments.commands").COMMANDS:
    app.command(epilog=_EXIT_CODES)(_guarded(_command))


def main() -> None:
    """Run the command line; the entry point of ``xbarsim``."""
    try:
        app()
    except KeyboardInterrupt:  # before a command began
        sys.exit(_INTERRUPTED)


if __name__ == "__main__":
    main()
