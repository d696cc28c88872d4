"""Networks and dies as tables for notebooks: short, with what was assumed below."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from xbarsim.foundation.html import html_table

__all__ = ["LAYER_HEADER", "die_html", "layer_rows", "network_html"]

LAYER_HEADER = ("layer", "kind", "inputs x outputs", "tiles", "cells used", "input bits", "ADC bits")


def layer_rows(layers: Mapping[str, Any]) -> list[tuple[object, ...]]:
    """Of each mapped layer, by name, what :data:`LAYER_HEADER` says."""
    rows: list[tuple[object, ...]] = []
    for name, mapped in layers.items():
        layer, matrix = mapped.layer, mapped.matrix
        rows.append(
            (
                name,
                layer.kind,
                f"{matrix.shape[0]} x {matrix.shape[1]}",
                matrix.tiles,
                f"{matrix.utilisation:.1%}",
                f"{'signed' if layer.signed else 'unsigned'} {layer.input_bits}",
                mapped.converter.bits or "ideal",
            )
        )
    return rows


def network_html(layers: Mapping[str, Any], tiles: int, design: str, notes: Iterable[str]) -> str:
    """A mapped network.

    Parameters
    ----------
    layers
        The mapped layers by name.
    tiles
        Arrays of all.
    design
        What it was mapped by, in a line.
    notes
        What stays digital, and what a user should know.
    """
    title = f"Mapped network: {len(layers)} layer{'' if len(layers) == 1 else 's'} on {tiles:,} arrays"
    return html_table(title, LAYER_HEADER, layer_rows(layers), left=2, notes=[f"design: {design}", *notes])


def die_html(faults: Mapping[str, Any], plans: Mapping[str, str], title: str, notes: Iterable[str]) -> str:
    """One die.

    Parameters
    ----------
    faults
        The fault map of each layer, by name.
    plans
        The name of the plan of each layer.
    title
        Which die it is.
    notes
        What was done about its faults, and the like.
    """
    rows: list[tuple[object, ...]] = []
    for name, found in faults.items():
        counts = {kind.name: count for kind, count in found.counts.items()}
        stuck = [counts.get(kind, 0) for kind in ("STUCK_ON", "STUCK_OFF", "STUCK_AT")]
        rows.append((name, plans.get(name, ""), f"{found.cells:,}", *(f"{count:,}" for count in stuck)))
    header = ("layer", "plan", "cells", "stuck on", "stuck off", "stuck at a value")
    return html_table(title, header, rows, left=2, notes=notes)
