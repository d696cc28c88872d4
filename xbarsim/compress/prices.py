"""What weights cost on the hardware, layer by layer: what a price-aware method goes by."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import get_args

from torch import nn

from xbarsim.compress.layers import mappable_layers
from xbarsim.compress.targets.base import Resource
from xbarsim.cost import Component, CostReport
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_real

__all__ = ["LayerPrice", "weight_prices"]

# A product of a recurrent module as networks on crossbars name it; torch has the kind before the layer.
_RECURRENT = re.compile(r"(?:(?P<module>.*)\.)?(?P<layer>l\d+(?:_reverse)?)\.(?P<kinds>ih_hh|ih|hh|hr)")
_CELL = re.compile(r"(?:(?P<module>.*)\.)?(?P<kinds>ih_hh|ih|hh)")


@dataclass(frozen=True, kw_only=True)
class LayerPrice:
    """Energy that one weight of a layer takes for an image, where all of its layer's weights bear it alike.

    Only ratios matter to a method, so that any unit will do.

    Parameters
    ----------
    layer
        Name of the layer.
    cells
        Of the weight's own cells, J.
    drivers
        Its share of the drivers of rows, J.
    converters
        Its share of the converters of columns, J.

    Raises
    ------
    InputError
        If a price is negative or not finite, or the layer has no name.
    """

    layer: str
    cells: float
    drivers: float
    converters: float

    def __post_init__(self) -> None:
        check_instance("layer", self.layer, str)
        for name in ("cells", "drivers", "converters"):
            object.__setattr__(self, name, check_real(name, getattr(self, name), at_least=0.0))

    @entrance
    def of(self, resources: tuple[Resource, ...]) -> float:
        """The price of some of it, J.

        Raises
        ------
        InputError
            If a resource is unknown.
        """
        check_instance("resources", resources, tuple)
        for number, resource in enumerate(resources):
            check_choice(f"resources[{number}]", resource, get_args(Resource))
        return math.fsum(getattr(self, resource) for resource in resources)


def _resource(component: Component) -> Resource | None:
    by_role: dict[str, Resource] = {"adc": "converters", "dac": "drivers", "cells": "cells"}
    by_place: dict[str, Resource] = {"column": "converters", "row": "drivers", "cell": "cells"}
    return by_role.get(component.role, by_place.get(component.per))


def _torch_names(name: str) -> list[str]:
    """What a layer of a network on crossbars may be called in the torch model."""
    if name == "(model)":
        return [""]
    names = [name]
    for pattern in (_RECURRENT, _CELL):
        found = pattern.fullmatch(name)
        if found is not None:
            parts = found.groupdict()
            before = f"{parts['module']}." if parts["module"] else ""
            after = f"_{parts['layer']}" if "layer" in parts else ""
            names += [f"{before}weight_{kind}{after}" for kind in parts["kinds"].split("_")]
    return names


@entrance
def weight_prices(report: CostReport, model: nn.Module) -> tuple[LayerPrice, ...]:
    """What a weight of each layer costs, from what one inference costs: ``network.cost("isaac2016")`` of it unpruned.

    Parameters
    ----------
    report
        The cost of the network on crossbars.
    model
        The network that was mapped.

    Returns
    -------
    tuple
        By layer, in the order of the model: the energy of its converters and what else each column has, of its drivers
        and what else each row has, and of its cells, each over the number of its weights. What does not depend on rows,
        columns and cells (buffers, networks, what is always on) is in none of them. Of a recurrent module whose two
        products are one, both weights have the price of a weight of that product.

    Raises
    ------
    InputError
        If no layer of the report is one of the model's.
    """
    check_instance("report", report, CostReport)
    layers = mappable_layers(model)
    roles = {
        (level.name, component.name): _resource(component)
        for level in report.hardware.levels
        for component in level.components
    }
    prices = {}
    for work in report.workload().layers:
        names = [name for name in _torch_names(work.use.name) if name in layers]
        weights = sum(layers[name].free.numel() for name in names)
        for name in names:
            prices[name] = LayerPrice(
                layer=name,
                **{
                    resource: math.fsum(
                        cost.energy for cost in work.components if roles.get((cost.level, cost.name)) == resource
                    )
                    / weights
                    for resource in ("cells", "drivers", "converters")
                },
            )
    if not prices:
        raise InputError(f"report must be of layers of model ({', '.join(layers) or 'it has none'}), got none of them")
    return tuple(prices[name] for name in layers if name in prices)
