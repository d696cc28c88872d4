"""The range of a layer's inputs, from calibration samples: what lies beyond it is clipped."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields
from xbarsim.foundation.validation import InputError, check_instance, check_real
from xbarsim.network.lowered import Product
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Skeleton, Watch, check_fit

__all__ = [
    "InputRange",
    "LargestInput",
    "LeastSquaredError",
    "MovingAverage",
    "Percentile",
    "Seen",
    "as_input_range",
    "input_ranges",
]

_BATCH = 64  # samples run at a time; changes only what a moving average is taken over
_BINS = 65536  # of magnitudes
_CANDIDATES = 256  # limits that are tried for the least squared error
_SMALLEST = 1 / 1024  # the smallest of them, of the largest magnitude

FloatArray = npt.NDArray[np.float64]


@dataclass(kw_only=True)
class Seen:
    """What was seen of one layer's inputs.

    Attributes
    ----------
    low, high
        Lowest and highest input, as float32 numbers.
    batches
        Largest magnitude in each batch of 64 samples.
    counts
        How many inputs had each magnitude: 65,536 bins from 0 to the largest; ``None`` where nobody asked.
    channels
        Largest magnitude of each input channel, undivided; shape ``(channels,)``.
    inputs
        How many inputs there were.
    """

    low: float
    high: float
    batches: list[float] = field(default_factory=list)
    counts: npt.NDArray[np.int64] | None = None
    channels: FloatArray = field(default_factory=lambda: np.zeros(0))
    inputs: int = 0

    @property
    def largest(self) -> float:
        """Largest magnitude."""
        return max(abs(self.low), abs(self.high))

    @property
    def magnitudes(self) -> FloatArray:
        """Upper edge of each bin."""
        return np.asarray(np.arange(1, _BINS + 1) * (self.largest / _BINS))


class InputRange(metaclass=ABCMeta):
    """How the range of a layer's inputs is chosen; a frozen dataclass.

    Attributes
    ----------
    needs_counts : bool
        Whether the distribution of inputs must be counted, which takes a second pass over the samples.
    """

    needs_counts: bool = False

    @abstractmethod
    def limit(self, seen: Seen, codes: int) -> float:
        """The magnitude that the largest input code stands for.

        Parameters
        ----------
        seen
            What was seen; some input is not 0.
        codes
            The largest input code.
        """


@dataclass(frozen=True, kw_only=True)
class LargestInput(InputRange):
    """The largest magnitude that was seen: nothing of the calibration is clipped."""

    def limit(self, seen: Seen, codes: int) -> float:
        """As :meth:`InputRange.limit`."""
        return seen.largest


@dataclass(frozen=True, kw_only=True)
class Percentile(InputRange):
    """A percentile of the magnitudes, so that a few outliers do not cost the others their resolution.

    Parameters
    ----------
    percent
        Of all inputs, zeros included, lie within; in (0, 100].
    """

    percent: float = 99.9
    needs_counts = True

    def __post_init__(self) -> None:
        check_fields(self)
        check_real("percent", self.percent, above=0.0, at_most=100.0)

    def limit(self, seen: Seen, codes: int) -> float:
        """The upper edge of the bin that holds it, as :meth:`InputRange.limit`."""
        assert seen.counts is not None
        total = np.cumsum(seen.counts)
        wanted = int(np.ceil(total[-1] * self.percent / 100))
        return float(seen.magnitudes[np.searchsorted(total, wanted)])


@dataclass(frozen=True, kw_only=True)
class LeastSquaredError(InputRange):
    """The limit, among 256, with the least mean squared error of rounding and clipping together."""

    needs_counts = True

    def limit(self, seen: Seen, codes: int) -> float:
        """As :meth:`InputRange.limit`."""
        assert seen.counts is not None
        held = np.flatnonzero(seen.counts)
        values = (held + 0.5) * (seen.largest / _BINS)
        weights = seen.counts[held].astype(np.float64)
        candidates = seen.largest * np.geomspace(_SMALLEST, 1.0, _CANDIDATES)
        errors = []
        for candidate in candidates:
            step = candidate / codes
            rounded = np.minimum(np.floor(values / step + 0.5), codes) * step
            errors.append(float((weights * (values - rounded) ** 2).sum()))
        return float(candidates[int(np.argmin(errors))])


@dataclass(frozen=True, kw_only=True)
class MovingAverage(InputRange):
    """The moving average of the largest magnitude in batches of 64 samples.

    Parameters
    ----------
    momentum
        Weight of what was before; in [0, 1).
    """

    momentum: float = 0.9

    def __post_init__(self) -> None:
        check_fields(self)
        check_real("momentum", self.momentum, at_least=0.0, below=1.0)

    def limit(self, seen: Seen, codes: int) -> float:
        """As :meth:`InputRange.limit`."""
        average = seen.batches[0]
        for largest in seen.batches[1:]:
            average = self.momentum * average + (1 - self.momentum) * largest
        return average if average > 0 else seen.largest


RangeName = Literal["max", "percentile", "mse", "moving average"]
_NAMES: dict[str, type[InputRange]] = {
    "max": LargestInput,
    "percentile": Percentile,
    "mse": LeastSquaredError,
    "moving average": MovingAverage,
}


def as_input_range(given: InputRange | RangeName) -> InputRange:
    """A way of choosing ranges, by itself or by its name.

    Raises
    ------
    InputError
        If it is neither.
    """
    if isinstance(given, str):
        if given not in _NAMES:
            raise InputError(f"ranges must be one of {', '.join(map(repr, _NAMES))}, got {given!r}")
        return _NAMES[given]()
    check_instance("ranges", given, InputRange)
    return given


def input_ranges(
    skeleton: Skeleton, products: Mapping[str, Product], samples: Samples, *, counts: bool = False
) -> dict[str, Seen]:
    """What samples show of the inputs of each product that they reach, in the order of their first use.

    Computed in float64 and rounded to float32, because no library promises an order of its sums: in float32 the last
    digits of a range, and so of every activation, would depend on threads and machine. A network that cannot run in
    float64 runs in float32.

    Parameters
    ----------
    skeleton
        The network.
    products
        Which to watch, by name; inputs are seen as their divisors leave them.
    samples
        Calibration samples.
    counts
        Whether to count magnitudes.

    Raises
    ------
    InputError
        If the samples do not fit the network, or reach none of the products.
    """
    try:
        used = skeleton.doubled()
        seen = _extremes(used, products, samples)
    except InputError:
        used = skeleton
        seen = _extremes(used, products, samples)
    if not seen:
        raise InputError("model must use a layer that can be mapped, got none reached by the calibration images")
    if counts:
        _count(used, products, seen, samples)
    return seen


def _divided(product: Product, inputs: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Inputs as they are driven."""
    divisors = product.divisors
    if divisors is None:
        return inputs
    if product.adapter.kind != "linear":  # channels in the second dimension
        divisors = divisors.reshape(-1, *[1] * (inputs.ndim - 2))
    return np.asarray(inputs / divisors)


