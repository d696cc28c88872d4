"""Conformance tests for cards of your own: of a memory cell, of a chip's components, and of a whole design."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np

from xbarsim.cost import Hardware, compare_published, hardware_names, totals
from xbarsim.design import Design, DesignCard, design_card
from xbarsim.devices import GRID, Card, Cell, card
from xbarsim.foundation import tomlio
from xbarsim.foundation.entrances import entrance
from xbarsim.testing.promises import call, promise

__all__ = ["check_cell_card", "check_component_card", "check_design_card"]

_CELLS = 1000  # programmed to each level


@entrance
def check_cell_card(name_or_path: str | os.PathLike[str], *, seed: int = 0) -> Cell:
    """Check that the card of a memory cell can be read, says where its values come from, and describes a sound cell.

    It must be called like its file; cite a source, and say so where its digital object identifier is not verified; say
    why of each value that is assumed; survive TOML exactly; and describe a cell that can be programmed, read, and left
    alone as long as its drift holds, always at conductances of zero or more.

    Parameters
    ----------
    name_or_path
        The card's name, or its file.
    seed
        Of the cells that are programmed.

    Returns
    -------
    Cell
        The cell that it describes.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    """
    read: Card = call(f"reading the card {os.fspath(name_or_path)!r}", card, name_or_path)
    _check_citation(read.name, read.description, name_or_path)
    _check_source(read.source, read.doi, "card")
    for name, value in read.values().items():
        promise(
            value.note.strip() or value.origin != "assumed",
            "the note of an assumed value must say why",
            f"that of {name} is empty",
        )
    promise(
        tomlio.loads(Card, tomlio.dumps(read)) == read, "a card must be read back from TOML as written", "it is not"
    )
    cell = read.cell()
    promise(
        tomlio.loads(Cell, tomlio.dumps(cell)) == cell, "its cell must be read back from TOML as written", "it is not"
    )
    bits = min(8, cell.levels.bit_length() - 1)
    for at in range(1, bits + 1):
        _check_cell(cell, at, seed)
    return cell


def _check_citation(name: str, description: str, name_or_path: str | os.PathLike[str]) -> None:
    stem = Path(name_or_path).name.removesuffix(".toml")
    promise(name == stem, "name must be as the file is called", f"it is {name!r} in {stem + '.toml'!r}")
    promise(description.strip(), "description must say what it is, in one line", f"it is {description!r}")


def _check_source(source: str, doi: str | None, what: str) -> None:
    promise(source.strip(), f"source must cite where the {what} comes from", f"it is {source!r}")
    promise(
        doi or "not verified" in source,
        "doi must be given, or source must say 'not verified'",
        f"doi is {doi!r}, source {source!r}",
    )


def _check_cell(cell: Cell, bits: int, seed: int) -> None:
    at = f"at {bits} bits"
    programming, drift, states_of_die = np.random.SeedSequence(seed, spawn_key=(bits,)).spawn(3)
    levels = np.repeat(np.arange(2**bits), _CELLS)
    held = call(f"programming {at}", cell.program, levels, bits, np.random.default_rng(programming))
    lowest = -cell.offset_levels(bits)
    states = {"programmed": held}
    if cell.drift is not None:
        new = call(f"drift of 0 s {at}", cell.relax, held, levels, bits, 0.0, np.random.default_rng(drift))
        promise(np.array_equal(new, held), "drift must leave cells as they are at 0 s", f"it moves some {at}")
        longest = cell.drift.longest
        states[f"after {longest:g} s"] = call(
            f"drift of {longest:g} s {at}", cell.relax, held, levels, bits, longest, np.random.default_rng(drift)
        )
    states["settled"] = call(f"settling {at}", cell.settle, held, bits, np.random.default_rng(states_of_die))
    for name, state in states.items():
        units = state.astype(np.float64)
        promise(
            np.isfinite(units).all() and units.min() >= lowest,
            "cells must have finite conductances of zero or more",
            f"{name} {at} they go from {cell.conductance(units.min(), bits):g} to "
            f"{cell.conductance(units.max(), bits):g} S",
        )
        promise(
            np.array_equal(units / GRID, np.rint(units / GRID)), "cells must hold multiples of GRID", f"{name} {at}"
        )
    if cell.read_noise is not None:
        variance = call(f"read noise {at}", cell.read_variance, held, bits, 1)
        for name in ("constant", "linear", "quadratic"):
            term = getattr(variance, name)
            promise(
                np.isfinite(term).all() and term.min() >= 0,
                "the variance of a read must be finite and 0 or more",
                f"its {name} term goes from {term.min():g} to {term.max():g} {at}",
            )


@entrance
def check_component_card(name_or_path: str | os.PathLike[str]) -> Hardware:
    """Check that a card of components can be read, says where its values come from, and adds up.

    It must be called like its file; say why of each value that is assumed; survive TOML exactly; cost something at
    every level, twice as much for two of it, and at least as much as what it is made of; and come to the totals that
    its source prints, or say in their notes why not.

    Parameters
    ----------
    name_or_path
        The card's name, or its file.

    Returns
    -------
    Hardware
        What it describes.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    """
    hardware: Hardware = call(f"reading the card {os.fspath(name_or_path)!r}", Hardware.load, name_or_path)
    _check_citation(hardware.name, hardware.description, name_or_path)
    for row in hardware.values():
        promise(
            str(row["note"]).strip() or row["origin"] != "assumed",
            "the note of an assumed value must say why",
            f"that of {row['name']} is empty",
        )
    promise(
        tomlio.loads(Hardware, tomlio.dumps(hardware)) == hardware,
        "a card must be read back from TOML as written",
        "it is not",
    )
    below = {"power": 0.0, "area": 0.0}
    for level in hardware.levels:
        one, two = (call(f"the cost of {n} x {level.name}", totals, hardware, level.name, n) for n in (1, 2))
        children = 1.0 if level.children is None else level.children.value
        for quantity in ("power", "area"):
            single, double = getattr(one, quantity), getattr(two, quantity)
            promise(
                math.isfinite(single) and single > 0, f"{quantity} of a {level.name} must be above 0", f"it is {single}"
            )
            promise(
                math.isclose(double, 2 * single, rel_tol=1e-9),
                f"two of {level.name} must have twice the {quantity} of one",
                f"they have {double} and {single}",
            )
            least = below[quantity] * children
            promise(
                single >= least * (1 - 1e-9),
                f"{quantity} of a {level.name} must be at least that of what it holds",
                f"{single} < {least}",
            )
            below[quantity] = single
    for total in compare_published(hardware):
        promise(
            total.within_rounding or total.note.strip(),
            "a published total must come out within its rounding, or its note must say why not",
            str(total),
        )
    return hardware


@entrance
def check_design_card(name_or_path: str | os.PathLike[str]) -> Design:
    """Check that the card of a design can be read, says where its values come from, and agrees with its component card.

    It must be called like its file; cite a source, and say so where its digital object identifier is not verified; say
    what of the source it cannot say; note where each value stands, or why it was assumed; survive TOML exactly; and,
    where it names a component card that comes with the project, have arrays and drivers of that card's sizes.

    Parameters
    ----------
    name_or_path
        The card's name, or its file.

    Returns
    -------
    Design
        The design that it describes.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    """
    read: DesignCard = call(f"reading the card {os.fspath(name_or_path)!r}", design_card, name_or_path)
    _check_citation(read.name, read.description, name_or_path)
    _check_source(read.source, read.doi, "design")
    promise(
        any(limit.strip() for limit in read.limits), "limits must say what of the source is not in it", "there are none"
    )
    for value in read.values:
        promise(
            value.note.strip(), "a note must say where a value stands, or why it was assumed", f"of {value.parameters}"
        )
    design = read.design
    promise(
        tomlio.loads(DesignCard, tomlio.dumps(read)) == read,
        "a card must be read back from TOML as written",
        "it is not",
    )
    promise(
        Design.from_toml(design.to_toml()) == design, "its design must be read back from TOML as written", "it is not"
    )
    if read.hardware is not None:
        promise(
            read.hardware in hardware_names(), "hardware must name a component card", f"there is no {read.hardware!r}"
        )
        array = Hardware.load(read.hardware).array
        here = design.mapping.rows, design.mapping.columns, design.periphery.dac_bits
        there = array.rows, array.columns, array.dac_bits
        promise(here == there, "rows, columns and bits of a driver must be those of the component card",
                f"they are {here} and {there}")  # fmt: skip
    return design
