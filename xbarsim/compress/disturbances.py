"""What befalls the weights of a network at each step of its training, as it will on the hardware.

Training that meets other faults at every step makes a network that bears those of a die which nobody has tested.
Faults of the encoding (:class:`Injection`) are those of a die as it is made; lost weights (:class:`LostWeights`) are
what is left of them where the healthy partner of a stuck cell can be programmed anew.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping as MappingType
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xbarsim.compress.layers import gemm_view
from xbarsim.design import Design
from xbarsim.devices import FaultMap, FaultModel
from xbarsim.die import program
from xbarsim.foundation import tomlio
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real
from xbarsim.mapping import Encoding, Mapping, map_matrix
from xbarsim.mapping.packing import packing

__all__ = ["Disturbance", "Injection", "LostWeights", "Rates"]

_Indices: TypeAlias = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True, kw_only=True)
class Rates:
    """The rate of failures that a training meets, step by step.

    Attributes
    ----------
    largest
        The highest rate, 0 to 1.
    law
        ``"fixed"``: `largest` at every step. ``"uniform"``: drawn anew for every die, from 0 to `largest`. ``"ramp"``:
        rising in a straight line from 0, `largest` from step `ramp_steps` on.
    ramp_steps
        Of ``"ramp"``; 0 otherwise.

    Raises
    ------
    InputError
        If a value is out of its bound, or `ramp_steps` does not go with `law`.

    Examples
    --------
    >>> rates = Rates(law="ramp", largest=0.02, ramp_steps=100)
    >>> [rates.at(step, die=step, seed=0) for step in (0, 50, 100, 1000)]
    [0.0, 0.01, 0.02, 0.02]
    """

    largest: float
    law: Literal["fixed", "uniform", "ramp"] = "fixed"
    ramp_steps: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "largest", check_real("largest", self.largest, at_least=0.0, at_most=1.0))
        check_choice("law", self.law, ("fixed", "uniform", "ramp"))
        check_integer("ramp_steps", self.ramp_steps, at_least=0)
        if (self.law == "ramp") != bool(self.ramp_steps):
            raise InputError(f"ramp_steps must be >= 1 for 'ramp' and 0 otherwise, got {self.ramp_steps}")

    @entrance
    def at(self, step: int, *, die: int, seed: int) -> float:
        """The rate of a step, on a die of this number; `seed` is the root of what is drawn."""
        if self.law == "ramp":
            return self.largest * min(1.0, step / self.ramp_steps)
        if self.law == "uniform":
            rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(die,)))
            return self.largest * float(rng.random())
        return self.largest


class Disturbance(ABC):
    """What :class:`Hardening` does to the weights that a network computes with, in training mode.

    A function of the weights and the step: a training that goes on from a checkpoint meets what it would have met.
    """

    @abstractmethod
    def text(self) -> str:
        """What a checkpoint remembers of it."""

    @abstractmethod
    def read_back(self, weights: Tensor, *, layer: str, index: int, step: int) -> Tensor:
        """The weights that the network computes with.

        Parameters
        ----------
        weights
            A layer's weight, any shape whose first dimension counts outputs; not changed.
        layer, index
            Name and number of the layer.
        step
            The training step.

        Returns
        -------
        torch.Tensor
            Of the same shape, type and device.
        """

    def moves(self, weights: Tensor, *, layer: str, index: int, step: int) -> Tensor | None:
        """Where a change of a weight can change what the network computes with: bool of the weight's shape.

        ``None`` for everywhere. Elsewhere the weight gets no gradient.
        """
        return None


@dataclass(frozen=True, kw_only=True, eq=False)
class Injection(Disturbance):
    """Programming errors and stuck cells that the weights meet at every training step, as on a die of a design.

    The cells are those that :func:`xbarsim.map_model` would take for the weights of the moment, encoded, tiled and
    packed; what they hold is read back as weights. Wires, converters and read noise take no part.

    Attributes
    ----------
    design
        Gives cell, mapping and fault model.
    dies
        How many different dies the training meets in turn; ``None`` for one that is never met again, each time.
    every
        Steps between dies.
    seed
        Root of all dies.
    rates
        Share of broken cells, step by step, instead of that of the design's fault model.
    faults
        Known fault maps by layer name, used on every die instead of the design's fault model: those of a chip in hand,
        ``chip.faults``. A batch norm with a negative scale swaps the cells of a pair when it is folded, so such a
        network is folded before it is trained for a chip in hand.
    copies
        How many times every weight stands on a die, with other faults: what is read is the mean of its copies, as with
        :class:`xbarsim.mitigation.AverageCopies`.

    Raises
    ------
    InputError
        If a number is out of its bound, or `rates` or `copies` come with known faults, or `rates` without a fault
        model.
    """

    design: Design
    dies: int | None = None
    every: int = 1
    seed: int = 0
    rates: Rates | None = None
    faults: MappingType[str, FaultMap] | None = None
    copies: int = 1

    def __post_init__(self) -> None:
        check_instance("design", self.design, Design)
        if self.dies is not None:
            check_integer("dies", self.dies, at_least=1)
        check_integer("every", self.every, at_least=1)
        check_integer("seed", self.seed, at_least=0)
        check_integer("copies", self.copies, at_least=1)
        if self.copies > 1 and self.faults is not None:
            raise InputError(f"copies must be 1 with known faults, which are those of one copy, got {self.copies}")
        check_instance("rates", self.rates, (Rates, type(None)))
        if self.rates is not None:
            if self.faults is not None:
                raise InputError("rates must be None with known faults: these are what they are")
            if self.design.faults is None:
                raise InputError("design must have a fault model whose rate can be set, got faults None")
            self.design.faults.with_total(self.rates.largest)  # refuses what the model cannot give

    def text(self) -> str:
        """What a checkpoint remembers of it."""
        known = None if self.faults is None else sorted((name, faults.hash) for name, faults in self.faults.items())
        rates = "" if self.rates is None else f" rates={self.rates}"
        copies = "" if self.copies == 1 else f" copies={self.copies}"
        return (
            f"{tomlio.to_table(self.design)} dies={self.dies} every={self.every} seed={self.seed} faults={known}"
            f"{rates}{copies}"
        )

    @entrance
    def die(self, step: int) -> int:
        """Number of the die that a step meets."""
        count = step // self.every
        return count if self.dies is None else count % self.dies

    @entrance
    def read_back(self, weights: Tensor, *, layer: str, index: int, step: int) -> Tensor:
        """The weights that a die's cells stand for.

        Where programming is exact and no reference column is shared, only stuck cells are looked at: the work is that
        of quantising, and of the cells that are stuck. Otherwise every cell is placed and programmed. Both draw the
        same dies.

        Parameters
        ----------
        weights
            A layer's weight, any shape whose first dimension counts outputs; not changed.
        layer, index
            Name and number of the layer.
        step
            The training step.

        Returns
        -------
        torch.Tensor
            Of the same shape, type and device. The difference from `weights` holds programming errors and stuck cells,
            and not the quantisation to the design's levels, nor what its `weight_clip` takes off:
            :class:`Hardening` clips.

        Raises
        ------
        InputError
            If a known fault map has another shape than the layer's tiles.
        """
        die = self.die(step)
        faults: FaultMap | FaultModel | None = None if self.faults is None else self.faults.get(layer)
        if faults is None:
            faults = self.design.faults
            if self.rates is not None:
                assert faults is not None
                faults = faults.with_total(self.rates.at(step, die=die, seed=self.seed))
        read = _with_stuck_cells if self._exact else _with_every_cell
        mean = torch.zeros_like(weights)
        for copy in range(self.copies):
            key = (die, index) if copy == 0 else (die, index, copy)
            rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=key))
            one = read(weights.detach(), self.design, faults, rng, layer)
            if self.copies == 1:
                return one
            mean.add_(one, alpha=1.0 / self.copies)
        return mean

    @property
    def _exact(self) -> bool:
        """Whether a cell that is not stuck holds its level, and serves one weight alone."""
        return self.design.cell.programming_error is None and not self.design.mapping.has_reference

    @entrance
    def moves(self, weights: Tensor, *, layer: str, index: int, step: int) -> Tensor | None:
        """Where a change of a weight can change what is read back, with known faults: bool of the weight's shape.

        A weight moves unless neither of the codes beside its own would be read as another one. ``None`` for everywhere:
        without known faults, and where programming errs or a reference column is shared.
        """
        known = None if self.faults is None else self.faults.get(layer)
        if known is None or not self._exact:
            return None
        hit = _hit(weights.detach(), self.design, known, None, layer)
        free = torch.ones(gemm_view(weights).shape, dtype=torch.bool, device=weights.device)
        if hit is not None:
            largest = self.design.mapping.max_weight
            read = hit.codes + hit.error(self.design.mapping, hit.codes)
            fixed = np.ones(len(hit.index), dtype=bool)
            for beside in (np.maximum(hit.codes - 1, -largest), np.minimum(hit.codes + 1, largest)):
                fixed &= beside + hit.error(self.design.mapping, beside) == read
            free.view(-1)[torch.from_numpy(hit.index[fixed]).to(free.device)] = False
        return free.reshape(weights.shape)

    @entrance
    def nearest(self, weights: Tensor, *, layer: str) -> Tensor:
        """Weights to write so that a die with known faults reads as nearly as it can what was wanted.

        Weights with stuck cells get the code that is read as the nearest one, the next one to their own of several.
        The encoding stays as it is, so that any chip of the design writes them. A weight that sets the full scale of
        its output (or its layer) stays, for all others are measured by it.

        Parameters
        ----------
        weights
            A layer's weight, as for :meth:`read_back`; not changed.
        layer
            Name of the layer; without a known map nothing changes.

        Returns
        -------
        torch.Tensor
            Of the same shape, type and device.

        Raises
        ------
        InputError
            If a known fault map has another shape than the layer's tiles, programming errs or a reference column is
            shared.
        """
        if not self._exact:
            raise InputError("design must have cells without programming_error and no shared reference column")
        mapping = self.design.mapping
        known = None if self.faults is None else self.faults.get(layer)
        hit = None if known is None else _hit(weights.detach(), self.design, known, None, layer)
        changed = gemm_view(weights.detach()).clone(memory_format=torch.contiguous_format).view(-1)
        if hit is None:
            return changed.reshape(weights.shape)
        best, least = hit.codes.copy(), np.abs(hit.error(mapping, hit.codes))
        for code in range(-mapping.max_weight, mapping.max_weight + 1):
            tried = np.full(len(best), code)
            off = np.abs(tried + hit.error(mapping, tried) - hit.codes)
            nearer = np.abs(tried - hit.codes) < np.abs(best - hit.codes)
            better = (off < least) | ((off == least) & nearer)
            best[better], least[better] = code, off[better]
        best = np.where(np.abs(hit.codes) == mapping.max_weight, hit.codes, best)
        other = np.flatnonzero(best != hit.codes)
        values = torch.from_numpy((best * hit.scale)[other]).to(changed)
        changed[torch.from_numpy(hit.index[other]).to(changed.device)] = values
        return changed.reshape(weights.shape)


def _check_faults(layer: str, faults: FaultMap | FaultModel | None, shape: tuple[int, ...]) -> None:
    if isinstance(faults, FaultMap) and faults.shape != shape:
        raise InputError(f"faults of layer {layer!r} must have shape {shape}, got {faults.shape}")


def _with_every_cell(
    weights: Tensor, design: Design, faults: FaultMap | FaultModel | None, rng: np.random.Generator, layer: str
) -> Tensor:
    """Weights read back from cells that are all placed, programmed and decoded: for any cell and any encoding."""
    mapping = design.mapping
    matrix = gemm_view(weights).T.to("cpu", torch.float64).numpy()
    quantised = mapping.quantise(matrix)
    placed = map_matrix(quantised.codes, mapping)
    _check_faults(layer, faults, placed.levels.shape)
    cells = program(placed.levels, design.cell, mapping.cell_bits, rng, faults=faults)
    error = (placed.decode(cells) - quantised.codes) * quantised.scale
    return weights + torch.from_numpy(error.T.reshape(tuple(weights.shape))).to(weights)


@dataclass(frozen=True, eq=False)
class _Hit:
    """The weights of a layer that have stuck cells, and what these cells say.

    Attributes
    ----------
    index : numpy.ndarray
        Positions in the matrix (outputs, inputs), flat, ascending; int64 (hit,).
    codes, scale : numpy.ndarray
        What is written there, int64, and the weight of a code, float64.
    weight, cell, stuck : numpy.ndarray
        Of each stuck cell: which of these weights it belongs to, which of its cells it is, and its level, float64.
    """

    index: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int64]
    scale: npt.NDArray[np.float64]
    weight: npt.NDArray[np.int64]
    cell: _Indices
    stuck: npt.NDArray[np.float64]

    def error(self, mapping: Mapping, codes: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """What is read less what was written, in codes, if these were written: float64 (hit,).

        A weight is linear in what its cells hold, so that each stuck cell adds (stuck - wanted level) x slice weight,
        negative on side 1.
        """
        table, worth = _cells_of_codes(mapping.encoding, mapping.weight_bits, mapping.cell_bits)
        wanted = table[codes[self.weight] + mapping.max_weight, self.cell]
        summed = np.bincount(self.weight, (self.stuck - wanted) * worth[self.cell], len(self.index))
        return np.asarray(summed, dtype=np.float64)


def _hit(
    weights: Tensor, design: Design, faults: FaultMap | FaultModel | None, rng: np.random.Generator | None, layer: str
) -> _Hit | None:
    """The weights of a layer that stuck cells take part in, ``None`` without any; a known map needs no generator."""
    mapping = design.mapping
    matrix = gemm_view(weights)
    quantised = mapping.quantise(matrix.cpu().numpy().T)
    codes = quantised.codes  # (inputs, outputs)
    blocks = packing(mapping.pack).blocks(codes != 0, mapping.rows, mapping.outputs_per_tile)
    shape = (len(blocks), mapping.rows, mapping.columns)
    _check_faults(layer, faults, shape)
    if isinstance(faults, FaultModel):
        assert rng is not None
        faults = faults.sample(shape, rng)
    if faults is None or not len(faults):
        return None
    used, rows, outputs, cells = _places(faults, blocks, mapping)
    index, weight = np.unique(outputs * codes.shape[0] + rows, return_inverse=True)
    row, output = index % codes.shape[0], index // codes.shape[0]
    return _Hit(
        index=index,
        codes=codes[row, output].astype(np.int64),
        scale=quantised.scale[output],
        weight=weight,
        cell=cells,
        stuck=faults.stuck_levels(design.cell, mapping.cell_bits)[used],
    )


def _with_stuck_cells(
    weights: Tensor, design: Design, faults: FaultMap | FaultModel | None, rng: np.random.Generator, layer: str
) -> Tensor:
    """The same where cells that are not stuck hold exactly their levels: what differs is summed over stuck cells."""
    hit = _hit(weights, design, faults, rng, layer)
    if hit is None:
        return weights.clone()
    error = hit.error(design.mapping, hit.codes) * hit.scale
    changed = gemm_view(weights).clone(memory_format=torch.contiguous_format).view(-1)
    changed[torch.from_numpy(hit.index).to(changed.device)] += torch.from_numpy(error).to(changed)
    return changed.reshape(weights.shape)


def _places(
    faults: FaultMap, blocks: Sequence[tuple[_Indices, _Indices]], mapping: Mapping
) -> tuple[_Indices, _Indices, _Indices, _Indices]:
    """Of the stuck cells that hold a part of a weight: their numbers in the map, inputs, outputs and parts."""
    tile, row, column = np.unravel_index(faults.index, faults.shape)
    place, part = np.divmod(column, mapping.slices * mapping.sides)
    tile_rows = np.full((len(blocks), mapping.rows), -1)
    tile_outputs = np.full((len(blocks), mapping.columns), -1)  # more than ever hold an output: the rest stays -1
    for number, (inputs, outputs) in enumerate(blocks):
        tile_rows[number, : len(inputs)] = inputs
        tile_outputs[number, : len(outputs)] = outputs
    rows, outputs = tile_rows[tile, row], tile_outputs[tile, place]
    used = np.flatnonzero((rows >= 0) & (outputs >= 0))
    return used, rows[used], outputs[used], part[used]


@lru_cache(maxsize=32)
def _cells_of_codes(
    encoding: Encoding, weight_bits: int, cell_bits: int
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The levels of every code from -Q to Q, (2 Q + 1, cells of a weight), and what a level of each cell is worth."""
    largest = 2 ** (weight_bits - 1) - 1
    table = encoding.encode(np.arange(-largest, largest + 1), weight_bits, cell_bits).astype(np.float64)
    table = table.reshape(2 * largest + 1, -1)
    signs = np.array([1.0, -1.0])[: encoding.sides]
    worth = np.outer(encoding.slice_weights(weight_bits, cell_bits), signs).ravel()
    for array in (table, worth):
        array.flags.writeable = False
    return table, worth


