"""The command line: ``xbarsim demo``, ``xbarsim info`` and so on, one file a command."""

from __future__ import annotations

from xbarsim.cli.app import COMMANDS, application, main

__all__ = ["COMMANDS", "application", "main"]
