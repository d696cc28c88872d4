"""What a lowering is: how one type of module that torch computes as a whole becomes products and digital operations."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar

from torch import nn

__all__ = ["Lowering"]


class Lowering(metaclass=ABCMeta):
    """How modules of one type become modules whose products can be seen.

    Products with trained weights are seen as a model calls them: linear layers, convolutions and matrix products need
    no lowering, whatever module they stand in. What torch computes in one fused function, such as a recurrent layer,
    has to be taken apart first. A new lowering is a class with this base, entered by
    :func:`xbarsim.network.lowering.register`; :func:`xbarsim.testing.network.check_lowering` tells whether it keeps its
    promises.

    Attributes
    ----------
    handles : type
        The type of module, exactly: a subclass may compute something else, and is left alone.
    """

    handles: ClassVar[type[nn.Module]]

    @abstractmethod
    def lower(self, module: Any) -> nn.Module:
        """A module that computes the same from linear layers, convolutions, matrix products and digital operations.

        A linear layer in it may have an attribute ``output_names``, a tuple of texts that name equal blocks of its
        outputs, in order: reports then say how far each is off; an attribute ``input_limit``, the largest magnitude
        that its inputs can have, such as 1 for a hidden state behind a tanh; and an attribute ``input_bits``, the bits
        that tell its inputs apart where they are fewer than the design drives, such as 1 for spikes.

        Parameters
        ----------
        module
            In evaluation mode, float32, on the CPU; not to be changed. Of a kind that :meth:`misfit` says nothing
            against.
        """

    def misfit(self, module: Any) -> str | None:
        """Why this module stays digital though it is of the type, in a few words, or ``None``."""
        return None
