"""Mapped networks in files: layers and placement whole, and what it takes to make the digital part again."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from xbarsim.cost import DigitalUse
from xbarsim.design import Design
from xbarsim.foundation.validation import FileFormatError, InputError, check_integer
from xbarsim.network.files.contents import Contents, read_contents, reading
from xbarsim.network.files.dies import DieRecord
from xbarsim.network.files.layers import LayerRecord, read_layer, write_layer
from xbarsim.network.files.probe import answers, are_alike
from xbarsim.network.files.skeletons import check_model, needs_model, restore
from xbarsim.network.layers import DigitalLayer, QuantisedLayer, SampleOrder
from xbarsim.network.lowered import Lowered, NotMapped, Product
from xbarsim.network.placed import MappedLayer
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Network

__all__ = ["NetworkRecord", "SavedNetwork", "read_network", "write_network"]

Array = npt.NDArray[Any]

_TOLERANCE = 1e-3  # of half a code: what the rounding of a computed weight may change


@dataclass(frozen=True, kw_only=True)
class NetworkRecord:
    """What is said of a mapped network.

    Attributes
    ----------
    skeleton
        Kind of its digital part; see :mod:`xbarsim.network.files.skeletons`.
    arguments, keywords
        How many inputs of the probe are given by position, and the names of those that are given by name.
    answers
        How many arrays the digital network gives for the probe.
    alone
        Whether read noise needs its samples run one by one.
    orders
        How samples stand in each layer; empty where no read noise has to know.
    die
        Of one die of it, or ``None``.
    design, layers, not_mapped, notes, digital_work, image_shape
        As in :class:`xbarsim.network.MappedNetwork`.
    """

    design: Design
    layers: tuple[LayerRecord, ...]
    not_mapped: tuple[NotMapped, ...]
    notes: tuple[str, ...]
    image_shape: tuple[int, ...]
    alone: bool
    orders: tuple[Literal["first", "last"], ...]
    skeleton: str
    arguments: int
    keywords: tuple[str, ...]
    answers: int
    digital_work: tuple[DigitalUse, ...] = ()
    die: DieRecord | None = None


class SavedNetwork(NamedTuple):
    """What a file says of a network.

    Attributes
    ----------
    parts : dict
        Arguments of :class:`xbarsim.network.MappedNetwork`.
    die : DieRecord
        Of its die, or ``None``.
    contents : Contents
        The arrays that are left: those of the die.
    """

    parts: dict[str, Any]
    die: DieRecord | None
    contents: Contents


def write_network(
    *,
    design: Design,
    lowered: Lowered,
    layers: Mapping[str, MappedLayer],
    image_shape: tuple[int, ...],
    orders: Mapping[str, SampleOrder] | None,
    probe: Samples,
    die: DieRecord | None = None,
) -> tuple[NetworkRecord, dict[str, Array]]:
    """A network as its record and arrays; parameters as in :class:`xbarsim.network.MappedNetwork`.

    Raises
    ------
    InputError
        If its digital part cannot be saved, or gives another answer each time.
    """
    kind, arrays = lowered.skeleton.stored()
    held = {f"skeleton.{name}": array for name, array in arrays.items()}
    records = []
    for index, mapped in enumerate(layers.values()):
        record, arrays = write_layer(mapped, f"layer.{index}.")
        records.append(record)
        held |= arrays
    network = Network(lowered.skeleton, _digital(layers))
    given = answers(network, probe)
    if not given or not are_alike(given, answers(Network(lowered.skeleton, _digital(layers)), probe)):
        raise InputError("network must give arrays, and the same for the same samples, to be saved, got others")
    held |= {f"probe.{index}": array for index, array in enumerate(probe.arguments)}
    held |= {f"probe.name.{name}": array for name, array in probe.keywords.items()}
    held |= {f"answer.{index}": array for index, array in enumerate(given)}
    return NetworkRecord(
        design=design,
        layers=tuple(records),
        not_mapped=lowered.not_mapped,
        notes=lowered.notes,
        image_shape=image_shape,
        alone=orders is None,
        orders=tuple(orders[name] for name in layers) if orders else (),
        skeleton=kind,
        arguments=len(probe.arguments),
        keywords=tuple(probe.keywords),
        answers=len(given),
        digital_work=lowered.digital_work,
        die=die,
    ), held


def read_network(path: str | os.PathLike[str], kind: Literal["chip", "mapped network"], model: Any) -> SavedNetwork:
    """Read a network.

    Parameters
    ----------
    path
        The file.
    kind
        What it must hold.
    model
        For a network from torch, a module of the same architecture; its weights do not matter.

    Raises
    ------
    FileFormatError
        If the file cannot be read, is cut short or changed, or holds something else or something out of its bound.
    InputError
        If `model` is needed and not given, given and not needed, or another than the one that was saved.
    """
    contents = read_contents(path, kind)
    with reading(path, kind):
        record = contents.record(NetworkRecord)
        from_model = needs_model(record.skeleton)
        if (record.die is None) != (kind == "mapped network"):
            raise FileFormatError("a chip, and no mapped network, must have a die")
        layers = _read_layers(record, contents)
        orders = _read_orders(record)
        probe, wanted = _read_probe(record, contents)
        stored = {name: contents.take(f"skeleton.{name}", finite=False) for name in contents.names("skeleton.")}
        if kind == "mapped network":
            contents.finish()
    check_model(model, needed=from_model)
    with nullcontext() if from_model else reading(path, kind):
        what = "model" if from_model else "its digital part"
        skeleton, products = restore(record.skeleton, stored, probe, record.design, model)
        for name, mapped in layers.items():
            _check_product(what, name, mapped.layer, products.get(name))
        if not are_alike(wanted, answers(Network(skeleton, _digital(layers)), probe)):
            raise InputError(
                f"{what} must be the network that was saved, got one that answers otherwise to the same samples"
            )
    lowered = Lowered(
        skeleton=skeleton,
        products={name: products[name] for name in layers},
        not_mapped=record.not_mapped,
        notes=record.notes,
        digital_work=record.digital_work,
    )
    parts = {
        "design": record.design,
        "lowered": lowered,
        "layers": layers,
        "image_shape": record.image_shape,
        "orders": orders,
        "probe": probe,
    }
    return SavedNetwork(parts, record.die, contents)


def _digital(layers: Mapping[str, MappedLayer]) -> dict[str, DigitalLayer]:
    return {name: DigitalLayer(mapped.layer) for name, mapped in layers.items()}


def _read_layers(record: NetworkRecord, contents: Contents) -> dict[str, MappedLayer]:
    names = [layer.name for layer in record.layers]
    if not names or len(set(names)) < len(names):
        raise FileFormatError(f"layers must be at least one, each with a name of its own, got {names}")
    for size in record.image_shape:
        check_integer("image_shape", size, at_least=1)
    return {
        layer.name: read_layer(layer, contents, f"layer.{index}.", record.design)
        for index, layer in enumerate(record.layers)
    }


def _read_orders(record: NetworkRecord) -> dict[str, SampleOrder] | None:
    wanted = 0 if record.alone or not record.design.cell.noisy else len(record.layers)
    if len(record.orders) != wanted or (record.alone and not record.design.cell.noisy):
        raise FileFormatError(f"orders must be of {wanted} layers, got {len(record.orders)}")
    if record.alone:
        return None
    return {layer.name: order for layer, order in zip(record.layers, record.orders, strict=False)}


def _read_probe(record: NetworkRecord, contents: Contents) -> tuple[Samples, list[Array]]:
    check_integer("arguments", record.arguments, at_least=0)
    check_integer("answers", record.answers, at_least=1)
    arguments = tuple(contents.take(f"probe.{index}") for index in range(record.arguments))
    keywords = {name: contents.take(f"probe.name.{name}") for name in record.keywords}
    probe = Samples.call(arguments, keywords, name="probe")
    return probe, [contents.take(f"answer.{index}", finite=False) for index in range(record.answers)]


def _check_product(what: str, name: str, layer: QuantisedLayer, product: Product | None) -> None:
    """Whether a product is the one that a layer was made of; `what` it is a product of, for the message."""
    problem = None
    if product is None:
        problem = "none"
    elif product.weights.shape != layer.codes.shape:
        problem = f"one of shape {product.weights.shape}"
    elif (product.adapter, product.window, product.groups) != (layer.adapter, layer.window, layer.groups):
        problem = "one of another geometry"
    else:
        weights = product.weights
        if layer.divisors is not None:
            weights = weights * np.repeat(layer.divisors, len(weights) // len(layer.divisors))[:, None]
        distance = np.abs(weights - layer.codes * layer.weight_scale)
        bias = np.abs(product.bias - layer.bias)
        if (distance > (0.5 + _TOLERANCE) * layer.weight_scale).any() or (
            bias > _TOLERANCE * np.abs(layer.bias).max(initial=0.0)
        ).any():
            problem = "one with other weights"
    if problem is not None:
        raise InputError(
            f"{what} must be the network that was saved, whose product {name!r} has shape {layer.codes.shape} "
            f"({layer.kind}), got {problem}"
        )
