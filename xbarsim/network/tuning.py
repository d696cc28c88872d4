"""The outputs of a die's layers adjusted by images, one layer after another, each fed by those before it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.mitigation import Mitigation, OutputAdjustment, OutputStatistics
from xbarsim.network.layers import NetworkLayer, QuantisedLayer
from xbarsim.network.samples import Samples

__all__ = ["Observed", "Totals", "adjusted", "tune"]

Maps = npt.NDArray[np.float32]


class Totals:
    """Sums over the outputs of a layer, from which its statistics come.

    Attributes
    ----------
    uses
        How often the layer was used.
    """

    def __init__(self) -> None:
        self.uses = 0
        self._count = 0
        self._mean: Any = 0.0
        self._squares: Any = 0.0

    def add(self, results: Maps) -> None:
        """Results ``(maps, outputs, height, width)`` of one use more."""
        values = results.astype(np.float64)
        count = values.size // values.shape[1]
        mean = values.mean(axis=(0, 2, 3))
        squares = values.var(axis=(0, 2, 3)) * count
        total = self._count + count
        step = mean - self._mean
        self._squares = self._squares + squares + step**2 * (self._count * count / total)
        self._mean = self._mean + step * (count / total)
        self._count = total
        self.uses += 1

    @property
    def statistics(self) -> OutputStatistics:
        """Mean and variance of each output."""
        return OutputStatistics(mean=self._mean, variance=self._squares / self._count)


class Observed(NetworkLayer):
    """A layer whose results go through a function.

    Parameters
    ----------
    inner
        The layer.
    seen
        Given results ``(maps, outputs, height, width)``, gives those that the layer shall have.
    """

    def __init__(self, inner: NetworkLayer, seen: Callable[[Maps], Maps]) -> None:
        super().__init__(inner.layer)
        self._inner = inner
        self._seen = seen

    def run(self, maps: Maps) -> Maps:
        """From feature maps to results, as :meth:`NetworkLayer.run`."""
        return self._seen(self._inner.run(maps))


def adjusted(layer: QuantisedLayer, adjustment: OutputAdjustment) -> QuantisedLayer:
    """A layer whose scale and bias absorb an adjustment of its outputs."""
    return replace(
        layer,
        weight_scale=layer.weight_scale * adjustment.gain,
        bias=(layer.bias * adjustment.gain + adjustment.offset).astype(np.float32),
    )


def _adjustment(
    methods: Sequence[Mitigation], ideal: OutputStatistics, die: OutputStatistics
) -> OutputAdjustment | None:
    """What all methods together make of the outputs of a layer."""
    found: OutputAdjustment | None = None
    for method in methods:
        step = method.adjust(ideal, die)
        if step is None:
            continue
        die = OutputStatistics(mean=step.gain * die.mean + step.offset, variance=step.gain**2 * die.variance)
        if found is not None:
            step = OutputAdjustment(gain=step.gain * found.gain, offset=step.gain * found.offset + step.offset)
        found = step
    return found


def tune(
    methods: Sequence[Mitigation],
    running: Mapping[str, NetworkLayer],
    ideal: Mapping[str, Totals],
    run: Callable[[Mapping[str, Any], Samples], Any],
    samples: Samples,
) -> dict[str, OutputAdjustment]:
    """Find the adjustments of all layers of a die.

    Parameters
    ----------
    methods
        Those that adjust outputs, in their order.
    running
        The layers of the die, ready to multiply; changed, layer by layer, to those that are adjusted.
    ideal
        What their outputs are on an ideal die, of the same samples, in the order in which they are used.
    run
        Runs layers on samples.
    samples
        The images. They run all at once; again for each layer that is used more than once for a sample, whose
        statistics are known only at the end of a run.
    """
    found: dict[str, OutputAdjustment] = {}
    waiting = list(ideal)

    def settle(name: str, statistics: OutputStatistics) -> OutputAdjustment | None:
        waiting.remove(name)
        adjustment = _adjustment(methods, ideal[name].statistics, statistics)
        if adjustment is not None:
            found[name] = adjustment
            running[name].layer = adjusted(running[name].layer, adjustment)
        return adjustment

    while waiting:
        repeated = next((name for name in waiting if ideal[name].uses > 1), None)
        before = waiting[: waiting.index(repeated)] if repeated is not None else list(waiting)
        totals = Totals()

        def once(name: str) -> Callable[[Maps], Maps]:
            def seen(results: Maps) -> Maps:
                own = Totals()
                own.add(results)
                adjustment = settle(name, own.statistics)
                if adjustment is None:
                    return results
                gain, offset = (part[:, np.newaxis, np.newaxis] for part in (adjustment.gain, adjustment.offset))
                return np.asarray(results * gain + offset, dtype=np.float32)

            return seen

        def several(results: Maps, totals: Totals = totals) -> Maps:
            totals.add(results)
            return results

        layers: dict[str, Any] = {
            name: Observed(layer, once(name)) if name in before else layer for name, layer in running.items()
        }
        if repeated is not None:
            layers[repeated] = Observed(running[repeated], several)
        run(layers, samples)
        if repeated is not None:
            settle(repeated, totals.statistics)
    return found
