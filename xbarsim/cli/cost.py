"""``xbarsim cost``: map a network by its shape, print what it costs, write tables and pictures."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xbarsim.cli.choices import DataSet, DesignFile, EncodingName, NetworkName, Parts, chosen_design, chosen_subject
from xbarsim.cli.notes import quantised_anew, without_faults
from xbarsim.foundation.named import names_code
from xbarsim.foundation.tables import csv_bytes
from xbarsim.foundation.validation import InputError, check_integer, write_atomically

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from xbarsim.cost import CostReport, Deltas, Hardware, Replication, Workload
    from xbarsim.design import Design
    from xbarsim.network import MappedNetwork

__all__ = ["NetworkCost", "cost", "network_cost", "parse_replication"]

_IMAGES = 2  # random images; they decide no number that is printed for an untrained network


def cost(
    network: NetworkName,
    preset: Annotated[
        str, typer.Option(help="Hardware: a card of 'xbarsim info components', or a TOML file.")
    ] = "isaac2016",
    design: DesignFile = None,
    encoding: EncodingName = None,
    parts: Parts = None,
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
    data_set: DataSet = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for CSV files and plots; made if it does not exist.")
    ] = None,
) -> None:
    """Print what a network costs: power, area, energy, latency; of any architecture, without weights.

    A network of your own is mapped with its weights. Prints the design, peak and workload view by component and by
    layer, and the difference to another design or hardware. With --output, writes peak.csv, energy.csv, layers.csv,
    summary.csv, deltas.csv, sources.bib and plots.
    """
    from xbarsim.cost import Hardware
    from xbarsim.design import Design

    check_integer("spare_columns", spare_columns, at_least=0)
    check_integer("redundancy", redundancy, at_least=1)
    hardware = Hardware.load(preset)
    if adc is not None:
        hardware = hardware.with_adc(adc)
    copies = parse_replication(replication)
    chosen = chosen_design(design, parts=parts or (), encoding=encoding)
    other: Design | Hardware | None = None
    if compare is not None:
        other = Design.load(compare) if compare.endswith(".toml") else Hardware.load(compare)
    folder = None
    if output is not None:
        from xbarsim.foundation.validation import prepare_folder

        folder = prepare_folder(output)
    costs = network_cost(
        network, chosen, hardware, other=other, trained=trained, data_set=data_set, replication=copies,
        spare_columns=spare_columns, redundancy=redundancy,
    )  # fmt: skip
    typer.echo(f"{chosen}\n\n{costs}")
    for path in costs.save(folder) if folder is not None else []:
        typer.echo(f"wrote {path}")


def parse_replication(text: str) -> Replication | int:
    """``"none"``, ``"chip"`` or a number of arrays, from the command line.

    Raises
    ------
    InputError
        For anything else.
    """
    if text == "none":
        return "none"
    if text == "chip":
        return "chip"
    try:
        return int(text)
    except ValueError:
        raise InputError(f"replication must be 'none', 'chip' or a number of arrays, got {text!r}") from None


@dataclass(frozen=True, kw_only=True)
class NetworkCost:
    """A network's cost and, where two designs are compared, that of the other.

    Attributes
    ----------
    report, work
        Peak and workload view.
    deltas
        From this design to the other, or ``None``.
    notes
        What a reader should know.
    """

    report: CostReport
    work: Workload
    deltas: Deltas | None
    notes: tuple[str, ...]

    def __str__(self) -> str:
        parts = [str(self.report), str(self.work)]
        if self.deltas is not None:
            parts.append(f"Compared\n\n{self.deltas}")
        parts.append("\n".join(f"note: {note}" for note in self.notes))
        return "\n\n".join(part for part in parts if part)

    def save(self, folder: Path) -> list[Path]:
        """Write tables, pictures and references into a folder that exists; returns the files.

        Raises
        ------
        FileWriteError
            If one cannot be written.
        """
        from xbarsim import plot

        tables: dict[str, list[dict[str, Any]]] = {
            "peak.csv": self.report.to_rows("part"),
            "energy.csv": self.work.to_rows("part"),
            "layers.csv": self.work.to_rows("layer"),
            "summary.csv": self.work.summary(),
        }
        if self.deltas is not None:
            tables["deltas.csv"] = self.deltas.to_rows()
        contents = {name: csv_bytes(rows) for name, rows in tables.items()}
        contents["sources.bib"] = (self.report.sources().bibtex() + "\n").encode()
        for name, axes in (
            ("peak.png", plot.cost_breakdown(self.report)),
            ("energy.png", plot.cost_breakdown(self.work)),
            ("layers.png", plot.cost_layers(self.work)[0]),
        ):
            picture = io.BytesIO()
            figure: Any = axes.figure
            figure.savefig(picture, format="png")
            contents[name] = picture.getvalue()
        for name, content in contents.items():
            write_atomically(folder / name, content)
        return [folder / name for name in contents]


def network_cost(
    name: str,
    design: Design,
    hardware: Hardware,
    *,
    other: Design | Hardware | None = None,
    trained: bool = False,
    data_set: str | None = None,
    seed: int = 0,
    replication: Replication | int = "none",
    spare_columns: int = 0,
    redundancy: int = 1,
) -> NetworkCost:
    """What a network costs on some hardware, and what another design or other hardware would change.

    Parameters
    ----------
    name
        A name in `xbarsim.models.ARCHITECTURES` or, with `trained`, in `xbarsim.models.MODELS`; or a network of a
        user's own, see :class:`xbarsim.sweep.Task`.
    design, hardware
        How it is mapped, and on what.
    other
        A design or a hardware card to compare with.
    trained
        Use stored weights and the calibration set of the network, so that its cells draw the power of their own
        conductances; else random weights, and the card's power for the cells.
    data_set
        Images for a network from an ONNX file; random ones without it.
    seed
        Of random weights and images.
    replication
        See :meth:`xbarsim.cost.CostReport.workload`.
    spare_columns, redundancy
        Of every layer, see :class:`xbarsim.cost.LayerUse`.

    Raises
    ------
    InputError
        If there is no such network, or `trained` is asked of one without stored weights.
    """
    from xbarsim.cost import Hardware, compare

    source = _source(name, trained, data_set, seed)
    mapped = source.map(design)

    def report(mapped: MappedNetwork, hardware: Hardware) -> CostReport:
        plain = mapped.cost(hardware, data=source.data)
        if spare_columns == 0 and redundancy == 1:
            return plain
        uses = [replace(layer.use, spare_columns=spare_columns, redundancy=redundancy) for layer in plain.layers]
        return plain.with_uses(uses)

    peak = report(mapped, hardware)
    work = peak.workload(replication=replication)
    deltas = None
    if other is not None:
        if isinstance(other, Hardware):
            names, changed = (hardware.name, other.name), report(mapped, other)
        else:
            names = ("this design", "the other")
            changed = report(source.map(other), hardware)
        deltas = compare(peak, changed, names=names, replication=replication)
    notes = (*source.notes, *quantised_anew(name, design, trained), *without_faults(design))
    return NetworkCost(report=peak, work=work, deltas=deltas, notes=notes)


@dataclass(frozen=True, kw_only=True)
class _Source:
    """A network to be mapped by any design.

    Attributes
    ----------
    map
        Maps it.
    data
        Whether weights and images are its own, so that the power of its cells is known.
    notes
        What a reader should know.
    """

    map: Callable[[Design], MappedNetwork]
    data: bool
    notes: tuple[str, ...] = ()


def _source(name: str, trained: bool, data_set: str | None, seed: int) -> _Source:
    """The network that a name means, with images to calibrate it."""
    import numpy as np

    from xbarsim.models import untrained_model
    from xbarsim.network import map_model, map_onnx

    if trained or names_code(name) or (name.endswith(".onnx") and data_set is not None):
        subject = chosen_subject(name, data_set)
        seen = f"{len(subject.calibration):,} training images of {subject.data_set}"
        return _Source(map=subject.map, data=True, notes=(f"weights are its own, inputs those of {seen}",))
    rng = np.random.default_rng(seed)
    if name.endswith(".onnx"):
        random = _random_inputs(name, rng)
        note = "weights are its own and images random: cells draw the power of the card's array (--data-set for theirs)"
        return _Source(map=lambda design: map_onnx(name, design, calibration=random), data=False, notes=(note,))
    model, architecture = untrained_model(name, seed=seed)
    images = rng.standard_normal((_IMAGES, *architecture.input_shape), dtype=np.float32)
    note = (
        "weights are random: their shapes decide every number, and the cells draw the power of the card's array "
        "(--trained for that of their own conductances)"
    )
    return _Source(map=lambda design: map_model(model, design, calibration=images), data=False, notes=(note,))


def _random_inputs(path: str, rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """Some images of the shape that an ONNX file says."""
    import numpy as np

    from xbarsim.network.onnx.file import read_model

    graph = read_model(path).graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = [each for each in graph.input if each.name not in constants]
    shape = [size.dim_value for size in inputs[0].type.tensor_type.shape.dim[1:]] if len(inputs) == 1 else []
    if not shape or min(shape) < 1:
        raise InputError(
            "network must have one input of a shape that its file says, to be costed without images, got "
            f"{len(inputs)} inputs{f' of shape {shape}' if shape else ''} in {path}: give --data-set images.npz"
        )
    return rng.standard_normal((_IMAGES, *shape), dtype=np.float32)
