"""What is done about faults, as it is said on the command line; and what there is to say."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from typing import TYPE_CHECKING, Any

from xbarsim.foundation import tomlio
from xbarsim.foundation.named import named_class, names_code
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.foundation.words import one_of

if TYPE_CHECKING:
    from xbarsim.mitigation import Diagnosis, Mitigation

__all__ = ["methods", "mitigation_costs", "mitigation_name", "mitigation_settings", "repair"]

_KEYS = ("mitigations", "diagnosis")


def mitigation_name(kind: type) -> str:
    """The name of a method on the command line: ``PermuteRows`` is ``permute-rows``."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()


def methods() -> dict[str, type[Mitigation]]:
    """The methods that come with the project, by their names on the command line, sorted."""
    from xbarsim import mitigation

    kinds = (getattr(mitigation, name) for name in mitigation.__all__)
    found = [
        kind
        for kind in kinds
        if isinstance(kind, type) and issubclass(kind, mitigation.Mitigation) and kind is not mitigation.Mitigation
    ]
    return {mitigation_name(kind): kind for kind in sorted(found, key=lambda kind: kind.__name__)}


def mitigation_settings(kind: type[Mitigation]) -> dict[str, str]:
    """The fields of a method, each with its default as text, or ``"needed"``."""
    return {field.name: "needed" if _needed(field) else repr(field.default) for field in _fields(kind)}


def _fields(kind: type[Mitigation]) -> tuple[Field[Any], ...]:
    return fields(kind) if is_dataclass(kind) else ()


def _needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def mitigation_costs(kind: type[Mitigation]) -> str:
    """What a method costs, by what it overrides of :class:`xbarsim.mitigation.Mitigation`."""
    from xbarsim.mitigation import Mitigation

    def overrides(*names: str) -> bool:
        return any(getattr(kind, name) is not getattr(Mitigation, name) for name in names)

    settings = mitigation_settings(kind)
    costs = []
    if "copies" in settings:
        costs.append("every array as often as there are copies, and their average")
    if "spare" in settings:
        costs.append("the spare lines of every array")
    if overrides("overhead"):
        text = _first_paragraph(kind.overhead).rstrip(".")
        costs.append(text[:1].lower() + text[1:])
    elif overrides("fit", "fit_layer"):
        costs.append("the cells written anew")
    if overrides("adjust"):
        costs.append("a gain and an offset for each output, and images that are run once")
    if overrides("surviving_faults"):
        costs.append("redundancy that is not counted")
    return "; ".join(costs)


def _first_paragraph(documented: Any) -> str:
    return " ".join((inspect.getdoc(documented) or "").partition("\n\n")[0].split())


def repair(
    named: Sequence[str], coverage: float | None, false_alarm: float | None
) -> tuple[tuple[Mitigation, ...], Diagnosis | None]:
    """What is done about faults, and what is known of them, as options say.

    Parameters
    ----------
    named
        Methods by name, as ``"module:Class"``, or as a TOML file with ``[[mitigations]]`` and perhaps ``[diagnosis]``.
    coverage, false_alarm
        Of the test that finds the faults; ``None`` where there is none, or a file says.

    Raises
    ------
    InputError
        If there is no such method, one needs a map and there is no test, or a test is given and none needs it.
    FileFormatError
        If a file cannot be read, or holds something else.
    """
    from xbarsim.mitigation import Diagnosis

    found: list[Mitigation] = []
    diagnosis: Diagnosis | None = None
    for text in named:
        if not text.endswith(".toml"):
            found.append(_method(text))
            continue
        own, test = _read(text)
        found += own
        if test is not None and diagnosis is not None:
            raise InputError(f"mitigate must give one diagnosis, got another one in {text}")
        diagnosis = test or diagnosis
    for name, value in (("coverage", coverage), ("false_alarm", false_alarm)):
        if value is not None and diagnosis is not None:
            raise InputError(f"{name} must not be given beside a file with [diagnosis], got {value}")
    if coverage is not None:
        diagnosis = Diagnosis(coverage=coverage, false_alarm=false_alarm or 0.0)
    elif false_alarm is not None:
        raise InputError(f"coverage must be given with false_alarm, got {false_alarm} alone")
    asking = [type(method) for method in found if method.needs == "map"]
    if asking and diagnosis is None:
        raise InputError(
            f"coverage must be given for {mitigation_name(asking[0])}, which needs a map of the faults "
            "(--coverage 1 finds all of them), got none"
        )
    if diagnosis is not None and not asking:
        raise InputError("coverage must be given only with a method that needs a map of the faults, got none of these")
    return tuple(found), diagnosis


def _method(text: str) -> Mitigation:
    """A method with the settings that it has by itself."""
    from xbarsim.mitigation import Mitigation

    known = methods()
    by_name = {**{each.__name__: each for each in known.values()}, **known}
    if names_code(text):
        kind: type[Mitigation] = named_class("mitigate", text, Mitigation, folder=".")
    elif text in by_name:
        kind = by_name[text]
    else:
        fitting = one_of(text, known, other="module:Class or a TOML file", listed="xbarsim info mitigations")
        raise InputError(f"mitigate must be {fitting}")
    missing = [field.name for field in _fields(kind) if _needed(field)]
    if missing:
        raise InputError(f"mitigate must be a TOML file for {text}, which needs {', '.join(missing)}; got its name")
    return kind()


def _read(path: str) -> tuple[list[Mitigation], Diagnosis | None]:
    """The methods and the diagnosis of a file."""
    from xbarsim.mitigation import Diagnosis, Mitigation

    text = tomlio.read_text(path, "mitigations")
    table = tomlio.parse(text, source=path)
    unknown = sorted(set(table) - set(_KEYS))
    if unknown:
        raise FileFormatError(f"{path} has no key {', '.join(map(repr, unknown))}; its keys are {', '.join(_KEYS)}")
    listed, test = table.get("mitigations"), table.get("diagnosis")
    if not isinstance(listed, list) or not listed or not all(isinstance(each, dict) for each in listed):
        raise FileFormatError(f"{path} must have [[mitigations]] tables, got {listed!r}")
    if not isinstance(test, dict | None):
        raise FileFormatError(f"{path}: diagnosis must be a table, got {test!r}")
    try:
        found: list[Mitigation] = [
            tomlio.from_table(Mitigation, each, path=f"mitigations[{number}]") for number, each in enumerate(listed)
        ]
        return found, None if test is None else tomlio.from_table(Diagnosis, test, path="diagnosis")
    except (FileFormatError, InputError) as error:
        raise type(error)(f"{tomlio.located(path, text, error.place)}: {error}") from error
