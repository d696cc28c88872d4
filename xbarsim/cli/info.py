"""``xbarsim info``: an index of what comes with the project, lists, and values, units and sources of each part."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from xbarsim.cli.output import new_console, print_lines, print_table
from xbarsim.foundation.extras import torch_installed
from xbarsim.foundation.validation import InputError
from xbarsim.foundation.words import one_of

if TYPE_CHECKING:
    from xbarsim.devices import Polynomial

__all__ = ["TOPICS", "Topic", "info"]

_SOME = 60  # characters of names in the index


@dataclass(frozen=True, kw_only=True)
class Topic:
    """One kind of things that come with the project.

    Attributes
    ----------
    what
        What they are, in a few words.
    names
        Of all of them.
    overview
        Prints one line of each.
    detail
        Prints all of one, by its name.
    torch
        Whether torch is needed to know them.
    """

    what: str
    names: Callable[[], Iterable[str]]
    overview: Callable[[Console], None]
    detail: Callable[[Console, str], None]
    torch: bool = False

    @property
    def known(self) -> bool:
        """Whether what is needed to know them is installed."""
        return not self.torch or torch_installed()


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


def _devices(console: Console) -> None:
    from xbarsim.devices import card, cell_names

    rows = []
    for name in cell_names():
        device = card(name)
        cell = device.cell()
        what = [
            word
            for word, part in (
                ("programming error", cell.programming_error), ("read noise", cell.read_noise), ("drift", cell.drift)
            )
            if part is not None
        ]  # fmt: skip
        g = f"{1e6 * cell.g_min:.4g} to {1e6 * cell.g_max:.4g}"
        rows.append((name, g, cell.levels, ", ".join(what), " ".join(device.description.split())))
    header = ("name", "conductance (uS)", "levels", "knows", "what it is")
    print_table(console, "cells: device cards, each from one source", header, rows)


def _device(console: Console, name: str) -> None:
    from xbarsim.devices import CardValue, Drift, NoiseModel, ReadNoise, card

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
    print_lines(console, [*notes, _source(device.source, device.doi)])


def _encodings(console: Console) -> None:
    from xbarsim.mapping import ENCODINGS, Mapping

    weight_bits, cell_bits = Mapping().weight_bits, Mapping().cell_bits
    largest = Mapping().max_weight
    rows = []
    for name, kind in ENCODINGS.items():
        encoding = kind()
        held = (encoding.encode([code], weight_bits, cell_bits)[0].tolist() for code in (0, largest, -largest))
        cells = encoding.slice_count(weight_bits, cell_bits) * encoding.sides
        rows.append((name, f"{cells} + column" if encoding.has_reference else cells, *held))
    title = f"encodings, here of weights of {weight_bits} bits in cells of {cell_bits} bits"
    header = ("name", "cells", *(f"levels of {code}" for code in (0, largest, -largest)))
    print_table(console, title, header, rows)
    print_lines(console, ["levels: of each slice, the least significant first; of both cells of its pair"])


def _encoding(console: Console, name: str) -> None:
    from xbarsim.mapping import ENCODINGS

    what, _, references = (inspect.getdoc(ENCODINGS[name]) or "").partition("References\n----------\n")
    lines = [f"{name}: {_words(what.partition('Examples')[0].partition('Parameters')[0])}"]
    if references:
        lines.append(_source(" ".join(references.partition("\n\n")[0].removeprefix(".. [1]").split()), None))
    print_lines(console, lines)


def _words(documented: str) -> str:
    """Text of a docstring without its markup."""
    return " ".join(re.sub(r"(:[a-z]+:)?`+([^`]*)`+", r"\2", documented).split())


def _network_names() -> list[str]:
    from xbarsim.models import ARCHITECTURES, MODELS

    return list(dict.fromkeys([*MODELS, *ARCHITECTURES]))


def _networks(console: Console) -> None:
    from xbarsim.models import ARCHITECTURES, MODELS

    rows = []
    for name in _network_names():
        if name not in MODELS:
            rows.append((name, "", "", f"{ARCHITECTURES[name].parameters:,}", "no weights", "", "for its cost"))
            continue
        card = MODELS[name]
        kept = card.details.get("weights_kept", card.parameters)
        simulator = card.details.get("accuracy_simulator")
        rows.append((
            name, card.data_set, str(card.weight_bits or ""), f"{kept:,}", f"{100 * card.accuracy:.2f}",
            "" if simulator is None else f"{100 * simulator:.2f}",
            "the data folder" if card.needs_data_folder else "",
        ))  # fmt: skip
    header = ("name", "data set", "bits", "weights", "float32 (%)", "simulator (%)", "needs")
    print_table(console, "networks, and their accuracy in float32 and mapped without faults", header, rows)
    print_lines(
        console,
        [
            "your own: module:function or file.py:function, which gives an xbarsim.sweep.Subject; or an ONNX file "
            "('xbarsim evaluate --help')"
        ],
    )


def _network(console: Console, name: str) -> None:
    from xbarsim.models import ARCHITECTURES, MODELS

    if name not in MODELS:
        found = ARCHITECTURES[name]
        rows: list[tuple[Any, ...]] = [
            ("parameters", f"{found.parameters:,}", "1"),
            ("input (channels, height, width)", " x ".join(map(str, found.input_shape)), "1"),
            ("classes", found.classes, "1"),
            ("weights", "random: enough for its cost", ""),
        ]
        print_table(console, f"{name}: {found.description}", ("quantity", "value", "unit"), rows, right=1)
        print_lines(console, [_source(found.source, None)])
        return
    network = MODELS[name]
    rows = [
        ("parameters", f"{network.parameters:,}", "1"),
        ("input (channels, height, width)", " x ".join(map(str, network.input_shape)), "1"),
        ("classes", network.classes, "1"),
        (f"test images of {network.data_set}", f"{network.test_images:,}", "1"),
        ("accuracy in float32, measured here", f"{100 * network.accuracy:.2f}", "%"),
        ("licence", network.licence, ""),
        ("needs the data folder", "yes" if network.needs_data_folder else "no", ""),
    ]
    if network.weight_bits is not None:
        rows[5:5] = [
            ("accuracy on crossbars without faults", f"{100 * network.details['accuracy_simulator']:.2f}", "%"),
            ("bits of the levels of its weights", network.weight_bits, "1"),
            ("weights kept", f"{network.details['weights_kept']:,}", "1"),
        ]
    print_table(console, f"{network.name}: {network.description}", ("quantity", "value", "unit"), rows, right=1)
    print_lines(console, [_source(network.source, None)])


def _components(console: Console) -> None:
    from xbarsim.cost import Hardware, hardware_names

    cards = {name: Hardware.load(name) for name in hardware_names()}
    rows = [(name, hardware.description, f"{len(list(hardware.values()))}") for name, hardware in cards.items()]
    print_table(console, "components: hardware cards", ("name", "what it is", "values"), rows)


def _component(console: Console, name: str) -> None:
    from xbarsim.cost import Hardware

    hardware = Hardware.load(name)
    rows = [(row["name"], f"{row['value']:g}", row["unit"], row["origin"], row["source"]) for row in hardware.values()]
    title = f"{name}: {hardware.description}"
    print_table(console, title, ("component", "value", "unit", "origin", "source"), rows, right=1)
    print_lines(console, hardware.references)


def _designs(console: Console) -> None:
    from xbarsim.design import design_card, design_names

    rows = []
    for name in design_names():
        found = design_card(name)
        mapping = found.design.mapping
        bits = f"{mapping.weight_bits} in {mapping.cell_bits}, {found.design.periphery.input_bits}"
        rows.append((name, f"{mapping.rows} x {mapping.columns}", bits, found.hardware or "", found.description))
    header = ("name", "array", "bits: weight in cell, input", "costed on", "what it is")
    print_table(console, "designs: published accelerators, each from its source", header, rows)


def _design(console: Console, name: str) -> None:
    from xbarsim.design import design_card
    from xbarsim.design.summary import part_text

    found = design_card(name)
    rows = []
    for value in found.values:
        for parameter in value.parameters:
            part = found.value_of(parameter)
            text = part.name if parameter == "cell" else part_text(part) if hasattr(part, "__dict__") else str(part)
            rows.append((parameter, text, value.origin, value.note))
    print_table(console, f"{name}: {found.description}", ("parameter", "value", "origin", "rests on"), rows)
    if found.write is not None:
        print_lines(console, [f"its cells are written and verified: {found.write}"])
    costed = "no component card" if found.hardware is None else f"component card {found.hardware}"
    print_lines(console, [f"costed on: {costed}", *(f"limit: {limit}" for limit in found.limits)])
    print_lines(console, [_source(found.source, found.doi)])


def _faults(console: Console) -> None:
    from xbarsim.devices import StuckFaults, fault_preset, preset_names

    rows = []
    for name in preset_names():
        preset = fault_preset(name)
        model = preset.faults
        shares = (f"{100 * model.on:g}", f"{100 * model.off:g}") if isinstance(model, StuckFaults) else ("", "")
        rows.append((name, type(model).__name__, *shares, " ".join(preset.description.split())))
    header = ("name", "model", "stuck on (%)", "stuck off (%)", "what it is")
    print_table(console, "fault statistics, each from one source", header, rows)


def _fault(console: Console, name: str) -> None:
    from xbarsim.devices import StuckFaults, fault_preset

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
    print_lines(console, [" ".join(preset.description.split()), _source(preset.source, preset.doi)])


def _layers(console: Console) -> None:
    from xbarsim.network import layer_support

    print_lines(console, ["(one of each is mapped to find out, which takes some seconds)"])
    rows = [(each.name, each.status, each.products or "", each.remark) for each in layer_support()]
    print_table(console, "types of module in torch.nn, and what becomes of them", _LAYER_HEADER, rows)


def _layer(console: Console, name: str) -> None:
    from xbarsim.network.support import support_of

    found = support_of(name)
    products = [f"products with trained weights: {found.products}"] if found.products else []
    print_lines(console, [f"torch.nn.{name}: {found.status}", *products, *([found.remark] if found.remark else [])])


def _layer_names() -> list[str]:
    from xbarsim.network.support import layer_types

    return list(layer_types())


def _mitigations(console: Console) -> None:
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


def _mitigation(console: Console, name: str) -> None:
    from xbarsim.cli.mitigations import methods, mitigation_costs, mitigation_settings

    kind = methods()[name]
    what = (inspect.getdoc(kind) or "").partition("Attributes\n")[0].partition("Raises\n")[0]
    settings = ", ".join(f"{field}={default}" for field, default in mitigation_settings(kind).items())
    lines = [f"{name}: {_words(what)}", f"must know: {kind.needs}", f"costs: {mitigation_costs(kind)}"]
    print_lines(console, [*lines, *([f"settings: {settings}"] if settings else [])])


def _mitigation_names() -> list[str]:
    from xbarsim.cli.mitigations import methods

    return list(methods())


def _cell_names() -> list[str]:
    from xbarsim.devices import cell_names

    return cell_names()


def _design_names() -> list[str]:
    from xbarsim.design import design_names

    return design_names()


def _encoding_names() -> list[str]:
    from xbarsim.mapping import ENCODINGS

    return list(ENCODINGS)


def _component_names() -> list[str]:
    from xbarsim.cost import hardware_names

    return list(hardware_names())


def _fault_names() -> list[str]:
    from xbarsim.devices import preset_names

    return preset_names()


_LAYER_HEADER = ("torch.nn", "becomes", "products", "remark")

TOPICS = {
    "devices": Topic(what="memory cells", names=_cell_names, overview=_devices, detail=_device),
    "designs": Topic(what="published accelerators", names=_design_names, overview=_designs, detail=_design),
    "encodings": Topic(what="weights in cells", names=_encoding_names, overview=_encodings, detail=_encoding),
    "networks": Topic(
        what="trained, or for their cost", names=_network_names, overview=_networks, detail=_network, torch=True
    ),
    "components": Topic(what="hardware to cost on", names=_component_names, overview=_components, detail=_component),
    "faults": Topic(what="measured statistics", names=_fault_names, overview=_faults, detail=_fault),
    "layers": Topic(
        what="torch's, what becomes of them", names=_layer_names, overview=_layers, detail=_layer, torch=True
    ),
    "mitigations": Topic(what="methods of repair", names=_mitigation_names, overview=_mitigations, detail=_mitigation),
}
"""What ``xbarsim info`` knows, in its order."""


def _index(console: Console) -> None:
    rows: list[tuple[Any, ...]] = []
    for name, topic in TOPICS.items():
        if not topic.known:
            rows.append((name, topic.what, "", "needs torch"))
            continue
        names = list(topic.names())
        text, shown = names[0], 1
        while shown < len(names) and len(text) + len(names[shown]) + 2 <= _SOME:
            text, shown = f"{text}, {names[shown]}", shown + 1
        left = len(names) - shown
        rows.append((name, topic.what, len(names), f"{text} ..." if left else text))
    print_table(console, "what comes with the project", ("topic", "what", "there are", "such as"), rows)
    print_lines(
        console,
        [
            "",
            "xbarsim info TOPIC   one line of each, such as: xbarsim info networks",
            "xbarsim info NAME    all of one, with units and sources, such as: xbarsim info milo2021",
        ],
    )


def info(
    name: Annotated[
        str | None, typer.Argument(help="A topic, or the name of anything that comes with the project (the index).")
    ] = None,
) -> None:
    """Say what comes with the project: an index, lists, and values, units and sources of each part by its name."""
    console = new_console()
    if name is None:
        _index(console)
        return
    if name in TOPICS:
        TOPICS[name].overview(console)
        print_lines(console, [f"xbarsim info NAME says all of one, such as: xbarsim info {_first(TOPICS[name])}"])
        return
    key = _plain(name)
    every = {topic: list(each.names()) for topic, each in TOPICS.items() if each.known}
    found = [(topic, known) for topic, names in every.items() for known in names if _plain(known) == key]
    if not found:
        fitting = one_of(
            name, [*TOPICS, *(known for names in every.values() for known in names)], listed="xbarsim info"
        )
        unknown = [topic for topic, each in TOPICS.items() if not each.known]
        without = f"; {' and '.join(unknown)} are not known without torch" if unknown else ""
        raise InputError(f"name must be {fitting}{without}")
    for index, (topic, known) in enumerate(found):
        if index:
            print_lines(console, [""])
        TOPICS[topic].detail(console, known)


def _first(topic: Topic) -> str:
    return next(iter(topic.names()))


def _plain(name: str) -> str:
    """A name as it is compared: PermuteRows is permute-rows."""
    return name.lower().replace("-", "").replace("_", "")
