"""What the conformance tests are made of: promises that name themselves when they are broken."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import InputError

__all__ = ["call", "check_value", "for_all", "load_hypothesis", "promise", "refuses"]

EXAMPLES = 50


def load_hypothesis() -> Any:
    """Hypothesis, or an error that says how to install it."""
    try:
        import hypothesis
    except ImportError as error:
        raise ImportError("xbarsim.testing needs the package hypothesis: pip install hypothesis") from error
    return hypothesis


def for_all(test: Callable[..., None], examples: int = EXAMPLES, **strategies: Any) -> None:
    """Run a test on generated arguments, the same in every run; the first that fails is reported."""
    hypothesis = load_hypothesis()
    settings = hypothesis.settings(
        phases=[hypothesis.Phase.generate],
        max_examples=examples,
        database=None,
        deadline=None,
        derandomize=True,
        print_blob=False,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    try:
        settings(hypothesis.given(**strategies)(test))()
    except hypothesis.errors.Flaky as error:  # it failed, and then did not with the same arguments
        raise AssertionError(f"the same arguments must give the same answer; {error}") from error


def promise(kept: Any, words: str, observed: object) -> None:
    """Fail unless the promise was kept, saying in `words` what it is and what was `observed` instead."""
    if not bool(kept):
        raise AssertionError(f"{words}; {observed}")


def call(what: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a call that must not raise."""
    try:
        return function(*arguments)
    except Exception as error:
        raise AssertionError(f"{what} must not raise; it raised {type(error).__name__}: {error}") from error


def refuses(what: str, function: Callable[..., Any], *arguments: Any) -> None:
    """A call that must raise `InputError`."""
    try:
        result = function(*arguments)
    except InputError:
        return
    except Exception as error:
        raise AssertionError(
            f"{what} must be refused by InputError; it raised {type(error).__name__}: {error}"
        ) from error
    raise AssertionError(f"{what} must be refused by InputError; it gave {result!r}")


def check_value(value: Any, base: type) -> None:
    """A frozen dataclass that is equal to what is read back from its TOML text."""
    name = type(value).__name__
    settings = getattr(type(value), "__dataclass_params__", None)
    promise(
        dataclasses.is_dataclass(value) and settings is not None and settings.frozen,
        f"{name} must be a frozen dataclass",
        "it is not",
    )
    call(f"hash() of {name}", hash, value)
    text = call(f"writing {name} as TOML", tomlio.dumps, value)
    again = call(f"reading {name} from TOML", tomlio.loads, base, text)
    promise(again == value, f"{name} must be read back from TOML as it was written", f"{value!r} became {again!r}")
