"""``xbarsim info``: values, units and sources of what comes with the project."""

from __future__ import annotations

import inspect
import re
from enum import StrEnum
from math import isfinite
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from xbarsim.cli.output import print_lines, print_table

if TYPE_CHECKING:
    from xbarsim.devices import Polynomial

__all__ = ["Topic", "info"]


class Topic(StrEnum):
    """What ``xbarsim info`` can list."""

    devices = "devices"
    encodings = "encodings"
    networks = "networks"
    components = "components"
    faults = "faults"
    layers = "layers"
    mitigations = "mitigations"


def _source(source: str, doi: str | None) -> str:
    """A citation, with its DOI where the text does not hold it yet."""
    return f"source: {source}" if doi is None or doi in source else f"source: {source} doi:{doi}"


def _law(law: Polynomial) -> str:
    """A polynomial of the conductance as text, in uS."""
    terms: list[str] = []
    for order, coefficient in enumerate(law.coefficients):
        factor = 1e6 * coefficient / (1e6 * law.scale) ** order
        power = "" if order == 0 else " g" if order == 1 else f" g^{order}"
        sign = "-" if factor < 0 else "+" if terms else ""
        terms.append(f"{sign}{' ' if terms else ''}{abs(factor):.4g}{power}")
    text = " ".join(terms)
    return f"{text}, at least {1e6 * law.minimum:g}" if isfinite(law.minimum) else text


def _info_devices(console: Console) -> None:
    from xbarsim.devices import CardValue, Drift, NoiseModel, ReadNoise, card, cell_names

    for name in cell_names():
        device = card(name)
        rows: list[tuple[str, ...]] = []
        notes: list[str] = []
        for key, quantity in device.values().items():
            label = key.replace("_", " ") if not key.startswith("g_") else key
            if quantity.note:
                notes.append(f"{label}: {quantity.note}")
            if isinstance(quantity, CardValue):
                value = 1e6 * quantity.value if quantity.unit == "S" else quantity.value
                unit = "uS" if quantity.unit == "S" else quantity.unit
                rows.append((label, f"{value:g}", unit, quantity.origin))
                continue
            law = quantity.value
            if isinstance(law, Drift):
                rows.append((label, str(law), "", quantity.origin))
                some = [device.cell().g_min, (device.cell().g_min + device.cell().g_max) / 2, device.cell().g_max]
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
        print_table(console, f"{name}: {device.description}", ("quantity", "value", "unit", "origin"), rows)
        print_lines(console, [*notes, _source(device.source, device.doi), ""])


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
    print_table(console, title, header, rows)
    print_lines(console, ["levels: of each slice, the least significant first; of both cells of its pair", *about, ""])


def _info_networks(console: Console) -> None:
    from xbarsim.models import MODELS

    compressed = [network for network in MODELS.values() if network.weight_bits is not None]
    for network in MODELS.values():
        if network in compressed:
            continue
        rows = [
            ("parameters", f"{network.parameters:,}", "1"),
            ("input (channels, height, width)", " x ".join(map(str, network.input_shape)), "1"),
            ("classes", network.classes, "1"),
            (f"test images of {network.data_set}", f"{network.test_images:,}", "1"),
            ("accuracy in float32, measured here", f"{100 * network.accuracy:.2f}", "%"),
            ("licence", network.licence, ""),
            ("needs the data folder", "yes" if network.needs_data_folder else "no", ""),
        ]
        print_table(console, f"{network.name}: {network.description}", ("quantity", "value", "unit"), rows, right=1)
        print_lines(console, [_source(network.source, None), ""])
    if not compressed:
        return
    header = ("name", "data set", "bits", "weights kept", "float32 (%)", "simulator (%)")
    print_table(
        console,
        "compressed networks, and their accuracy in float32 and mapped onto crossbars without faults",
        header,
        [
            (
                network.name,
                network.data_set,
                network.weight_bits,
                f"{network.details['weights_kept']:,}",
                f"{100 * network.accuracy:.2f}",
                f"{100 * network.details['accuracy_simulator']:.2f}",
            )
            for network in compressed
        ],
    )
    print_lines(
        console, [*(_source(text, None) for text in dict.fromkeys(network.source for network in compressed)), ""]
    )


def _info_components(console: Console) -> None:
    from xbarsim.cost import Hardware, hardware_names

    for name in hardware_names():
        hardware = Hardware.load(name)
        rows = [
            (row["name"], f"{row['value']:g}", row["unit"], row["origin"], row["source"]) for row in hardware.values()
        ]
        title = f"{name}: {hardware.description}"
        print_table(console, title, ("component", "value", "unit", "origin", "source"), rows, right=1)
        print_lines(console, [*hardware.references, ""])


def _info_faults(console: Console) -> None:
    from xbarsim.devices import StuckFaults, fault_preset, preset_names

    for name in preset_names():
        preset = fault_preset(name)
        model = preset.faults
        rows: list[tuple[object, ...]]
        if isinstance(model, StuckFaults):
            rows = [
                ("stuck on (at g_max)", f"{100 * model.on:g}", "% of cells", preset.origin),
                ("stuck off (at g_min)", f"{100 * model.off:g}", "% of cells", preset.origin),
            ]
        else:
            rows = [(type(model).__name__, repr(model), "", preset.origin)]
        print_table(console, name, ("quantity", "value", "unit", "origin"), rows, right=1)
        print_lines(console, [" ".join(preset.description.split()), _source(preset.source, preset.doi), ""])


def _info_layers(console: Console) -> None:
    from xbarsim.network import layer_support

    rows = [(each.name, each.status, each.products or "", each.remark) for each in layer_support()]
    print_table(console, "types of module in torch.nn, and what becomes of them", _LAYER_HEADER, rows)


def _info_mitigations(console: Console) -> None:
    from xbarsim.cli.mitigations import methods, mitigation_costs, mitigation_settings

    kinds = methods()
    rows = [
        (
            name,
            kind.needs,
            ", ".join(f"{field}={default}" for field, default in mitigation_settings(kind).items()),
            mitigation_costs(kind),
        )
        for name, kind in kinds.items()
    ]
    header = ("name", "must know", "settings", "costs, beside the plain mapping")
    print_table(console, "methods of repair: what is done about a die's faults", header, rows)
    about = []
    for name, kind in kinds.items():
        what = (inspect.getdoc(kind) or "").partition("Attributes\n")[0].partition("Raises\n")[0]
        words = re.sub(r"(:class:)?`+([^`]*)`+", r"\2", what).split()
        about.append(f"{name}: {' '.join(words)}")
    print_lines(console, [*about, ""])


_LAYER_HEADER = ("torch.nn", "becomes", "products", "remark")

_TOPICS = {
    Topic.devices: _info_devices,
    Topic.encodings: _info_encodings,
    Topic.networks: _info_networks,
    Topic.components: _info_components,
    Topic.faults: _info_faults,
    Topic.layers: _info_layers,
    Topic.mitigations: _info_mitigations,
}


def info(
    topic: Annotated[Topic | None, typer.Argument(help="What to list; everything without it.")] = None,
) -> None:
    """List what comes with the project: values, units, where each is from, and sources."""
    console = Console()
    for each in Topic if topic is None else [topic]:
        _TOPICS[each](console)
