"""From products in floating point to layers in integers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from xbarsim.design import Design
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import QuantisedMatrix
from xbarsim.network.layers import QuantisedLayer
from xbarsim.network.lowered import Product
from xbarsim.network.ranges import InputRange, Seen

__all__ = ["quantise"]


def quantise(
    products: Mapping[str, Product], seen: Mapping[str, Seen], ranges: InputRange, design: Design
) -> dict[str, QuantisedLayer]:
    """Cut weights, and the inputs that were seen, into the codes of a design.

    Parameters
    ----------
    products
        By name.
    seen
        What was seen of the inputs of those to quantise, in the order of the network.
    ranges
        How the range of inputs is chosen from that.
    design
        Gives the bits of both.

    Raises
    ------
    InputError
        If a weight or bias is not finite, if inputs are signed and have one bit, or if weights that come as integers do
        not fit or are to be clipped.
    """
    return {name: _quantise_product(name, products[name], each, ranges, design) for name, each in seen.items()}


def _quantise_product(name: str, product: Product, seen: Seen, ranges: InputRange, design: Design) -> QuantisedLayer:
    signed = seen.low < 0
    bits = min(design.periphery.input_bits, product.input_bits or design.periphery.input_bits)
    if signed and bits < 2:
        raise InputError(f"input_bits must be >= 2 for layer {name!r}, whose inputs are signed, got {bits}")
    limit = None if product.input_limit is None or product.input_limit < seen.largest else product.input_limit
    largest_code = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    if not np.isfinite(product.bias).all():
        raise InputError(f"bias of layer {name!r} must be finite, got NaN or infinity")
    weights = _codes(name, product, design)
    scale = product.input_scale
    if scale is None:
        scale = (ranges.limit(seen, largest_code) if limit is None else limit) / largest_code
    return QuantisedLayer(
        name=name,
        adapter=product.adapter,
        codes=weights.codes,
        weight_scale=weights.scale,
        bias=product.bias,
        input_scale=scale,
        input_bits=bits,
        signed=signed,
        window=product.window,
        groups=product.groups,
        output_names=product.output_names,
        divisors=product.divisors,
    )


def _codes(name: str, product: Product, design: Design) -> QuantisedMatrix:
    """The codes of the weights: those that the network comes with, or the nearest."""
    bits, given = design.mapping.weight_bits, product.given
    if given is None:
        try:
            return design.mapping.quantise(product.weights)
        except InputError as error:
            raise InputError(f"layer {name!r}: {error}") from error
    if design.mapping.weight_clip is not None:
        raise InputError(
            f"weight_clip must be None for layer {name!r}, whose weights come as integers, got "
            f"{design.mapping.weight_clip}"
        )
    largest = int(np.abs(given.codes).max())
    if largest > 2 ** (bits - 1) - 1:
        raise InputError(
            f"weight_bits must be >= {largest.bit_length() + 1} for layer {name!r}, whose weights come as integers "
            f"from {given.codes.min()} to {given.codes.max()}, got {bits}"
        )
    return QuantisedMatrix(codes=given.codes, scale=given.scale, bits=bits)
