"""What a network computes outside its crossbars, counted; and what that takes where a card has prices for it.

A product with trained weights goes on crossbars; what stands between products stays digital: norms, activations,
attention scores, gates of recurrent layers, embeddings, and layers that are not mapped. None of it is free, so all of
it is counted, by kind of operation and by name.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xbarsim.cost.scaling import energy_factor
from xbarsim.cost.units import ENERGY, LENGTH
from xbarsim.cost.values import Reference, SourcedValue, check_dimension, check_sources, check_text
from xbarsim.foundation.cards import CardFolder
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_choice, check_count, check_instance, check_integer

__all__ = ["OPERATIONS", "DigitalCard", "DigitalPrices", "DigitalUse", "digital_names", "operations_of"]

OPERATIONS = ("multiply_accumulates", "elementwise", "nonlinear", "comparisons", "lookups", "state_accesses")
"""The kinds of digital operation, in the order of every table."""


@dataclass(frozen=True, kw_only=True)
class DigitalUse:
    """What one module or operation of a network computes digitally for one image.

    Attributes
    ----------
    name
        Where in the network it stands; an empty one becomes ``"(model)"``. Names may come more than once.
    kind
        What it is, as a user knows it: ``"LayerNorm"``, ``"softmax"``, ``"Linear, not mapped"``.
    parameters
        Numbers that it holds: embeddings, norms, weights and biases that are not on crossbars.
    multiply_accumulates
        Multiplications of which the results are added up, such as Q K^T.
    elementwise
        Additions, subtractions, multiplications and divisions of single values.
    nonlinear
        Values of functions that take more than one such operation: exp, tanh, erf, sigmoid, square root.
    comparisons
        Of two values: rectifiers, clipping, maxima, pooling by them.
    lookups
        Values read from a table, such as the elements of an embedded vector.
    state_accesses
        Reads and writes of values that are kept from one time step to the next, such as membranes and hidden states:
        two a value and step.

    Raises
    ------
    InputError
        For a count that is negative, NaN or infinite, or a name or kind that is no text.

    Notes
    -----
    Counts may be fractions: means over images of what only some of them need.

    Examples
    --------
    Attention scores of 4 heads over 16 positions of 8 values, and their softmax:

    >>> DigitalUse(name="encoder.attention", kind="scores", multiply_accumulates=4 * 16 * 16 * 8).operations
    8192
    >>> DigitalUse(name="encoder.attention", kind="softmax", nonlinear=1024, elementwise=2048).operations
    3072
    """

    name: str
    kind: str
    parameters: int = 0
    multiply_accumulates: float = 0
    elementwise: float = 0
    nonlinear: float = 0
    comparisons: float = 0
    lookups: float = 0
    state_accesses: float = 0

    def __post_init__(self) -> None:
        check_instance("name", self.name, str)
        if not self.name:
            object.__setattr__(self, "name", "(model)")
        check_text("name", self.name)
        check_text(f"{self.name}: kind", self.kind)
        parameters = check_integer(f"{self.name}: parameters", self.parameters, at_least=0)
        object.__setattr__(self, "parameters", parameters)
        for operation in OPERATIONS:
            count = check_count(f"{self.name}: {operation}", getattr(self, operation))
            object.__setattr__(self, operation, count)

    @property
    def operations(self) -> float:
        """Operations of all kinds; a multiply-accumulate is one."""
        return added(getattr(self, operation) for operation in OPERATIONS)


def added(counts: Iterable[float]) -> float:
    """The sum of counts: an integer where all are, else correctly rounded."""
    kept = list(counts)
    return sum(kept) if all(isinstance(count, int) for count in kept) else math.fsum(kept)


def operations_of(uses: Iterable[DigitalUse]) -> dict[str, float]:
    """Operations by kind, over some digital uses."""
    kept = tuple(uses)
    return {operation: added(getattr(use, operation) for use in kept) for operation in OPERATIONS}


@dataclass(frozen=True, kw_only=True)
class DigitalPrices:
    """Energy of digital operations.

    Attributes
    ----------
    technology_node
        Of the values, which are scaled to the node of the hardware, see :mod:`xbarsim.cost.scaling`.
    multiply_accumulates, elementwise, nonlinear, comparisons, lookups, state_accesses
        Energy of one operation of each kind; ``None`` where the source has none: such operations are counted and not
        priced, and reports say so.

    Notes
    -----
    An accelerator's card may charge units of its own for every output (ISAAC: sigmoid and maximum pooling, buffers that
    hold what drives an array); prices add to these.
    """

    technology_node: SourcedValue
    multiply_accumulates: SourcedValue | None = None
    elementwise: SourcedValue | None = None
    nonlinear: SourcedValue | None = None
    comparisons: SourcedValue | None = None
    lookups: SourcedValue | None = None
    state_accesses: SourcedValue | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_dimension("digital.technology_node", self.technology_node.unit, LENGTH, "nm")
        energy_factor(self.technology_node.si, self.technology_node.si)
        for operation in OPERATIONS:
            price = getattr(self, operation)
            check_instance(f"digital.{operation}", price, (SourcedValue, type(None)))
            if price is not None:
                check_dimension(f"digital.{operation}", price.unit, ENERGY, "pJ")
        if not any(getattr(self, operation) is not None for operation in OPERATIONS):
            raise InputError(f"digital must have a price for one of {', '.join(OPERATIONS)}, got none")

    def energy(self, operation: str, node: float) -> float | None:
        """Energy of one operation at a technology node (m), J; ``None`` where it has no price."""
        price = getattr(self, check_choice("operation", operation, OPERATIONS))
        return None if price is None else float(price.si * energy_factor(self.technology_node.si, node))

    def sourced_values(self) -> Iterator[tuple[str, Any, Any]]:
        """Its values: name, value, and what holds its unit and source."""
        for name in ("technology_node", *OPERATIONS):
            sourced = getattr(self, name)
            if sourced is not None:
                yield f"digital.{name}", sourced.value, sourced


@dataclass(frozen=True, kw_only=True)
class DigitalCard:
    """Prices of digital operations for a hardware card that has none, see :meth:`xbarsim.cost.Hardware.with_digital`.

    Attributes
    ----------
    name
        The card's name.
    description
        One line.
    digital
        The prices.
    references
        Sources of its values.
    """

    name: str
    description: str
    digital: DigitalPrices
    references: tuple[Reference, ...]

    def __post_init__(self) -> None:
        check_fields(self)
        check_text("name", self.name)
        check_sources([(name, sourced.source) for name, _, sourced in self.digital.sourced_values()], self.references)

    @classmethod
    @entrance
    def load(cls, name_or_path: str | os.PathLike[str]) -> DigitalCard:
        """Read a card: a name from :func:`digital_names`, or a path ending in ``.toml``.

        Raises
        ------
        InputError
            If no card has that name, or a value in it is out of bounds.
        FileFormatError
            If the card cannot be read, is not TOML, or has unknown keys or wrong types.
        """
        return CARDS.load(name_or_path)


#: The cards of digital operations that come with the project.
CARDS = CardFolder("digital", DigitalCard, Path(__file__).parent / "cards", ending=".digital.toml", undated=True)


def digital_names() -> list[str]:
    """The names of the cards of digital operations that come with the project, sorted."""
    return CARDS.names()
