"""From products in floating point to layers in integers."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from xbarsim.design import Design
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import quantise as quantise_matrix
from xbarsim.network.calibrate import input_ranges
from xbarsim.network.layers import QuantisedLayer
from xbarsim.network.lowering import Lowered, Product

__all__ = ["quantise"]


def quantise(lowered: Lowered, images: Tensor, design: Design) -> dict[str, QuantisedLayer]:
    """Cut weights, and the inputs that calibration images give, into the codes of a design.

    Parameters
    ----------
    lowered
        The model and its products.
    images
        Calibration images, float32.
    design
        Gives the bits of both.

    Returns
    -------
    dict
        The products that some image reaches, by name, in the order of their first use.

    Raises
    ------
    InputError
        If the images do not fit the model, reach no product or leave the inputs of one at zero; if a weight or bias is
        not finite; or if inputs are signed and have one bit.
    """
    ranges = input_ranges(lowered.model, lowered.products, images)
    return {
        name: _quantise_product(name, lowered.products[name], low, high, design) for name, (low, high) in ranges.items()
    }


def _quantise_product(name: str, product: Product, low: float, high: float, design: Design) -> QuantisedLayer:
    signed = low < 0
    bits = design.periphery.input_bits
    if signed and bits < 2:
        raise InputError(f"input_bits must be >= 2 for layer {name!r}, whose inputs are signed, got {bits}")
    largest = max(abs(low), abs(high))
    if largest == 0.0:
        raise InputError(f"calibration must drive layer {name!r}, got inputs that are all 0")
    if not np.isfinite(product.bias).all():
        raise InputError(f"bias of layer {name!r} must be finite, got NaN or infinity")
    try:
        weights = quantise_matrix(product.weights, bits=design.mapping.weight_bits, per=design.mapping.weight_scale)
    except InputError as error:
        raise InputError(f"layer {name!r}: {error}") from error
    return QuantisedLayer(
        name=name,
        adapter=product.adapter,
        codes=weights.codes,
        weight_scale=weights.scale,
        bias=product.bias,
        input_scale=largest / (2 ** (bits - 1) - 1 if signed else 2**bits - 1),
        input_bits=bits,
        signed=signed,
        window=product.window,
        groups=product.groups,
    )
