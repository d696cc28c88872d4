"""Layouts computed by torch, on any device that it knows: one die, or many dies of one matrix together.

What makes the answers those of the other backends, bit for bit, wherever values are whole:

* Products are plain matrix products of whole numbers, in float32 where the sum of magnitudes of every column stays
  below 2^24 for the largest inputs, else in float64. Then no partial sum, in whatever order the library takes them, is
  rounded. Shortened formats (TF32, bfloat16) are switched off around them. Convolutions are unfolded, because a
  convolution of a library may be computed by transforms that round.
* A converter and a quantiser are comparisons: the code of a sum is the number of thresholds that are not above it, and
  the thresholds are the least numbers of the sum's own type to which the formula of the reference engine, in float64,
  gives the code or a higher one; see :func:`xbarsim.engine.backends.steps.thresholds`. So the code is that of the
  formula for every number there is.
* Codes are added as integers, or in float64; outputs are scaled in float64, one rounded operation after another.

Conductances off the levels are summed in float32 unless double precision is asked for, in another order than by the
compiled kernels: a sum may differ in its last digits, and a code, rarely, by one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xbarsim.engine.backends.steps import Steps, plain_products
from xbarsim.engine.layout import Columns, Layout, merged
from xbarsim.engine.window import Scaling, Window
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, shown

__all__ = ["TorchBackend", "TorchProgram"]

Array = npt.NDArray[Any]
FloatArray = npt.NDArray[np.float64]

_FLOAT32_INTEGERS = 2.0**24  # every integer up to here is a float32
_INT32 = 2.0**31
_UNFOLDED_BYTES = {"cpu": 2**26, "cuda": 2**31}  # of unfolded inputs held at a time; changes no result


@dataclass(frozen=True, eq=False)
class _Part:
    """Columns whose codes count the same, each for an output of its own; or one that serves several outputs.

    Attributes
    ----------
    columns
        Which of the group's columns, in their new order.
    count
        What each code counts.
    targets
        Their outputs: a range where these are neighbours.
    """

    columns: slice
    count: float
    targets: slice | Tensor


@dataclass(frozen=True, eq=False)
class _Group:
    """Columns that are driven by the same rows.

    Attributes
    ----------
    rows
        Which inputs, a range where these are neighbours.
    values
        Shape ``(dies, columns, rows)``.
    parts
        Which columns count how much for which outputs.
    served
        All outputs of the group.
    offsets
        Shape ``(dies, columns, 1)``, or ``None``.
    bits
        Weights of the bits of the converters, shape ``(dies, columns, bits)``, or ``None``.
    """

    rows: slice | Tensor
    values: Tensor
    parts: tuple[_Part, ...]
    served: slice | Tensor
    offsets: Tensor | None
    bits: Tensor | None

    def windows(self, unfolded: Tensor) -> Tensor:
        """Its inputs, shape ``(dies, rows, vectors)``."""
        return unfolded[:, self.rows] if isinstance(self.rows, slice) else unfolded.index_select(1, self.rows)


def _places(numbers: Array, device: torch.device) -> slice | Tensor:
    """Ascending neighbours as a range, others as indices on the device."""
    if len(numbers) and np.array_equal(numbers, np.arange(numbers[0], numbers[0] + len(numbers))):
        return slice(int(numbers[0]), int(numbers[0]) + len(numbers))
    return torch.from_numpy(np.asarray(numbers, np.int64)).to(device)


def _add(added: Tensor, targets: slice | Tensor, values: Tensor, factor: float) -> None:
    """Add `factor` times `values` (dies, columns, vectors) to the outputs `targets` of `added`."""
    weight: Any = int(factor) if not added.is_floating_point() else factor
    if isinstance(targets, slice):
        target = added[:, targets]
        target.add_(values.expand(target.shape), alpha=weight)
        return
    spread = values.expand(-1, len(targets), -1)
    added.index_add_(1, targets, spread.to(added.dtype), alpha=weight)


def _order(columns: Columns) -> tuple[Array, list[tuple[int, int, float, Array]]]:
    """Columns in an order in which those that can be added at once are neighbours, and what is added at once.

    Each entry: first and last column, what their codes count, and their outputs.
    """
    own = np.flatnonzero(columns.outputs >= 0)
    outputs, counts = columns.outputs[own], columns.counts[own]
    by_output = np.lexsort((outputs, counts))
    first = np.ones(len(own), bool)
    first[1:] = (np.diff(outputs[by_output]) != 0) | (np.diff(counts[by_output]) != 0)
    starts = np.flatnonzero(first)
    turn = np.empty(len(own), np.int64)  # of several columns that count the same for one output
    turn[by_output] = np.arange(len(own)) - np.repeat(starts, np.diff(np.append(starts, len(own))))
    order = np.lexsort((outputs, turn, counts))
    entries: list[tuple[int, int, float, Array]] = []
    if len(own):
        changes = np.flatnonzero((np.diff(counts[order]) != 0) | (np.diff(turn[order]) != 0)) + 1
        limits = [0, *changes.tolist(), len(own)]
        entries = [
            (start, stop, float(counts[order[start]]), outputs[order[start:stop]]) for start, stop in pairwise(limits)
        ]
    shared = np.flatnonzero(columns.outputs < 0)
    for number, column in enumerate(shared, len(own)):
        held = columns.held[int(columns.tiles[column])]
        entries.append((number, number + 1, float(columns.counts[column]), held))
    return np.concatenate([own[order], shared]), entries


def _common(layout: Layout) -> tuple[Any, ...]:
    """What layouts have in common that are computed together, their columns apart."""
    read = (layout.kind, layout.drive, layout.converter, layout.single, layout.shift, layout.precision)
    errors = (layout.offsets is None, layout.bits is None)
    return (*read, *errors, layout.inputs, layout.outputs, len(layout.columns))


def _alike(layouts: Sequence[Layout]) -> None:
    """Refuse dies whose columns are not the same ones."""
    first = layouts[0]
    for other in layouts[1:]:
        same = _common(first) == _common(other) and all(
            np.array_equal(getattr(one, name), getattr(two, name))
            for one, two in zip(first.columns, other.columns, strict=True)
            for name in ("rows", "counts", "outputs", "tiles")
        )
        if not same:
            raise InputError("layouts must be of dies of one placed matrix to be computed together, got different ones")


class TorchProgram:
    """A layer of one die, or of many dies of one placed matrix, ready to run.

    Parameters
    ----------
    layouts
        One for each die.
    device
        Where it runs.
    """

    kernel: ClassVar[str] = "torch"

    def __init__(self, layouts: Sequence[Layout], device: torch.device) -> None:
        _alike(layouts)
        self.device, self.dies = device, len(layouts)
        self._planes = layouts[0].kind != "whole"
        if not self._planes:
            single = [merged(layout) for layout in layouts]
            layouts = single if len({len(layout.columns) for layout in single}) == 1 else layouts
        self._layout = layout = layouts[0]
        self._dtype = self._precision(layouts)
        self._groups = [self._group(layouts, number) for number in range(len(layout.columns))]
        constants = [np.zeros(layout.outputs) if each.constant is None else each.constant for each in layouts]
        self._constant = self._tensor(np.stack(constants)[:, None, :, None], torch.float64)
        self._has_constant = any(each.constant is not None for each in layouts)
        converter = layout.converter
        self._converts = self._planes and converter.step is not None
        self._single = self._converts and layout.single
        self._added_type = torch.float64
        if self._converts:
            sums = torch.float64 if self._single else self._dtype
            self._convert = Steps(1.0 / converter.unit, converter.low, converter.high, sums, device)
            if self._convert.counts and layout.bits is None and self._largest_added() < _INT32:
                self._added_type = torch.int32
        self._alone = self._is_alone()
        self._quantisers: dict[tuple[float, int, int], Steps] = {}
        self._scales: dict[int, tuple[Scaling, Tensor, Tensor]] = {}

    def _tensor(self, array: Array, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, dtype)

    def _precision(self, layouts: Sequence[Layout]) -> torch.dtype:
        """float32 where sums are exact in it, or where it is asked for and nothing is exact."""
        layout = layouts[0]
        values = [group.values for each in layouts for group in each.columns]
        if layout.offsets is not None:
            given = [offset for each in layouts for offset in each.offsets or ()]
            values = [np.vstack([each, offset]) for each, offset in zip(values, given, strict=True)]
        whole = layout.drive.values is None and all(bool((each == np.rint(each)).all()) for each in values)
        largest = max((float(np.abs(each).sum(axis=0).max(initial=0.0)) for each in values), default=0.0)
        largest *= layout.drive.max_plane if self._planes else layout.drive.max_input
        single = largest < _FLOAT32_INTEGERS if whole else layout.precision == "single"
        return torch.float32 if single else torch.float64

    def _group(self, layouts: Sequence[Layout], number: int) -> _Group:
        columns = [layout.columns[number] for layout in layouts]
        first = columns[0]
        order, entries = _order(first)
        offsets, bits = (
            None
            if getattr(layouts[0], name) is None
            else self._tensor(np.stack([getattr(each, name)[number][order] for each in layouts]), dtype)
            for name, dtype in (("offsets", self._dtype), ("bits", torch.float64))
        )
        return _Group(
            rows=_places(first.rows, self.device),
            values=self._tensor(np.stack([each.values[:, order].T for each in columns]), self._dtype),
            parts=tuple(
                _Part(slice(start, stop), count, _places(outputs, self.device))
                for start, stop, count, outputs in entries
            ),
            served=_places(first.served, self.device),
            offsets=None if offsets is None else offsets[:, :, None],
            bits=bits,
        )

    def _largest_added(self) -> float:
        """Bound of the magnitude of the added codes of any output; infinite where they are no integers."""
        layout = self._layout
        converter, drive = layout.converter, layout.drive
        counts = [group.counts for group in layout.columns]
        if any((each != np.rint(each)).any() for each in counts):
            return math.inf
        known = 0.0
        if layout.single:
            rows = max((len(group.rows) for group in layout.columns), default=0)
            known = converter.offset_levels * rows * drive.max_plane / converter.unit + 1.0
        each_code = max(converter.high, -converter.low) + known
        total = sum(float(np.abs(each).sum()) for each in counts)
        units = drive.passes * sum(2.0 ** (plane * drive.dac_bits) for plane in range(drive.planes))
        return max(total * units * each_code, known)

    def _is_alone(self) -> bool:
        """Whether one read gives every output, so that nothing is added up."""
        drive = self._layout.drive
        if (
            len(self._groups) != 1
            or len(self._groups[0].parts) != 1
            or (self._planes and drive.planes * drive.passes > 1)
        ):
            return False
        part = self._groups[0].parts[0]
        return part.count == 1.0 and part.targets == slice(0, self._layout.outputs)

    def run(
        self, maps: npt.NDArray[np.float32], window: Window, scaling: Scaling, result: Array, first_image: int
    ) -> bool:
        """As :meth:`xbarsim.engine.backends.Program.run`, for one die."""
        given = torch.from_numpy(np.ascontiguousarray(maps, np.float32)).to(self.device)
        wanted = torch.float32 if result.dtype == np.float32 else torch.float64
        answer = self.run_tensors(given, window, scaling, dtype=wanted)
        result[:] = answer.reshape(len(maps), self._layout.outputs, -1).cpu().numpy()
        return bool(torch.isfinite(given).all())

    def run_tensors(
        self, maps: Tensor, window: Window, scaling: Scaling, *, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """Run a layer on activations that lie on its device.

        Parameters
        ----------
        maps
            Float32, shape ``(dies * images, channels, height, width)``, the images of a die one after another. What is
            not finite has no answer that means anything.
        window, scaling
            As :meth:`xbarsim.engine.Plan.run`.
        dtype
            float32 or float64, of the answer.

        Returns
        -------
        Tensor
            Shape ``(dies * images, outputs, out height, out width)``.
        """
        count, channels, height, width = maps.shape
        images = count // self.dies
        out_height, out_width = window.output_size(height, width)
        each = self.dies * channels * math.prod(window.kernel) * out_height * out_width * self._dtype.itemsize
        step = max(1, _UNFOLDED_BYTES.get(self.device.type, _UNFOLDED_BYTES["cuda"]) // each)
        maps = maps.reshape(self.dies, images, channels, height, width)
        answer = torch.empty(
            (self.dies, images, self._layout.outputs, out_height * out_width), dtype=dtype, device=self.device
        )
        quantise = self._quantiser(scaling)
        scale, bias = self._scale(scaling)
        with plain_products():
            for start in range(0, images, step):
                part = quantise(maps[:, start : start + step].contiguous())
                products = self._multiply(part, window, out_height, out_width)
                answer[:, start : start + step] = products.mul_(scale).add_(bias)
        return answer.reshape(count, -1, out_height, out_width)

    def _quantiser(self, scaling: Scaling) -> Steps:
        key = (scaling.inverse_scale, scaling.low, scaling.high)
        if key not in self._quantisers:
            self._quantisers[key] = Steps(*key, torch.float32, self.device)
        return self._quantisers[key]

    def _scale(self, scaling: Scaling) -> tuple[Tensor, Tensor]:
        kept = self._scales.get(id(scaling))
        if kept is None or kept[0] is not scaling:
            if len(self._scales) > 8:  # those of calls that are over
                self._scales.clear()
            scale, bias = (self._tensor(each[:, None], torch.float64) for each in (scaling.scale, scaling.bias))
            kept = self._scales[id(scaling)] = (scaling, scale, bias)
        return kept[1], kept[2]

    def _multiply(self, codes: Tensor, window: Window, height: int, width: int) -> Tensor:
        """Products (dies, images, outputs, positions), float64, of maps of codes (dies, images, channels, ...)."""
        layout = self._layout
        vectors = codes.shape[1] * height * width
        added = torch.zeros((self.dies, layout.outputs, vectors), dtype=self._added_type, device=self.device)
        taken = torch.zeros_like(added, dtype=torch.float64) if layout.shift else None
        for unit, driven in self._driven(codes, window):
            unfolded = _unfolded(driven, window, height, width)
            for group in self._groups:
                x = group.windows(unfolded)
                sums = torch.bmm(group.values, x)
                if group.offsets is not None:
                    sums += group.offsets
                inputs = x.sum(dim=1, keepdim=True, dtype=torch.float64) if self._single or taken is not None else None
                read = self._read(group, sums, inputs)
                if self._alone and unit == 1.0:
                    added = read
                else:
                    for part in group.parts:
                        _add(added, part.targets, read[:, part.columns], unit * part.count)
                if taken is not None:
                    assert inputs is not None
                    _add(taken, group.served, inputs, unit)
        return self._finished(added, taken, codes.shape[1])

    def _driven(self, codes: Tensor, window: Window) -> Iterator[tuple[float, Tensor]]:
        """What is driven in each pass and plane, padded, in the type of the sums; and what its codes count."""
        drive = self._layout.drive
        left, right, top, bottom = window.padding
        dies, images, channels, height, width = codes.shape
        shape = (dies, images, channels, height + top + bottom, width + left + right)
        inside = (..., slice(top, top + height), slice(left, left + width))

        carried = None if drive.values is None else torch.tensor(drive.values, dtype=self._dtype, device=self.device)

        def padded(values: Tensor, idle: int) -> Tensor:
            at_edges: float = idle
            if carried is not None:
                values, at_edges = carried[values], float(carried[idle])
            framed = torch.full(shape, at_edges, dtype=self._dtype, device=self.device)
            framed[inside] = values.to(self._dtype)
            return framed

        if not self._planes or (drive.planes == 1 and not drive.signed and carried is None):  # the code itself
            yield 1.0, padded(codes, 0)
            return
        codes = codes.to(torch.int32)
        for sign in drive.signs:
            if drive.passes == 2:
                pulses, idle = (codes * sign).clamp_(min=0), 0
            else:
                pulses, idle = codes + drive.input_offset, drive.input_offset
            for plane in range(drive.planes):
                shift = plane * drive.dac_bits
                yield sign * 2.0**shift, padded((pulses >> shift) & drive.max_plane, (idle >> shift) & drive.max_plane)

    def _read(self, group: _Group, sums: Tensor, inputs: Tensor | None) -> Tensor:
        """What the converters of a group's columns make of their sums."""
        if not self._converts:
            return sums
        converter = self._layout.converter
        known: Tensor | None = None
        if self._single:
            assert inputs is not None
            baseline = inputs * converter.offset_levels
            sums = sums.to(torch.float64) + baseline
            known = (baseline * (1.0 / converter.unit)).add_(0.5).floor_()
        codes = self._convert(sums) if group.bits is None else self._approximated(sums, group.bits)
        return codes if known is None else codes - known.to(codes.dtype)

    def _approximated(self, sums: Tensor, bits: Tensor) -> Tensor:
        """As :func:`xbarsim.design.successive_approximation`, and clipped."""
        converter = self._layout.converter
        position = sums.to(torch.float64, copy=True).mul_(1.0 / converter.unit).add_(0.5)
        level = torch.full_like(position, converter.low)
        codes = level.clone()
        for bit in range(bits.shape[2] - 1, -1, -1):
            raised = level + bits[:, :, bit, None]
            kept = position >= raised
            level = torch.where(kept, raised, level)
            codes += kept * 2.0**bit
        return codes.clamp_(converter.low, converter.high)

    def _finished(self, added: Tensor, taken: Tensor | None, images: int) -> Tensor:
        """Products of the added codes: ``(dies, images, outputs, positions)``, in float64."""
        shape = (self.dies, self._layout.outputs, images, -1)
        products = added.reshape(shape).permute(0, 2, 1, 3).to(torch.float64)
        unit = self._layout.converter.unit if self._planes else 1.0
        if unit != 1.0:
            products.mul_(unit)
        if taken is not None:
            products.sub_((taken * self._layout.shift).reshape(shape).permute(0, 2, 1, 3))
        return products.add_(self._constant) if self._has_constant else products