@dataclass(frozen=True, kw_only=True)
class LostWeights(Disturbance):
    """Weights that are 0 at each step, others each time, and noise on those that are left.

    Where the healthy cell of a pair can be programmed anew, a stuck cell costs nothing or makes the weight exactly 0,
    whatever the encoding and whichever way it is stuck: with one pair a weight and a rate p of stuck cells, a share p
    of the weights is lost to first order. Dropping so many while training is known as DropConnect (L. Wan et al., ICML
    2013).

    Attributes
    ----------
    rates
        Share of the weights that are lost, step by step.
    noise
        Standard deviation of the Gaussian noise on the other weights, over the largest magnitude of their output.
    seed
        Root of all that is drawn.

    Raises
    ------
    InputError
        If a number is out of its bound.
    """

    rates: Rates
    noise: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        check_instance("rates", self.rates, Rates)
        object.__setattr__(self, "noise", check_real("noise", self.noise, at_least=0.0))
        check_integer("seed", self.seed, at_least=0)

    def text(self) -> str:
        """What a checkpoint remembers of it."""
        return repr(self)

    @entrance
    def read_back(self, weights: Tensor, *, layer: str, index: int, step: int) -> Tensor:
        """The weights with some of them lost, as :meth:`Disturbance.read_back`."""
        matrix = gemm_view(weights.detach())
        rate = self.rates.at(step, die=step, seed=self.seed)
        root = np.random.SeedSequence(self.seed, spawn_key=(step, index))
        generator = torch.Generator().manual_seed(int(root.generate_state(1, np.uint64)[0]) >> 1)
        lost = torch.rand(matrix.shape, generator=generator) < rate
        if self.noise:
            scale = matrix.abs().amax(dim=1, keepdim=True)
            drawn = torch.randn(matrix.shape, generator=generator).to(matrix)
            matrix = matrix + self.noise * scale * drawn
        return matrix.masked_fill(lost.to(matrix.device), 0.0).reshape(weights.shape)
