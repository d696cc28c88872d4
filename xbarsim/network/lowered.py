"""A network whose products are known: what both doors, torch and ONNX, hand on to be mapped."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.cost import DigitalUse
from xbarsim.engine import Window
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_integer
from xbarsim.network.layers.base import LayerAdapter
from xbarsim.network.skeleton import Skeleton

__all__ = ["GivenCodes", "Lowered", "NotMapped", "Product"]


@dataclass(frozen=True, kw_only=True, eq=False)
class GivenCodes:
    """Weights that a network comes with as integers: they are ``codes * scale``, and stay as they are.

    Attributes
    ----------
    codes
        Integers, shape ``(inputs, outputs)``.
    scale
        Weight of one code, shape ``(outputs,)``, positive.
    """

    codes: npt.NDArray[np.int32]
    scale: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Product:
    """A product with trained weights: what a part of a network computes, in the terms of the crossbars.

    Attributes
    ----------
    weights
        Floating, shape ``(inputs, outputs)``; the inputs are ordered channel, row and column of the window, and groups
        stand on the diagonal.
    bias
        Added to the outputs, shape ``(outputs,)``; one number for all of them is made as many.
    adapter
        How activations become feature maps, and back.
    window
        How the inputs of each product are picked from feature maps.
    groups
        Groups of a convolution: channels and outputs are cut into as many blocks, and each block of outputs has weights
        for its block of channels alone.
    output_names
        Names of equal blocks of outputs, in order, such as the gates of a recurrent layer; empty for none.
    given
        The weights as integers, where the network has them so; ``None`` to quantise them.
    input_scale
        Activation of one input code, where the network says it; ``None`` for what the calibration gives.
    input_limit
        The largest magnitude that inputs can have, such as 1 for a hidden state: their range, whatever calibration
        samples show; ``None`` where only these say.
    input_bits
        Bits that tell all inputs apart, such as 1 for spikes: a design that drives more drives as many; ``None`` for
        those of the design.
    divisors
        What each input channel is divided by digitally before it is driven; the weights are as many times larger.
        ``None`` for nothing.
    """

    weights: npt.NDArray[np.floating[Any]]
    bias: npt.NDArray[np.float32]
    adapter: LayerAdapter
    window: Window
    groups: int = 1
    output_names: tuple[str, ...] = ()
    given: GivenCodes | None = None
    input_scale: float | None = None
    input_limit: float | None = None
    input_bits: int | None = None
    divisors: npt.NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        if self.weights.ndim != 2:
            raise InputError(f"weights must have shape (inputs, outputs), got {self.weights.shape}")
        if self.input_bits is not None:
            check_integer("input_bits", self.input_bits, at_least=1, at_most=16)
        outputs = self.weights.shape[1]
        if self.bias.size not in (1, outputs):
            raise InputError(f"bias must be one number or one for each of {outputs} outputs, got {self.bias.shape}")
        # kernels read one number an output: a bias that torch or ONNX would spread must not be left short
        object.__setattr__(self, "bias", np.broadcast_to(self.bias.reshape(-1), outputs).astype(np.float32))


@dataclass(frozen=True, kw_only=True)
class NotMapped:
    """A module with weights that stays digital, or a product that does.

    Attributes
    ----------
    name
        Its name in the model.
    kind
        Its type.
    parameters
        How many weights it holds.
    reason
        Why, in a few words.
    """

    name: str
    kind: str
    parameters: int
    reason: str

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class Lowered:
    """A network whose products are known.

    Attributes
    ----------
    skeleton
        What it does between them.
    products
        By name, in the order of their first use.
    not_mapped
        What holds weights and is no product.
    notes
        What a user should know.
    digital_work
        What it computes digitally for one sample, counted.
    """

    skeleton: Skeleton
    products: Mapping[str, Product]
    not_mapped: tuple[NotMapped, ...] = ()
    notes: tuple[str, ...] = ()
    digital_work: tuple[DigitalUse, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)

    @entrance
    def without(self, reasons: Mapping[str, str]) -> Lowered:
        """The same with some products left digital, for these reasons."""
        digital = tuple(
            NotMapped(
                name=name,
                kind=self.products[name].adapter.kind,
                parameters=self.products[name].weights.size // self.products[name].groups,
                reason=reason,
            )
            for name, reason in reasons.items()
        )
        kept = {name: product for name, product in self.products.items() if name not in reasons}
        return replace(self, products=kept, not_mapped=(*self.not_mapped, *digital))
