"""A plan: one way of computing a layer of a die, and when it is exact."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.engine import memory
from xbarsim.engine.backends import Backend, BlockingProgram, CompiledBackend, Program
from xbarsim.engine.case import Case
from xbarsim.engine.layout import Layout, read_columns
from xbarsim.engine.maps import BlockedMaps
from xbarsim.engine.window import Scaling, Window
from xbarsim.foundation.entrances import entrance

__all__ = ["Plan", "input_offset", "planes_layout"]

FloatArray = npt.NDArray[np.float64]


class Plan(metaclass=ABCMeta):
    """One layer of one die, ready to multiply.

    A new plan is one class with this base, which says for which cases it is exact (:meth:`misfit`) and what has to be
    computed then (:meth:`layout`); :func:`xbarsim.engine.choose_plan` takes the first of its ordered list that fits.
    :func:`xbarsim.testing.check_plan` tells whether it keeps its promise.

    Parameters
    ----------
    case
        A case that the plan fits.
    reason
        Why this plan was chosen, in words.
    backend
        What computes it; by default the project's own kernels.

    Attributes
    ----------
    name
        What tables call it.
    """

    name: ClassVar[str]

    def __init__(self, case: Case, reason: str = "", backend: Backend | None = None) -> None:
        self.reason = reason
        self._drive = case.drive
        self._outputs = case.reading.matrix.shape[1]
        self._program = (backend or CompiledBackend()).prepare(self.layout(case))

    @classmethod
    @abstractmethod
    def misfit(cls, case: Case) -> str | None:
        """Why this plan cannot compute a case exactly, in words; ``None`` where it can."""

    @classmethod
    @abstractmethod
    def layout(cls, case: Case) -> Layout:
        """What has to be computed for a case that fits."""

    @property
    def program(self) -> Program:
        """The layout as its backend made it ready to run."""
        return self._program

    @property
    def kernel(self) -> str:
        """What runs it: ``"products"``, ``"quads"``, ``"pairs"``, ``"look-up"``, ``"popcount"``, or another backend."""
        return self._program.kernel

    def multiply(self, codes: npt.NDArray[np.integer[Any]], *, first_image: int = 0) -> FloatArray:
        """Multiply input codes with the layer's matrix as this die does it.

        Parameters
        ----------
        codes
            Integer codes, shape ``(images, positions, inputs)``.
        first_image
            Number of the first image in its data set; read noise is drawn by image number.

        Returns
        -------
        ndarray
            Shape ``(images, positions, outputs)``, float64, in units of input code times weight code.
        """
        images, positions, inputs = codes.shape
        result = np.empty((images, self._outputs, positions))
        maps = codes.reshape(images, 1, positions, inputs).astype(np.float32)
        unscaled = Scaling.none(self._drive, self._outputs)
        self._program.run(maps, Window(kernel=(1, inputs)), unscaled, result, first_image)
        return np.ascontiguousarray(result.transpose(0, 2, 1))

    def run(
        self, maps: npt.NDArray[np.float32], window: Window, scaling: Scaling, *, first_image: int = 0
    ) -> tuple[npt.NDArray[np.float32], bool]:
        """Run a layer on activations: quantise, pad, multiply, scale.

        Parameters
        ----------
        maps
            Shape ``(images, channels, height, width)``.
        window
            Kernel, stride, dilation and zero padding.
        scaling
            Codes of the activations, and scale and bias of the outputs.
        first_image
            As for :meth:`multiply`.

        Returns
        -------
        ndarray
            Float32, shape ``(images, outputs, out height, out width)``.
        bool
            Whether all activations were finite.
        """
        height, width = window.output_size(*maps.shape[2:])
        result = memory.array((len(maps), self._outputs, height, width))
        flat = result.reshape(len(maps), self._outputs, -1)
        return result, self._program.run(maps, window, scaling, flat, first_image)

    @property
    def blocks(self) -> bool:
        """Whether it takes and gives feature maps with 16 images side by side (:meth:`run_blocked`)."""
        return isinstance(self._program, BlockingProgram)

    def run_blocked(
        self,
        maps: npt.NDArray[np.float32] | BlockedMaps,
        window: Window,
        scaling: Scaling,
        *,
        first_image: int = 0,
    ) -> tuple[BlockedMaps, bool]:
        """As :meth:`run`, with the answer in blocks; the same numbers. Only where it :attr:`blocks`."""
        assert isinstance(self._program, BlockingProgram)
        return self._program.run_blocked(maps, window, scaling, first_image)


@entrance
def input_offset(case: Case, column_sums: npt.NDArray[Any]) -> FloatArray | None:
    """What the offset of signed inputs adds to each output, given its column's sum; ``None`` where there is none."""
    offset = case.drive.input_offset
    return float(offset) * column_sums.astype(np.float64) if offset else None


@entrance
def planes_layout(case: Case, *, bits: bool = False) -> Layout:
    """Every plane of every pass on its own, a converter at every read.

    Parameters
    ----------
    case
        The layer.
    bits
        Whether all values are whole and within the levels of a cell.
    """
    reading, drive = case.reading, case.drive
    matrix = reading.matrix
    columns = tuple(read_columns(reading, drive, case.cells))
    offset, weights = (None, None) if case.errors is None else (case.errors.offset, case.errors.weights)
    variances: tuple[tuple[int, tuple[FloatArray, ...]], ...] = ()
    if case.noise is not None:
        variances = tuple(
            (power, tuple(group.values for group in read_columns(reading, drive, held, added=True)))
            for power, held in case.noise.coefficients()
        )
    row_groups = drive.row_group_count(matrix.mapping.rows)
    return Layout(
        kind="bits" if bits else "planes",
        drive=drive,
        converter=case.converter,
        single=not reading.paired,
        columns=columns,
        inputs=matrix.shape[0],
        outputs=matrix.shape[1],
        shift=reading.shift,
        constant=input_offset(case, -matrix.code_sums),
        precision=case.precision,
        offsets=None if offset is None else tuple(offset[group.tiles, group.reads] for group in columns),
        bits=None if weights is None else tuple(weights[g.tiles, g.reads % reading.reads] for g in columns),
        noise=case.noise,
        variances=variances,
        draws=(drive.passes, drive.planes, matrix.tiles, reading.reads * row_groups),
    )
