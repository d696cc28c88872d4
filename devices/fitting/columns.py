"""What the columns of a table of measurements are: a role each, with a unit where it needs one.

In a *long* table every row is a reading and one column holds what was read. In a *wide* table many columns hold
readings, and their headers say of what: a level, a target, a device, a cycle, a read or a time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from xbarsim.devices.fitting.table import TextTable
from xbarsim.devices.fitting.units import Dimension, Unit, example, parse_unit, split_header
from xbarsim.foundation.validation import FileFormatError, InputError

__all__ = ["Column", "Layout", "Role", "Wide", "read_layout"]

Role = Literal["reading", "target", "level", "voltage", "time", "cell", "row", "column", "tile", "cycle", "read"]
WideRole = Literal["target", "level", "cell", "cycle", "read", "time"]

_NAMES: dict[Role, str] = {
    "reading": "conductance g cond measured measuredconductance conductancemeasured gmeasured gmeas gread "
    "readconductance conductanceread reading value resistance r res measuredresistance rmeasured rmeas rread "
    "readresistance current i readcurrent measuredcurrent icell iread idc",
    "target": "target targetconductance conductancetarget gtarget targetg goal setpoint gset gprog programmedto "
    "targetresistance rtarget targetr targetcurrent itarget",
    "level": "level state code levelindex targetlevel leveltarget lvl",
    "voltage": "voltage v vread readvoltage voltageread bias vdc",
    "time": "time t elapsed elapsedtime delay age timeafterprogramming seconds",
    "cell": "cell device dut deviceid cellid id address addr deviceno cellno devicenumber cellnumber",
    "row": "row wl wordline",
    "column": "column col bl bitline",
    "tile": "tile array die chip",
    "cycle": "cycle programmingcycle write writecycle cyclenumber cycleno",
    "read": "read readnumber readno repeat repetition readindex",
}
_ROLE: dict[str, Role] = {name: role for role, names in _NAMES.items() for name in names.split()}
_DIMENSIONS: dict[Role, tuple[Dimension, ...]] = {
    "reading": ("conductance", "resistance", "current"),
    "target": ("conductance", "resistance", "current"),
    "voltage": ("voltage",),
    "time": ("time",),
}
_SAID: dict[str, Dimension] = {  # names that say what they are of
    **dict.fromkeys(("conductance", "g", "cond"), "conductance"),
    **dict.fromkeys(("resistance", "r", "res"), "resistance"),
    **dict.fromkeys(("current", "i"), "current"),
}
_NUMBER = r"[+-]?(?:\d+(?:[.,]\d*)?|[.,]\d+)(?:[eE][+-]?\d+)?"


@dataclass(frozen=True)
class Column:
    """A column and the unit of its numbers, or ``None`` where it has none."""

    index: int
    unit: Unit | None


@dataclass(frozen=True)
class Wide:
    """A column of readings of a wide table, and what its header says: a number, or the name of a cell."""

    index: int
    key: float | str
    unit: Unit


@dataclass(frozen=True)
class Layout:
    """What the columns of a table are.

    Attributes
    ----------
    roles
        Of a long table, or of what stands beside the readings of a wide one.
    wide
        The columns of readings of a wide table; empty for a long one.
    wide_role
        What their headers name.
    ignored
        Headers of a long table that say nothing this reader knows.
    notes
        What was assumed.
    """

    roles: dict[Role, Column]
    wide: tuple[Wide, ...]
    wide_role: WideRole | None
    ignored: tuple[str, ...]
    notes: tuple[str, ...]


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def read_layout(table: TextTable, header: tuple[str, ...], unit: str | None) -> Layout:
    """The roles of the columns.

    Parameters
    ----------
    table
        For messages.
    header
        Names of its columns, renamed where the caller knows better.
    unit
        Of readings and targets whose header has none.

    Raises
    ------
    InputError
        If `unit` is none of conductance, resistance or current.
    FileFormatError
        If a unit is missing, unknown, or of something else; a role is there twice; no column holds readings; or a
        column of a wide table cannot be told.
    """
    given = None
    if unit is not None:
        given = parse_unit(unit)
        if given is None or given.dimension not in _DIMENSIONS["reading"]:
            raise InputError(f"unit must be one of conductance, resistance or current, such as 'uS', got {unit!r}")
    roles: dict[Role, Column] = {}
    rest: list[int] = []
    for index, text in enumerate(header):
        role, own = _role_of(table, index, text)
        if role is None:
            rest.append(index)
            continue
        if role in roles:
            raise table.refuse_column(
                index, f"only one column may hold the {role}, and {table.header[roles[role].index]!r} does"
            )
        roles[role] = Column(index, own)
    notes: list[str] = []
    if "reading" in roles:
        stated: tuple[Role, ...] = ("reading", "target")
        for name in stated:
            column = roles.get(name)
            if column is not None and column.unit is None:
                roles[name] = Column(column.index, _given(table, column.index, given, header[column.index]))
        return Layout(roles, (), None, tuple(header[index] for index in rest), ())
    if "target" in roles and roles["target"].unit is None:
        roles["target"] = Column(roles["target"].index, _given(table, roles["target"].index, given, "target"))
    wide, wide_role = _wide(table, header, rest, given, notes)
    if wide_role in roles:
        raise table.refuse_column(
            roles[wide_role].index, f"the headers of the readings name the {wide_role} already, such as "
            f"{header[wide[0].index]!r}"
        )  # fmt: skip
    return Layout(roles, wide, wide_role, (), tuple(notes))


def _role_of(table: TextTable, index: int, text: str) -> tuple[Role | None, Unit | None]:
    """The role that a header names, with its unit."""
    name, unit_text, certain = split_header(text)
    role = _ROLE.get(_plain(name))
    if role is None or role not in _DIMENSIONS:
        role = role if unit_text is None or certain else _ROLE.get(_plain(text))
        if role is None or role not in _DIMENSIONS:
            return role, None
        name, unit_text, certain = text, None, False
    dimensions = _DIMENSIONS[role]
    said = next(
        (d for word, d in _SAID.items() if _plain(name) == word or (len(word) > 3 and word in _plain(name))), None
    )
    if unit_text is None:
        if _plain(name) == "seconds":
            return role, parse_unit("s")
        if role in ("time", "voltage"):
            raise table.refuse_column(index, f"it must state its unit, such as '{name} ({example(dimensions[0])})'")
        return role, None
    unit = parse_unit(unit_text)
    wanted = (said,) if said is not None else dimensions
    if unit is None or unit.dimension not in wanted:
        what = "is unknown" if unit is None else f"is one of {unit.dimension}"
        raise table.refuse_column(
            index, f"its unit must be one of {' or '.join(wanted)}, such as {example(wanted[0])!r}, "
            f"got {unit_text!r}, which {what}"
        )  # fmt: skip
    return role, unit


def _given(table: TextTable, index: int, given: Unit | None, name: str) -> Unit:
    if given is None:
        raise table.refuse_column(
            index, f"it must state its unit, such as '{name} (uS)' or '{name} (kOhm)'; or give unit='uS'"
        )
    said = _SAID.get(_plain(name))
    if said is not None and given.dimension != said:
        raise table.refuse_column(index, f"unit must be one of {said}, got {given.text!r}")
    return given


def _wide(
    table: TextTable, header: tuple[str, ...], rest: list[int], given: Unit | None, notes: list[str]
) -> tuple[tuple[Wide, ...], WideRole]:
    """The columns of readings of a wide table."""
    if not rest:
        raise FileFormatError(
            f"{table.path} must have a column of readings, such as 'conductance (uS)', 'resistance (kOhm)' or "
            "'current (nA)', or a column a level, target, device, cycle, read or time, "
            f"got {', '.join(map(repr, header))}"
        )
    found: list[tuple[int, WideRole, float | str, Unit | None]] = []
    for index in rest:
        what = _wide_key(header[index])
        if what is None:
            raise table.refuse_column(
                index,
                "it must be a known quantity with its unit, such as 'conductance (uS)', 'time (s)', 'target (uS)', "
                "'level', 'device' or 'cycle'; in a table with a column a level, target, device, cycle, read or time, "
                "one such as 'level 3 (uS)', '10 uS', 'device 7 (kOhm)', 'cycle 2 (uS)', 'read 2 (uS)' or "
                "'100 s (uS)'; rename says what it is",
            )
        if found and found[0][1] != what[0]:
            raise table.refuse_column(
                index, f"it must name a {found[0][1]}, as {header[found[0][0]]!r} does, got a {what[0]}"
            )
        found.append((index, *what))
    role = found[0][1]
    columns: list[Wide] = []
    for index, _, key, own in found:
        unit = own or given
        if unit is None and role == "target":
            assert isinstance(key, float)
            unit = _target_key(header[index])[1]
            note = f"the columns' readings are in the unit of their targets, {unit.text}"
            if note not in notes:
                notes.append(note)
        if unit is None:
            raise table.refuse_column(
                index, f"the unit of its readings must be stated, such as '{header[index]} (uS)'; or give unit='uS'"
            )
        columns.append(Wide(index, key, unit))
    keys = [column.key for column in columns]
    for column in columns:
        if keys.count(column.key) > 1:
            raise table.refuse_column(column.index, f"no two columns may be of one {role}, {column.key!r}")
    return tuple(columns), role


def _target_key(header: str) -> tuple[float, Unit]:
    match = re.fullmatch(rf"(?:target|g|r|at)?[\s_=:]*({_NUMBER})\s*(\S+)(?:\s*[(\[].*)?", header.strip())
    assert match is not None
    unit = parse_unit(match[2])
    assert unit is not None
    value = float(match[1].replace(",", ".")) * unit.factor
    return (1.0 / value if unit.dimension == "resistance" else value), unit


def _wide_key(header: str) -> tuple[WideRole, float | str, Unit | None] | None:
    """What a header of a wide table names: the role, its value, and the unit of the readings if it is stated."""
    text = header.strip()
    own: Unit | None = None
    bracket = re.fullmatch(r"(.*?)\s*[(\[]\s*([^()\[\]]*?)\s*[)\]]", text)
    if bracket:
        own = parse_unit(bracket[2])
        if own is None or own.dimension not in _DIMENSIONS["reading"]:
            return None
        text = bracket[1].strip()
    number = re.fullmatch(rf"(?:target|time|at|g|r|t)?[\s_=:]*({_NUMBER})\s*([^\s\d]+)", text)
    if number:
        unit = parse_unit(number[2])
        if unit is None:
            return None
        value = float(number[1].replace(",", ".")) * unit.factor
        if unit.dimension == "time":
            return "time", value, own
        if unit.dimension in ("conductance", "resistance") and value > 0:
            return "target", (1.0 / value if unit.dimension == "resistance" else value), own
        return None
    counted = re.fullmatch(r"(?i:(level|lvl|state|l|cycle|read|repeat))[\s_#.-]*(\d+)", text)
    if counted:
        word = counted[1].lower()
        role: WideRole = "cycle" if word == "cycle" else "read" if word in ("read", "repeat") else "level"
        return role, float(counted[2]), own
    named = re.fullmatch(r"(?i:device|dev|cell|dut|d|c|sample)[\s_#.-]*([0-9]\w*|(?<=[\s_#.-])\w+)", text)
    if named:
        return "cell", named[1], own
    return None
