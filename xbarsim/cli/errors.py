"""Errors in one line, each kind with its exit code."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import typer
from rich.console import Console

from xbarsim.foundation.validation import FileFormatError, FileWriteError, InputError

__all__ = ["EXIT_CODES", "FAILED", "INTERRUPTED", "guarded"]

BAD_INPUT, MISSING_DATA, CANNOT_WRITE, FAILED, INTERRUPTED = 2, 3, 4, 5, 130
EXIT_CODES = (
    "Exit codes: 0 done; 2 wrong usage or input; 3 data, or a package that brings them, is missing; "
    "4 a result cannot be written; 130 interrupted."
)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn what a user can cause into one line on standard error and an exit code."""
    try:
        yield
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    except FileWriteError as error:
        _fail(error.strerror or str(error), CANNOT_WRITE)
    except (FileNotFoundError, ImportError) as error:
        _fail(str(error), MISSING_DATA)
    except (InputError, FileFormatError) as error:
        _fail(str(error), BAD_INPUT)


def _fail(message: str, code: int) -> None:
    Console(stderr=True).print(f"xbarsim: {message}", markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(code)


def guarded(command: Callable[..., None]) -> Callable[..., None]:
    """A command that fails in one line."""

    @functools.wraps(command)
    def run(*arguments: Any, **options: Any) -> None:
        with one_line_errors():
            command(*arguments, **options)

    return run
