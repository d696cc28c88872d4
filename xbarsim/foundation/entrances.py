"""The gate of public functions: arguments of another kind than the annotation says are refused, and arrays are made.

What an annotation says is checked here, once for all; the bounds of a value are checked by the function. An argument
that NumPy can take for an ``npt.ArrayLike`` or ``npt.NDArray`` arrives as an array, one for a path as it was given.
"""

from __future__ import annotations

import collections.abc
import contextlib
import dataclasses
import functools
import inspect
import math
import os
import sys
import types
import typing
from collections.abc import Callable
from numbers import Integral, Real
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, Union

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.validation import InputError, as_array, check_path, shown

__all__ = ["check_fields", "entrance"]

P = ParamSpec("P")
T = TypeVar("T")


def _members(annotation: Any) -> tuple[Any, ...]:
    """The parts of a union, however deep; aliases of the statement ``type`` (as NumPy 2.5 has) are what they stand for.

    Such an alias has no origin and no arguments of its own: read as it is, it would be a kind without parts.
    """
    origin = typing.get_origin(annotation)
    if type(origin).__name__ == "TypeAliasType":  # Python 3.12 and later
        return _members(origin.__value__[typing.get_args(annotation)])
    if type(annotation).__name__ == "TypeAliasType":
        return _members(annotation.__value__)
    if origin in (Union, types.UnionType):
        return tuple(member for part in typing.get_args(annotation) for member in _members(part))
    return (annotation,)


_ARRAY_LIKE = frozenset(_members(npt.ArrayLike))


def _is_array(annotation: Any) -> bool:
    return annotation is np.ndarray or typing.get_origin(annotation) is np.ndarray


def _is_path(annotation: Any) -> bool:
    origin = typing.get_origin(annotation) or annotation
    return isinstance(origin, type) and (issubclass(origin, Path) or origin is os.PathLike)


def _is_sequence(annotation: Any) -> bool:
    """Whether it is a sequence of one kind."""
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is tuple:
        return parts[1:] == (Ellipsis,)
    return isinstance(origin, type) and issubclass(origin, collections.abc.Sequence) and len(parts) == 1


def _describe(annotation: Any) -> str:
    if annotation is types.NoneType:
        return "None"
    if annotation is float:
        return "a number"
    if annotation is int:
        return "an integer"
    if annotation is str:
        return "text"
    if annotation is bool:
        return "True or False"
    origin = typing.get_origin(annotation)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_describe, typing.get_args(annotation)))
    if origin is Literal:
        return "one of " + ", ".join(map(repr, typing.get_args(annotation)))
    if origin is collections.abc.Callable:
        return "callable"
    if origin is tuple:
        parts = typing.get_args(annotation)
        if parts[1:] == (Ellipsis,):
            return f"a tuple of which each is {_describe(parts[0])}"
        return f"({', '.join(map(_describe, parts))})"
    if isinstance(origin, type):
        inside = ", ".join(map(_describe, typing.get_args(annotation)))
        kind = f"of type {origin.__name__.lower()}"
        return f"{kind}, each {inside}" if inside else kind
    return f"of type {getattr(annotation, '__name__', annotation)}"


def _is_of_numbers(annotation: Any) -> bool:
    """Whether a value is a number, several, or nothing: functions know their bounds, and say more of them."""
    if annotation in (int, float, types.NoneType):
        return True
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType, tuple):
        return all(part is Ellipsis or _is_of_numbers(part) for part in parts)
    return False


def _fits(annotation: Any, value: Any) -> bool:
    """Whether a value is of the kind that an annotation says; what no rule is known of fits."""
    if annotation is Any:
        return True
    if annotation is None or annotation is types.NoneType:
        return value is None
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (Union, types.UnionType):
        return any(_fits(part, value) for part in parts)
    if origin is Literal:
        return any(type(value) is type(part) and value == part for part in parts)
    if origin is collections.abc.Callable or annotation is Callable:
        return callable(value)
    if origin is tuple:
        if not isinstance(value, tuple | list):
            return False
        if parts[1:] == (Ellipsis,):
            return all(_fits(parts[0], item) for item in value)
        return len(parts) == len(value) and all(map(_fits, parts, value))
    if origin is type:
        return isinstance(value, type)
    if isinstance(origin, type) and issubclass(origin, collections.abc.Mapping):
        return isinstance(value, collections.abc.Mapping) and all(
            _fits(parts[0], key) and _fits(parts[1], item) for key, item in value.items()
        )
    if isinstance(origin, type) and issubclass(origin, collections.abc.Sequence):
        return (
            isinstance(value, origin)
            and not isinstance(value, str | bytes)
            and all(_fits(parts[0], item) for item in value)
        )
    if _is_path(annotation):
        return isinstance(value, os.PathLike)
    if annotation is bool:
        return isinstance(value, bool | np.bool_)
    if annotation is int:
        return isinstance(value, Integral) and not isinstance(value, bool | np.bool_)
    if annotation is float:
        return not isinstance(value, bool | np.bool_) and isinstance(value, Real) and _is_number(value)
    plain = origin or annotation
    if isinstance(plain, type) and _can_be_asked(plain):
        return isinstance(value, plain)
    return True


