"""Torch functions that multiply with a matrix: how each is read as a product; one file a family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xbarsim.network.lowering.products.base import Call, ProductFunction, bind, is_vectorised
from xbarsim.network.lowering.products.contraction import ContractionFunction
from xbarsim.network.lowering.products.convolution import ConvolutionFunction
from xbarsim.network.lowering.products.linear import LinearFunction, MatrixFunction
from xbarsim.network.lowering.products.transposed import TransposedFunction

__all__ = ["READERS", "Call", "ProductFunction", "bind", "is_vectorised"]

READERS: dict[Callable[..., Any], ProductFunction] = {
    function: reader
    for reader in (
        LinearFunction(),
        MatrixFunction(),
        ContractionFunction(),
        ConvolutionFunction(),
        TransposedFunction(),
    )
    for function in reader.functions
}
"""How a call of each function is read."""
