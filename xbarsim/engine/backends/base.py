"""What stands between a plan and the code that computes it."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from xbarsim.engine.layout import Layout
from xbarsim.engine.maps import BlockedMaps
from xbarsim.engine.window import Scaling, Window

__all__ = ["Backend", "BlockingProgram", "Program"]


class Program(Protocol):
    """A layout that was made ready to run."""

    @property
    def kernel(self) -> str:
        """What runs it, in a word."""

    def run(
        self,
        maps: npt.NDArray[np.float32],
        window: Window,
        scaling: Scaling,
        result: npt.NDArray[Any],
        first_image: int,
    ) -> bool:
        """Run a layer on activations: quantise, pad, multiply, scale.

        Parameters
        ----------
        maps
            Feature maps, shape ``(images, channels, height, width)``.
        window
            Kernel, stride, dilation and zero padding.
        scaling
            Codes of the activations, and scale and bias of the outputs.
        result
            Filled, shape ``(images, outputs, positions)``; its type, float32 or float64, says the precision of the
            answer.
        first_image
            Number of the first image in its data set; read noise is drawn by image number.

        Returns
        -------
        bool
            Whether all activations were finite.
        """


@runtime_checkable
class BlockingProgram(Program, Protocol):
    """A program that takes and gives feature maps with 16 images side by side, too."""

    def run_blocked(
        self,
        maps: npt.NDArray[np.float32] | BlockedMaps,
        window: Window,
        scaling: Scaling,
        first_image: int,
    ) -> tuple[BlockedMaps, bool]:
        """As :meth:`Program.run`, with the answer in blocks."""


@runtime_checkable
class Backend(Protocol):
    """Makes programs of layouts; the same answers on every backend, bit for bit where values are whole.

    A backend says for itself what it can run: :meth:`prepare` raises
    :class:`~xbarsim.foundation.validation.InputError` for a layout that it cannot. What a plane of codes adds to the
    sums is :meth:`xbarsim.design.Drive.carried` of it, which is not always the codes.
    """

    @property
    def name(self) -> str:
        """What users call it."""

    def prepare(self, layout: Layout) -> Program:
        """Make a layout ready to run."""
