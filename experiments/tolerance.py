"""Accuracy against fault rate, and the rate that is tolerated: what papers on faults measure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from xbarsim.foundation.tables import format_table
from xbarsim.sweep.critical import crossing

__all__ = ["Point", "Tolerance", "curves", "factor", "rate_text", "tolerance_table", "tolerances"]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One point of a curve of accuracy against fault rate.

    Attributes
    ----------
    network, weights, encoding, polarity, rate
        Which.
    dies, images
        How many were measured, on how many test images.
    accuracy, low, high
        Mean of the dies and its 95 % interval, %; of dies on these images, so that it does not hold the chance by which
        these images are harder or easier than others.
    lost
        Points against the dense network without faults: what faults cost on these images, plus what pruning costs
        without faults on all test images. (On few images two networks differ by chance more than by pruning; one
        network with and without faults does not.)
    """

    network: str
    weights: str
    encoding: str
    polarity: str
    rate: float
    dies: int
    images: int
    accuracy: float
    low: float
    high: float
    lost: float


def curves(points: Sequence[Point]) -> dict[tuple[str, str, str, str], list[Point]]:
    """Points by network, weights, encoding and polarity, each curve by ascending rate."""
    grouped: dict[tuple[str, str, str, str], list[Point]] = {}
    for point in points:
        grouped.setdefault((point.network, point.weights, point.encoding, point.polarity), []).append(point)
    for curve in grouped.values():
        curve.sort(key=lambda point: point.rate)
    return grouped


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """The failure rate at which a given loss is reached.

    Attributes
    ----------
    network, weights, encoding, polarity
        Which curve.
    loss
        Points against the dense network without faults.
    rate, low, high
        Where the mean of the dies, and the ends of its 95 % interval, fall below; interpolated between the rates that
        were measured. 0 if that is so without faults, infinite if not even at the highest rate.
    """

    network: str
    weights: str
    encoding: str
    polarity: str
    loss: float
    rate: float
    low: float
    high: float


def tolerances(points: Sequence[Point], losses: Sequence[float]) -> list[Tolerance]:
    """The rates that every curve tolerates at every loss, in points of accuracy."""
    made = []
    for (network, weights, encoding, polarity), curve in curves(points).items():
        reference = curve[0].accuracy + curve[0].lost
        rates = [point.rate for point in curve]
        for loss in losses:
            low, rate, high = (
                crossing(rates, [getattr(point, name) for point in curve], reference - loss)
                for name in ("low", "accuracy", "high")
            )
            made.append(
                Tolerance(
                    network=network,
                    weights=weights,
                    encoding=encoding,
                    polarity=polarity,
                    loss=loss,
                    rate=rate,
                    low=low,
                    high=high,
                )
            )
    return made


def rate_text(value: float, highest: float) -> str:
    """A tolerated rate; a bound where it lies beyond the highest that was measured."""
    return f"> {highest:g}" if math.isinf(value) else f"{value:.2g}"


def tolerance_table(tolerated: Sequence[Tolerance], highest: float, *, first: str) -> str:
    """Tolerated rates with their intervals, the polarity `first` before the other."""
    return format_table(
        ("network", "faults", "weights", "mapping", "points lost", "rate tolerated", "95 % interval"),
        [
            (
                one.network, one.polarity, one.weights, one.encoding, f"{one.loss:g}",
                rate_text(one.rate, highest), f"{rate_text(one.low, highest)} to {rate_text(one.high, highest)}",
            )
            for one in sorted(tolerated, key=lambda one: (one.network, one.polarity != first, one.loss))
        ],
        left=4,
    )  # fmt: skip


def factor(above: float, below: float, highest: float) -> str:
    """A factor between two rates; a bound where one of them lies beyond the highest that was measured."""
    if below == 0 or (math.isinf(above) and math.isinf(below)):
        return "-"
    sign = "> " if math.isinf(above) else "< " if math.isinf(below) else ""
    ratio = min(above, highest) / min(below, highest)
    return f"{sign}{ratio:.1f} x" if ratio >= 1 else f"{sign}{ratio:.2g} x"
