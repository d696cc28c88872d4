"""What a lowering is: how a module that torch computes in one fused function becomes modules made of products."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar

from torch import nn

__all__ = ["Lowering"]


class Lowering(metaclass=ABCMeta):
    """How modules of one type are replaced by a module made of linear products and digital operations.

    Attributes
    ----------
    handles : type
        The type of module.
    """

    handles: ClassVar[type[nn.Module]]

    def misfit(self, module: Any) -> str | None:
        """Why this module stays digital though it is of the type, in a few words, or ``None``."""
        return None

    @abstractmethod
    def lower(self, module: Any) -> nn.Module:
        """A module that computes the same in evaluation mode.

        Parameters
        ----------
        module
            float32, on the CPU; it is not changed. Of a kind that :meth:`misfit` says nothing against.
        """
