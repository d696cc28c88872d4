"""A gallery of sequences on crossbars: one read gives the distances of a frame and all frames of the gallery."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.cost import Hardware
from xbarsim.design import Design
from xbarsim.devices import FaultMap
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import (
    InputError,
    check_choice,
    check_instance,
    check_integer,
    check_memory,
    check_real,
)
from xbarsim.network.calibrate import SAMPLED_IMAGES
from xbarsim.network.crossbar import ClippedInputs, Crossbar
from xbarsim.network.report import ClippingWarning
from xbarsim.sequences.costs import MatchCost, match_cost
from xbarsim.sequences.matching import scaled, warp_all
from xbarsim.sequences.ragged import Sequences, check_alike
from xbarsim.sequences.time_shift import TimeShift
from xbarsim.sequences.warping import Warping, check_weights

__all__ = ["Gallery"]

Norms = Literal["cells", "own", "codes"]

_AT_ONCE = 2**21  # products kept at a time: 16 MiB
_CLIPPED = 0.01  # share of a call's inputs that may be clipped without a warning

FloatArray = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


class Gallery:
    """Sequences whose frames are the columns of a matrix on one die.

    A read of a probe's frame x gives x . y for every frame y of the gallery, and its squared distance is
    ``|x|^2 + n - 2 x . y``. ``|x|^2`` is worked out digitally from the codes that are driven. n stands for ``|y|^2``
    and must belong to the cells as they are, not to what they should hold: stuck cells and coarse weights else shift
    all distances of a frame.

    - ``norms="cells"``: every word line is driven alone once, which reads y', what the cells of a frame hold, and
      ``n = |y'|^2``: the distance is that from what the cells hold, greater by ``|y - y'|^2`` than right on average, so
      that broken frames are found less. As many reads as a frame has numbers.
    - ``norms="own"``: every frame y of the gallery is driven once, and ``n = 2 y . y' - |y|^2``: a frame is at no
      distance from itself, whatever is broken, and one that is e away from it at ``|e|^2 + 2 e . (y - y')``, right on
      average over directions of e. But the least of many distances is sought, and a broken frame can be at a negative
      one: with many stuck cells this is the worst of the three (docs/sequences.md). As many reads as the gallery has
      frames.
    - ``norms="codes"``: ``n = |y|^2`` of the quantised frames, blind to the die, for comparison.

    Parameters
    ----------
    sequences
        Floating ones are quantised, as the design says, by one scale of the inputs and the scales of the weights.
        Integers are codes already, and so must those of probes be: they are computed with as they are.
    design
        The accelerator, as for any matrix: cells, encoding, converters, faults.
    seed
        Root of every random draw of the die.
    calibration
        Further sequences, such as probes that may be looked at, that count for the range of the inputs and of
        converters beside those of the gallery.
    weights
        Of channels, see :func:`xbarsim.sequences.local_distances`; only with floating sequences.
    context
        Neighbours to either side that are compared with a frame, so that a column is so many times longer; see
        :meth:`Sequences.with_context`.
    largest
        Magnitude that is the largest code of inputs; ``None`` for the largest of gallery and calibration. What lies
        beyond is clipped, counted (:attr:`clipped`), and warned of from 1 % of a call on. Only with floating sequences.
    norms
        As above.
    faults
        A fault map, used instead of the design's fault model.
    seconds
        Age of the die, s.

    Attributes
    ----------
    crossbar
        The matrix, of integer codes: inputs are the numbers of a frame with its context, outputs the frames of the
        gallery.
    norms
        n of every frame of the gallery, float64 (frames,).
    calibration_reads
        Vectors that were driven to get them, once for a die.

    Raises
    ------
    InputError
        If an argument is out of its bound, or does not go with another.

    Notes
    -----
    Where cells and converters err, distances may come out slightly negative: they are left as they are.

    Examples
    --------
    >>> import xbarsim as xb
    >>> from xbarsim.sequences import Gallery, Sequences
    >>> design = xb.Design(cell=xb.Cell.load("isaac2016"), mapping=xb.Mapping(cell_bits=2))
    >>> gallery = Gallery(Sequences.of([[[1, 2], [3, -4]], [[0, 5]]]), design, seed=1)
    >>> gallery.distances(Sequences.of([[[1, 2], [3, -3]]])).tolist()
    [[1.0, 83.0]]
    """

    @entrance
    def __init__(
        self,
        sequences: Sequences,
        design: Design,
        *,
        seed: int,
        calibration: Sequences | None = None,
        weights: npt.ArrayLike | None = None,
        context: int = 0,
        largest: float | None = None,
        norms: Literal["cells", "own", "codes"] = "cells",
        faults: FaultMap | None = None,
        seconds: float = 0.0,
    ) -> None:
        check_instance("sequences", sequences, Sequences)
        check_choice("norms", norms, ("cells", "own", "codes"))
        self.sequences = sequences
        self._context = check_integer("context", context, at_least=0, at_most=int(sequences.lengths.max()))
        self._integer = sequences.values.dtype.kind == "i"
        for name, value in (("weights", weights), ("largest", largest)):
            if self._integer and value is not None:
                raise InputError(f"{name} must be None where sequences are of integer codes, got {value!r}")
        self._weights = None if weights is None else check_weights(weights, sequences.channels)
        frames = self._frames("sequences", sequences)
        seen = frames if calibration is None else np.concatenate([frames, self._frames("calibration", calibration)])
        signed = bool(seen.min() < 0)
        self._codes_range = _code_range(design, signed=signed)
        if self._integer:
            self._input_scale, self._weight_scale, held = 1.0, np.ones(len(frames)), frames.T
        else:
            largest = float(np.abs(seen).max()) if largest is None else check_real("largest", largest, above=0.0)
            if largest == 0.0:
                raise InputError("sequences must hold a number other than 0, got only zeros")
            self._input_scale = largest / self._codes_range[1]
            quantised = design.mapping.quantise(np.ascontiguousarray(frames.T))
            self._weight_scale, held = quantised.scale, quantised.codes.astype(np.int64)
        self._clipped = self._inputs = 0
        self.crossbar = Crossbar(
            np.ascontiguousarray(held), design,
            seed=seed, calibration=_sample(self._codes(seen)), faults=faults, seconds=seconds,
        )  # fmt: skip
        self.norms, self.calibration_reads = self._calibrate(norms, self._codes(frames))

    @property
    def clipped(self) -> ClippedInputs:
        """How many numbers of probes were clipped since the object was made."""
        return ClippedInputs(clipped=self._clipped, inputs=self._inputs)

    def _frames(self, name: str, sequences: Sequences) -> npt.NDArray[Any]:
        """What stands for each frame: (frames, channels with context), floating or codes."""
        check_alike(name, sequences, self.sequences.channels)
        if (sequences.values.dtype.kind == "i") != self._integer:
            kind = "integer codes" if self._integer else "floating numbers"
            raise InputError(f"{name} must be of {kind}, as the gallery is, got type {sequences.values.dtype}")
        if self._context:
            sequences = sequences.with_context(self._context)
        if self._integer:
            return sequences.values
        weights = None if self._weights is None else np.tile(self._weights, 2 * self._context + 1)
        return scaled(sequences, weights)

    def _codes(self, frames: npt.NDArray[Any]) -> Codes:
        """Input codes of frames; those of integers are checked by the crossbar."""
        if self._integer:
            return frames.astype(np.int64)
        low, high = self._codes_range
        return np.clip(np.floor(frames / self._input_scale + 0.5), low, high).astype(np.int64)

    def _calibrate(self, norms: Norms, codes: Codes) -> tuple[FloatArray, int]:
        if norms == "own":
            found = np.empty(len(codes))
            for start in range(0, len(codes), step := max(1, _AT_ONCE // len(codes))):
                part = slice(start, start + step)
                products = self.crossbar.multiply(codes[part])
                found[part] = products[np.arange(len(products)), start + np.arange(len(products))]
            driven = self._input_scale**2 * (codes**2).sum(axis=1)
            return 2 * self._input_scale * self._weight_scale * found - driven, len(codes)
        one = np.eye(codes.shape[1], dtype=np.int64) * self._codes_range[1]
        read = self.crossbar.multiply if norms == "cells" else self.crossbar.digital
        held = read(one) / self._codes_range[1] * self._weight_scale
        return (held**2).sum(axis=0), len(one) if norms == "cells" else 0

    def local_distances(self, probes: Sequences, *, first_vector: int | None = None) -> Iterator[FloatArray]:
        """Distances of the frames of one probe after the other and all frames of the gallery, as they are read.

        Parameters
        ----------
        probes
            As :meth:`distances`.
        first_vector
            Number of the first frame, by which read noise is drawn; ``None`` to count on from the last read.

        Yields
        ------
        numpy.ndarray
            float64 (frames of the probe, frames of the gallery).
        """
        if first_vector is not None:
            check_integer("first_vector", first_vector, at_least=0)
        frames = self._frames("probes", probes)
        codes = self._codes(frames)
        if not self._integer:
            clipped = int((codes != np.floor(frames / self._input_scale + 0.5)).sum())
            self._clipped += clipped
            self._inputs += codes.size
            if clipped > _CLIPPED * codes.size:
                warnings.warn(
                    f"{clipped} of {codes.size} numbers of probes lie beyond the range of inputs and are clipped",
                    ClippingWarning,
                    stacklevel=3,
                )
        columns = len(self.norms)
        check_memory("probes", f"{probes.lengths.max()} frames", 16 * int(probes.lengths.max()) * columns)
        driven = self._input_scale**2 * (codes**2).sum(axis=1)
        scale = 2 * self._input_scale * self._weight_scale
        offsets, start = probes.offsets, 0
        while start < len(probes):  # as many probes at once as there is room for
            end = start + 1
            while end < len(probes) and (offsets[end + 1] - offsets[start]) * columns <= _AT_ONCE:
                end += 1
            first = offsets[start]
            number = None if first_vector is None else first_vector + int(first)
            products = self.crossbar.multiply(codes[first : offsets[end]], first_vector=number)
            products *= -scale
            products += self.norms
            products += driven[first : offsets[end], np.newaxis]
            for probe in range(start, end):
                yield products[offsets[probe] - first : offsets[probe + 1] - first]
            start = end

    @entrance
    def distances(
        self,
        probes: Sequences,
        rules: Warping | TimeShift = Warping(),  # noqa: B008  a frozen value
        *,
        first_vector: int | None = None,
    ) -> npt.NDArray[np.float64]:
        """Distances of all probes and all sequences of the gallery: local ones read, warping digital.

        Parameters
        ----------
        probes
            Of the channels of the gallery; integer codes where the gallery is of them.
        rules
            Of the alignments.
        first_vector
            As :meth:`local_distances`.

        Returns
        -------
        numpy.ndarray
            float64 (probes, sequences), as :func:`xbarsim.sequences.pair_distances`.

        Warns
        -----
        ClippingWarning
            If more than 1 % of the numbers are beyond the range of inputs.

        Raises
        ------
        InputError
            If the probes have other channels or are of another kind, or codes are out of their range.
        """
        found = self.local_distances(probes, first_vector=first_vector)
        return warp_all(found, len(probes), self.sequences.offsets, rules)[0]

    @entrance
    def cost(
        self,
        probes: Sequences,
        rules: Warping | TimeShift = Warping(),  # noqa: B008  a frozen value
        *,
        hardware: Hardware | str = "isaac2016",
    ) -> MatchCost:
        """What it takes to match one probe with the whole gallery, as a mean over some probes.

        Parameters
        ----------
        probes
            Of which only the lengths count.
        rules
            Of the alignments.
        hardware
            A component card, or its name. Where it has no prices of digital operations, those of ``horowitz2014`` are
            taken.
        """
        return match_cost(self.crossbar, probes.lengths, self.sequences.lengths, rules, hardware)


def _code_range(design: Design, *, signed: bool) -> tuple[int, int]:
    """The least and the greatest code that quantised inputs take: symmetric where they are signed."""
    drive = design.drive(signed=signed)
    return (-drive.max_input, drive.max_input) if signed else (0, drive.max_input)


def _sample(codes: Codes) -> Codes:
    """The frames that set the range of converters: evenly spaced ones, the longest, and one that shows the sign."""
    spaced = np.linspace(0, len(codes) - 1, min(len(codes), SAMPLED_IMAGES - 2)).astype(np.int64)
    longest, least = int((codes**2).sum(axis=1).argmax()), int(codes.min(axis=1).argmin())
    chosen: Codes = codes[np.concatenate([[longest, least], spaced])]
    return chosen