def _can_be_asked(kind: type) -> bool:
    """Whether a type can say what is of it: not a protocol, unless it is one that says so."""
    return not getattr(kind, "_is_protocol", False) or getattr(kind, "_is_runtime_protocol", False)


def _is_number(value: Any) -> bool:
    try:
        return not math.isnan(value)
    except OverflowError:  # an integer beyond what a float holds
        return False


@dataclasses.dataclass(frozen=True)
class _Kind:
    """An annotation, read once.

    Attributes
    ----------
    annotation
        As it stands.
    array, path
        Whether it takes an array, or a path.
    others
        Its members that are neither.
    words
        The text that it names.
    items
        What each item of a tuple is, of whatever length; ``None`` where it takes no such tuple.
    sure
        Types whose values fit in any case, those of values that did among them.
    """

    annotation: Any
    array: bool
    path: bool
    others: tuple[Any, ...]
    words: frozenset[str]
    items: _Kind | None
    sure: set[type]

    @classmethod
    def of(cls, annotation: Any) -> _Kind:
        members = _members(annotation)
        array_like = set(members) >= _ARRAY_LIKE
        others = tuple(part for part in members if not _is_array(part) and not (array_like and part in _ARRAY_LIKE))
        array = array_like or len(others) < len(members)
        path = not array and any(map(_is_path, members))
        if path:
            others = tuple(part for part in members if not _is_path(part) and part is not str)
        words = [word for part in others if typing.get_origin(part) is Literal for word in typing.get_args(part)]
        tuples = [typing.get_args(part) for part in others if typing.get_origin(part) is tuple]
        items = cls.of(tuples[0][0]) if len(tuples) == 1 and tuples[0][1:] == (Ellipsis,) else None
        sure = {part for part in others if _fits_itself(part)}
        texts = frozenset(word for word in words if type(word) is str)
        return cls(annotation, array, path, others, texts, items, sure)

    def takes(self, value: Any) -> bool:
        """Whether a value fits as it is, and is seen to without a closer look; no says nothing."""
        kind = type(value)
        if kind in self.sure:
            return True
        if kind is np.ndarray:
            return self.array and value.size <= _SMALL and value.dtype.kind in "biuf" and value.dtype.isnative
        if kind is str:
            return value in self.words
        if kind is tuple:
            return self.items is not None and all(map(self.items.takes, value))
        return kind is float and value == value and float in self.others

    def learn(self, value: Any) -> None:
        """Remember the type of a value that fits, if every value of it does."""
        if any(_fits_itself(part) and isinstance(value, part) for part in self.others):
            self.sure.add(type(value))


def _fits_itself(part: type) -> bool:
    """Whether it is a class that stands for its instances, and for nothing that has to be looked into."""
    if not isinstance(part, type) or part is float or typing.get_origin(part) is not None:
        return False
    return not getattr(part, "_is_protocol", False)


_SMALL = 2**20  # numbers of an array that fits into every machine's memory


def _checked(name: str, kind: _Kind, value: Any) -> Any:
    """`value`, as an array where the annotation says one, or an InputError."""
    if kind.takes(value):
        return value
    if kind.array:
        if any(_fits(part, value) for part in kind.others):
            return value
        array = as_array(name, value)
        if array.dtype.kind not in "biuf":
            raise InputError(f"{name} must be an array of real numbers, got type {array.dtype}")
        return array
    if kind.path:
        if not any(_fits(part, value) for part in kind.others):
            check_path(name, value)
        return value
    if not _fits(kind.annotation, value):
        for part in _members(kind.annotation):  # one of several: named by its place
            inside = typing.get_args(part)
            if _is_sequence(part) and isinstance(value, tuple | list):
                for index, item in enumerate(value):
                    _checked(f"{name}[{index}]", _Kind.of(inside[0]), item)
        raise InputError(
            f"{name} must be {_describe(kind.annotation)}, got {shown(value)} of type {type(value).__name__}"
        )
    kind.learn(value)
    return value


