"""The commands, put together. A new one is a file of its own and a line here.

Nothing heavy is loaded before a command needs it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from xbarsim.cli.cost import cost
from xbarsim.cli.demo import demo
from xbarsim.cli.errors import EXIT_CODES, INTERRUPTED, guarded
from xbarsim.cli.evaluate import evaluate
from xbarsim.cli.export import export
from xbarsim.cli.fit import fit
from xbarsim.cli.info import info
from xbarsim.cli.merge import merge
from xbarsim.cli.plot import plot
from xbarsim.cli.report import report
from xbarsim.cli.search import search
from xbarsim.cli.show import show
from xbarsim.cli.sweep import sweep
from xbarsim.foundation.version import VERSION

__all__ = ["COMMANDS", "application", "main"]

COMMANDS: tuple[Callable[..., None], ...] = (
    demo,
    info,
    fit,
    cost,
    evaluate,
    sweep,
    search,
    show,
    merge,
    export,
    plot,
    report,
)
"""In the order in which help lists them."""

application = typer.Typer(
    name="xbarsim",
    help="Accuracy, power and area of neural networks on faulty resistive-memory crossbars.",
    epilog=EXIT_CODES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in COMMANDS:
    application.command(epilog=EXIT_CODES)(guarded(_command))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"xbarsim {VERSION}")
        raise typer.Exit


@application.callback()
def _xbarsim(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; the entry point of ``xbarsim``."""
    try:
        application()
    except KeyboardInterrupt:  # before a command began
        sys.exit(INTERRUPTED)
