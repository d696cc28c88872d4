"""The command line, run in this process."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from xbarsim.cli import application

__all__ = ["one_line", "run"]


def run(*arguments: str) -> Result:
    """Run ``xbarsim`` with these arguments, on a wide terminal without colours."""
    return CliRunner().invoke(application, list(arguments), env={"COLUMNS": "200", "NO_COLOR": "1"})


def one_line(result: Result, code: int, message: str) -> None:
    """The command failed with this code and one line that holds the message."""
    assert result.exit_code == code
    assert message in result.output
    assert result.output.count("\n") == 1
    assert result.output.startswith("xbarsim: ")