def _hints(owner: Any) -> dict[str, Any]:
    """The annotations that can be read here; those of packages that are only loaded for types are left out."""
    found: dict[str, Any] = {}
    for part in reversed(owner.__mro__) if isinstance(owner, type) else (owner,):
        names = vars(sys.modules[part.__module__])
        own = vars(part) if isinstance(part, type) else {"__annotations__": part.__annotations__}
        for name, annotation in own.get("__annotations__", {}).items():
            if "ClassVar" in str(annotation):  # no field
                continue
            alone = types.SimpleNamespace(__annotations__={name: annotation})
            with contextlib.suppress(NameError):
                found.update(typing.get_type_hints(alone, names))
    return found


def entrance(function: Callable[P, T]) -> Callable[P, T]:
    """Make a public function refuse arguments of another kind than its annotations say.

    Raises
    ------
    InputError
        By the function, naming the parameter, what it must be and what it was.

    Examples
    --------
    >>> @entrance
    ... def halve(number: float) -> float:
    ...     return number / 2
    >>> halve(3)
    1.5
    >>> halve("3")
    Traceback (most recent call last):
    xbarsim.foundation.validation.InputError: number must be a number, got '3' of type str
    """
    parameters = inspect.signature(function).parameters
    names = [n for n, p in parameters.items() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    more = next((n for n, p in parameters.items() if p.kind is p.VAR_POSITIONAL), "")
    others = next((n for n, p in parameters.items() if p.kind is p.VAR_KEYWORD), "")
    kinds: dict[str, _Kind] = {}
    ordered: list[_Kind | None] = []  # those of `names`
    read = False

    @functools.wraps(function)
    def checked(*arguments: P.args, **keywords: P.kwargs) -> T:
        nonlocal read
        if not read:  # at the first call: by then the names in annotations are there
            hints = _hints(function).items()
            kinds.update({name: _Kind.of(hint) for name, hint in hints if hint is not Any and name in parameters})
            ordered.extend(map(kinds.get, names))
            read = True
        if len(arguments) <= len(ordered) and _taken(ordered, arguments, kinds, keywords):
            return function(*arguments, **keywords)
        doubtful: InputError | None = None

        def check(name: str, value: Any) -> Any:
            nonlocal doubtful
            if name not in kinds:
                return value
            try:
                return _checked(name, kinds[name], value)
            except InputError as error:
                if not _is_of_numbers(kinds[name].annotation):
                    raise
                doubtful = doubtful or error
                return value

        # a wrong or missing name is left to the call: Python says so, in its own words
        given: list[Any] = [
            check(names[place] if place < len(names) else more, value) for place, value in enumerate(arguments)
        ]
        named: dict[str, Any] = {
            key: check(key if key in parameters else others, value) for key, value in keywords.items()
        }
        if doubtful is None:
            return function(*given, **named)
        try:  # the function names the bound besides; where it takes the value, or fails otherwise, its kind is named
            function(*given, **named)
        except InputError:
            raise
        except Exception as error:
            raise doubtful from error
        raise doubtful

    return checked


def _taken(
    ordered: list[_Kind | None], arguments: tuple[Any, ...], kinds: dict[str, _Kind], keywords: dict[str, Any]
) -> bool:
    """Whether all arguments of a call are seen to fit without a closer look."""
    for kind, value in zip(ordered, arguments, strict=False):
        if kind is not None and not kind.takes(value):
            return False
    return all(key in kinds and kinds[key].takes(value) for key, value in keywords.items())


def check_fields(instance: Any) -> None:
    """Refuse a dataclass with a field of another kind than its annotation says; arrays are made of what is like one.

    To be called first in ``__post_init__``; the bounds are checked there.

    Raises
    ------
    InputError
        Naming the field, what it must be and what it was.
    """
    kinds = _field_kinds(type(instance))
    for name, kind in kinds.items():
        value = getattr(instance, name)
        made = _checked(name, kind, value)
        if made is not value:
            object.__setattr__(instance, name, made)


def _field_kinds(cls: Any) -> dict[str, _Kind]:
    if cls not in _kinds_of:
        hints = _hints(cls)
        _kinds_of[cls] = {
            field.name: _Kind.of(hints[field.name])
            for field in dataclasses.fields(cls)
            if field.init and hints.get(field.name, Any) is not Any
        }
    return _kinds_of[cls]


_kinds_of: dict[Any, dict[str, _Kind]] = {}  # by class, read once