def _extremes_of_channels(
    product: Product, inputs: npt.NDArray[Any]
) -> tuple[npt.NDArray[np.floating[Any]], npt.NDArray[np.floating[Any]]]:
    """Lowest and highest input of each channel."""
    channel = inputs.ndim - 1 if product.adapter.kind == "linear" else 1
    others = tuple(axis for axis in range(inputs.ndim) if axis != channel)
    return inputs.min(axis=others), inputs.max(axis=others)


def _extremes(skeleton: Skeleton, products: Mapping[str, Product], samples: Samples) -> dict[str, Seen]:
    seen: dict[str, Seen] = {}
    batch: dict[str, float] = {}

    def watch(name: str, inputs: npt.NDArray[Any], outputs: npt.NDArray[Any]) -> None:
        product = products.get(name)
        if product is None:
            return
        lowest, highest = _extremes_of_channels(product, inputs)
        channels = np.asarray(np.maximum(highest, -lowest), np.float64)
        if product.divisors is not None:  # positive: the extremes stay the extremes
            lowest, highest = lowest / product.divisors, highest / product.divisors
        low, high = float(np.float32(lowest.min())), float(np.float32(highest.max()))
        before = seen.setdefault(name, Seen(low=low, high=high))
        before.channels = np.maximum(before.channels, channels) if len(before.channels) else channels
        before.low, before.high = min(low, before.low), max(high, before.high)
        before.inputs += inputs.size
        batch[name] = max(batch.get(name, 0.0), abs(low), abs(high))

    for _ in _batches(skeleton, samples, watch):
        for name, largest in batch.items():
            seen[name].batches.append(largest)
        batch.clear()
    return seen


def _count(skeleton: Skeleton, products: Mapping[str, Product], seen: dict[str, Seen], samples: Samples) -> None:
    for entry in seen.values():
        entry.counts = np.zeros(_BINS, np.int64)

    def watch(name: str, inputs: npt.NDArray[Any], outputs: npt.NDArray[Any]) -> None:
        entry = seen.get(name)
        if entry is None or entry.counts is None or entry.largest == 0.0:
            return
        driven = _divided(products[name], inputs).astype(np.float64)
        places = np.abs(driven).reshape(-1) * (_BINS / entry.largest)
        entry.counts += np.bincount(np.minimum(places.astype(np.int64), _BINS - 1), minlength=_BINS)

    for _ in _batches(skeleton, samples, watch):
        pass


def _batches(skeleton: Skeleton, samples: Samples, watch: Watch) -> Any:
    for start in range(0, len(samples), _BATCH):
        part = samples.part(start, start + _BATCH)
        check_fit(partial(skeleton.run, part, watch=watch), samples, name="calibration")
        yield start