def _unfolded(maps: Tensor, window: Window, height: int, width: int) -> Tensor:
    """Padded maps (dies, images, channels, ...) as columns: (dies, inputs, images * positions)."""
    dies, images, channels = maps.shape[:3]
    by_die, by_image, by_channel, by_row, by_column = maps.stride()
    windows = maps.as_strided(
        (dies, channels, *window.kernel, images, height, width),
        (
            by_die,
            by_channel,
            by_row * window.dilation[0],
            by_column * window.dilation[1],
            by_image,
            by_row * window.stride[0],
            by_column * window.stride[1],
        ),
    )
    return windows.reshape(dies, channels * math.prod(window.kernel), images * height * width)


class TorchBackend:
    """Plain tensor operations of torch, on a device of its own.

    Runs every layout without read noise. Answers are those of the compiled kernels, bit for bit where all values are
    whole, or with ``precision="double"``; see :mod:`xbarsim.engine.backends.tensors`.

    Parameters
    ----------
    device
        As torch names it: ``"cpu"``, ``"cuda"``, ``"cuda:1"``.

    Raises
    ------
    InputError
        If torch knows no such device, or it is not on this machine.
    """

    name: ClassVar[str] = "torch"

    @entrance
    def __init__(self, device: Any = "cpu") -> None:
        try:
            made = torch.zeros(1, device=device, dtype=torch.float64)
            self.device, _ = made.device, made.cpu()  # with the number of the device
        except Exception as error:  # of many kinds, by what torch was built for
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise InputError(
                f"device must be one that torch can compute in float64 on here, such as 'cpu', got {shown(device)}: "
                f"{reason}"
            ) from error

    def __repr__(self) -> str:
        return f"TorchBackend({str(self.device)!r})"

    def __str__(self) -> str:
        card = f" ({torch.cuda.get_device_name(self.device)})" if self.device.type == "cuda" else ""
        return f"torch on {self.device}{card}"

    def prepare(self, layout: Layout) -> TorchProgram:
        """As :meth:`xbarsim.engine.backends.Backend.prepare`."""
        return self.stack([layout])

    def stack(self, layouts: Sequence[Layout]) -> TorchProgram:
        """Make one layer of many dies ready to run on the same images.

        Parameters
        ----------
        layouts
            Of the dies, made by one plan for one placed matrix.

        Raises
        ------
        InputError
            If they are not, or reads are noisy.
        """
        if not layouts:
            raise InputError("layouts must be at least one, got none")
        if any(layout.noise is not None for layout in layouts):
            raise InputError(
                "layout must be without read noise for the backend 'torch', got some: "
                "use the compiled kernels (chip.to('cpu')), or a cell without read noise"
            )
        return TorchProgram(layouts, self.device)
