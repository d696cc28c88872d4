"""Names of pruning targets and methods: a class is known by its name as soon as it is defined, in whatever file."""

from __future__ import annotations

__all__ = ["register"]


def register(known: dict[str, type], cls: type) -> None:
    """Note a subclass under its name; the same class defined again takes the place of the one before.

    Raises
    ------
    TypeError
        If another class has the name: a file could not say which one it means.
    """
    other = known.get(cls.__name__)
    if other is not None and (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
        raise TypeError(
            f"{cls.__module__}.{cls.__qualname__} must have a name of its own in TOML files: "
            f"{other.__module__}.{other.__qualname__} is {cls.__name__!r} there"
        )
    known[cls.__name__] = cls
