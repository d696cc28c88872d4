"""The page of commands, from the command line's own descriptions."""

from __future__ import annotations

import re
from collections.abc import Iterator

from typer.main import get_command

_SPECIAL = re.compile(r"([\\`*_|])")


def plain(text: str | None) -> str:
    """A help text as reStructuredText that means just these letters, in one line."""
    return _SPECIAL.sub(r"\\\1", " ".join((text or "").split()))


def text() -> Iterator[str]:
    """Every command in the order of the help, in reStructuredText."""
    from xbarsim.cli import application

    known = get_command(application)
    for name, command in known.commands.items():  # type: ignore[attr-defined]
        positional = [each for each in command.params if each.param_type_name == "argument"]
        shown = [
            f"xbarsim {name}",
            *(each.name.upper() if each.required else f"[{each.name.upper()}]" for each in positional),
            "[OPTIONS]",
        ]
        title = f"xbarsim {name}"
        yield from (
            title,
            "-" * len(title),
            "",
            plain(command.help),
            "",
            ".. code-block:: text",
            "",
            f"   {' '.join(shown)}",
            "",
        )
        for each in command.params:
            if each.name != "help":
                label = each.name.upper() if each in positional else ", ".join((*each.opts, *each.secondary_opts))
                yield from (f"``{label}``", f"   {plain(each.help)}", "")
