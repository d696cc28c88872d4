"""What messages say of a name that is none of those there are."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

__all__ = ["one_of"]

_MOST_CHOICES = 8  # that a message names


def one_of(value: object, choices: Iterable[str], *, listed: str = "", other: str = "", got: str | None = None) -> str:
    """What a message says of a value that is none of the choices: ``"one of 'a', 'b', got 'c'"``.

    Few choices are named; of many, the closest to what was given, or the first, and where they are listed.

    Parameters
    ----------
    value
        What was given.
    choices
        What could have been.
    listed
        A command that lists them.
    other
        What could have been given besides, such as ``"or a path ending in '.toml'"``.
    got
        What the message says that the value was; ``None`` for its ``repr``.
    """
    names = list(choices)
    near = difflib.get_close_matches(value, names, n=3) if isinstance(value, str) else []
    if not near and isinstance(value, str):
        near = [known for known in names if len(value) >= 3 and value.lower() in known.lower()][:3]
    if len(names) <= _MOST_CHOICES:
        text = ", ".join(map(repr, names))
    else:
        some = ", ".join(map(repr, names[:_MOST_CHOICES]))
        text = f"{len(names)} names" if near else f"{some} and {len(names) - _MOST_CHOICES} others"
    hint = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    where = f"; '{listed}' lists them" if listed else ""
    return f"one of {text}{f', {other}' if other else ''}, got {repr(value) if got is None else got}{hint}{where}"
