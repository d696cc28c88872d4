"""The glossary: every field of what a design is made of, from the docstrings and defaults of the classes."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any, NamedTuple

from numpydoc.docscrape import ClassDoc

# Rooms in the order in which a chip is described; of each, the classes whose fields a user sets.
GROUPS: tuple[tuple[str, str, str], ...] = (
    ("The design", "xbarsim.design", "Design Periphery AdcErrors DacErrors"),
    ("Mapping", "xbarsim.mapping", "Mapping Offset Unary"),
    ("The cell", "xbarsim.devices", "Cell ProgrammingError Polynomial"),
    ("Read noise", "xbarsim.devices", "ReadNoise ThermalNoise ShotNoise FlickerNoise TelegraphNoise SummedNoise"),
    ("Drift", "xbarsim.devices", "LogarithmicDrift PowerLawDrift MeasuredDrift DriftStep"),
    ("Wires and lines", "xbarsim.circuit", "Wires"),
    ("Broken lines", "xbarsim.devices", "LineFaults"),
    ("Currents of cells", "xbarsim.circuit", "SinhLaw PolynomialLaw"),
    (
        "Faults",
        "xbarsim.devices",
        "StuckFaults BetaBinomialFaults ClusteredFaults StuckLineFaults GradientFaults RadialFaults WearOutFaults "
        "StuckAtFaults MeasuredFaults CombinedFaults ListedConductances UniformConductances LogNormalConductances",
    ),
    ("What is known of faults", "xbarsim.mitigation", "Diagnosis KindCoverage"),
    (
        "Repair",
        "xbarsim.mitigation",
        "ClosestValue PermuteRows PermuteColumns FlipSigns OrderSlices AssignArrays AverageCopies ChooseCopies "
        "JointCopies CorrectDigitally ProtectLayers RecalibrateOutputs",
    ),
)

# A unit in a docstring stands alone between marks: "Read voltage, V.", "S, above 0".
_UNIT = re.compile(r"(?:^|, )(S|V|ohm|Hz|K|J|s|cells|bits)(?=[,.;:)]|$| or | \()")
_SAID = {  # units that are said in words
    "in level steps times plane code": "level steps times code",
    "in steps of its plane code": "steps",
    "the offset, in codes": "codes",
    "NL2 in A/V^2 and NL3 in A/V^3": "A/V^2, A/V^3",
}
# What says that a number has no unit.
_BARE = re.compile(
    r"probabilit|share|relative|correlation|unitless|quantile|gain|standard deviation of the natural logarithm|slope"
    r"|writes|coefficient|power of the|mean number|power of|exponent|-?[01]\b.* to 1\b|above 0, at most",
    re.IGNORECASE,
)
_AS_IN = re.compile(r"As in :class:`~?(?:[\w.]+\.)?(\w+)`")


class Parameter(NamedTuple):
    """One row of the glossary."""

    name: str
    unit: str
    default: str
    meaning: str


def unit_of(field: Field[Any], text: str) -> str:
    """The unit that a field's text states: ``"1"`` for a number without one, ``""`` for what is no number.

    Raises
    ------
    ValueError
        If it is a number, and neither a unit nor a word that says there is none stands in the text.
    """
    kind = re.sub(r"Literal\[.*?\]", "", str(field.type))
    if not re.search(r"\b(int|float)\b", kind):
        return ""
    for words, unit in _SAID.items():
        if words in text:
            return unit
    if (found := _UNIT.search(text)) is not None:
        return found[1]
    if not re.search(r"\bfloat\b", kind):
        return "bits" if field.name.endswith("_bits") else "1"
    if _BARE.search(text):
        return "1"
    raise ValueError(f"{field.name} is a number, but no unit stands in: {text}")


def default_of(field: Field[Any]) -> str:
    """A field's default as it would be written."""
    if field.default is MISSING:
        return "required" if field.default_factory is MISSING else f"{field.default_factory.__name__}()"
    plain = is_dataclass(field.default) and field.default == type(field.default)()
    return f"{type(field.default).__name__}()" if plain else repr(field.default)


def told_of(kind: type) -> dict[str, str]:
    """What the docstring of a class says of each field; where it refers to another class, what that one's says."""
    sections = ClassDoc(kind, config={"show_class_members": False})
    told: dict[str, str] = {}
    for section in ("Parameters", "Attributes"):
        for names, _, lines in sections[section]:
            told |= {name.strip(): " ".join(lines) for name in names.split(",")}
    for name, text in told.items():
        if (other := _AS_IN.match(text)) is not None:
            told[name] = told_of(getattr(importlib.import_module(kind.__module__), other[1]))[name] + text[
                other.end() :
            ].lstrip(".")
    return told


def parameters_of(kind: type) -> Iterator[Parameter]:
    """The fields of a class that can be given, in its own order.

    Raises
    ------
    ValueError
        If one has no text in the class's docstring, or no unit.
    """
    assert is_dataclass(kind)
    told = told_of(kind)
    for field in fields(kind):
        if not field.init:
            continue
        if field.name not in told:
            raise ValueError(f"{kind.__module__}.{kind.__name__}.{field.name} is not in the docstring")
        yield Parameter(field.name, unit_of(field, told[field.name]), default_of(field), told[field.name])


def groups() -> Iterator[tuple[str, list[tuple[str, type, list[Parameter]]]]]:
    """Every group: its title, and of each class the dotted name, itself and its parameters."""
    for title, room, names in GROUPS:
        face = importlib.import_module(room)
        classes = [(f"{room}.{name}", getattr(face, name)) for name in names.split()]
        yield title, [(dotted, kind, list(parameters_of(kind))) for dotted, kind in classes]


def text() -> list[str]:
    """The glossary in reStructuredText, from the second level of headings down."""
    lines: list[str] = []
    for title, classes in groups():
        lines += [title, "-" * len(title), ""]
        for dotted, kind, parameters in classes:
            lines += [f":py:class:`~{dotted}`: {ClassDoc(kind)['Summary'][0]}", ""]
            if not parameters:
                lines += ["Nothing to set.", ""]
                continue
            lines += [".. list-table::", "   :header-rows: 1", "   :widths: 18 8 14 60", "   :class: parameters", ""]
            for row in (("name", "unit", "default", "meaning"), *parameters):
                cells = (
                    row
                    if row[0] == "name"
                    else (
                        f"``{row[0]}``",
                        row[1] or "—",
                        f"``{row[2]}``" if row[2] != "required" else "*required*",
                        row[3],
                    )
                )
                lines += [f"   {'*' if index == 0 else ' '} - {cell}" for index, cell in enumerate(cells)]
            lines.append("")
    return lines
