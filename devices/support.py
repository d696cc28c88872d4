"""What each device card has and what it is from: the list that documents show, found by looking at the cards."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from xbarsim.devices.cell import Card, card, cell_names
from xbarsim.devices.drift import Drift, LogarithmicDrift, MeasuredDrift
from xbarsim.devices.faults import preset_names
from xbarsim.devices.noise import FlickerNoise, NoiseModel, ReadNoise, ShotNoise, TelegraphNoise, ThermalNoise
from xbarsim.devices.power_drift import PowerLawDrift
from xbarsim.devices.write_verify import write_names
from xbarsim.foundation.cards import ORIGINS, cite
from xbarsim.foundation.entrances import check_fields, entrance

__all__ = ["CardSupport", "card_support"]

_PARTS: tuple[tuple[type[NoiseModel], str], ...] = (
    (ThermalNoise, "thermal"),
    (ShotNoise, "shot"),
    (FlickerNoise, "1/f"),
    (TelegraphNoise, "telegraph"),
    (ReadNoise, "whole"),
)


@dataclass(frozen=True, kw_only=True)
class CardSupport:
    """What one device card has.

    Attributes
    ----------
    name
        Of the card.
    g_min, g_max
        S.
    levels
        The most a cell can hold.
    programming_error, read_noise, drift
        What there is of each, in a few words; empty for nothing. Of read noise, which mechanisms are told apart;
        ``"whole"`` is a law of all together.
    faults, writes
        Names of the fault statistics, and of the write and verify, of the same source.
    origins
        Which values are from where, such as ``"fitted: drift"``.
    source
        Citation.
    """

    name: str
    g_min: float
    g_max: float
    levels: int
    programming_error: str
    read_noise: str
    drift: str
    faults: tuple[str, ...]
    writes: tuple[str, ...]
    origins: tuple[str, ...]
    source: str

    def __post_init__(self) -> None:
        check_fields(self)


def _error(found: Card) -> str:
    if found.programming_error is None:
        return ""
    law = found.programming_error.value
    orders = len(law.spread.coefficients) - 1
    return f"spread of order {orders}" + (
        "" if law.bias is None else f", bias of order {len(law.bias.coefficients) - 1}"
    )


def _noise(found: Card) -> str:
    if found.read_noise is None:
        return ""
    counted = Counter(next(name for kind, name in _PARTS if isinstance(term, kind)) for term in
                      found.read_noise.value.terms)  # fmt: skip
    return ", ".join(name for _, name in _PARTS if counted[name])


def _time(seconds: float) -> str:
    for size, unit in ((3.156e7, "years"), (86400.0, "days"), (3600.0, "h")):
        if seconds >= size * 0.999:
            return f"{seconds / size:.3g} {unit}".replace("1 years", "1 year").replace("1 days", "1 day")
    return f"{seconds:.3g} s"


def _drift(found: Card) -> str:
    if found.drift is None:
        return ""
    law: Drift = found.drift.value
    until = _time(law.longest + law.reference_time)
    if isinstance(law, MeasuredDrift):
        return f"quantiles at {len(law.steps)} times, to {until}"
    if isinstance(law, PowerLawDrift):
        return f"power of time, exponent by conductance, to {until}"
    assert isinstance(law, LogarithmicDrift)
    return f"walk in log time, to {until}"


def _of_one_source(name: str, names: list[str]) -> tuple[str, ...]:
    """Those of the same source: names are AuthorYear, and after a line what tells several of one source apart."""
    source = name.partition("_")[0]
    return tuple(each for each in names if each.partition("_")[0] == source)


@entrance
def card_support(name: str | None = None) -> tuple[CardSupport, ...]:
    """What the device cards have that come with the project, or one of them.

    Parameters
    ----------
    name
        Of one card; ``None`` for all, sorted by name.

    Raises
    ------
    InputError
        If no card has that name.
    """
    rows = []
    for each in cell_names() if name is None else [name]:
        found = card(each)
        cell = found.cell()
        by_origin = {
            origin: [key.replace("_", " ") if not key.startswith("g_") else key
                     for key, value in found.values().items() if value.origin == origin]
            for origin in ORIGINS
        }  # fmt: skip
        rows.append(
            CardSupport(
                name=found.name,
                g_min=cell.g_min,
                g_max=cell.g_max,
                levels=cell.levels,
                programming_error=_error(found),
                read_noise=_noise(found),
                drift=_drift(found),
                faults=_of_one_source(found.name, preset_names()),
                writes=_of_one_source(found.name, write_names()),
                origins=tuple(f"{origin}: {', '.join(keys)}" for origin, keys in by_origin.items() if keys),
                source=cite(found.source, found.doi),
            )
        )
    return tuple(rows)
