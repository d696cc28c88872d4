"""The command line: ``xbarsim demo``, ``xbarsim info`` and so on, one file a command."""

from __future__ import annotations

from xbarsim.cli.app import Topic, app, main

__all__ = ["Topic", "app", "main"]
