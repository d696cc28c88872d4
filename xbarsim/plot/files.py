"""Pictures as files: whole or not at all, and the same bytes for the same picture."""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_choice, check_instance, check_path, write_atomically
from xbarsim.plot.style import caption_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["caption", "figure_bytes", "save_figure", "take_literally"]

_ENDINGS = (".png", ".svg", ".pdf")


@entrance
def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a picture as PNG, SVG or PDF by the ending of its name, whole or not at all, without its date.

    Raises
    ------
    InputError
        If the name has another ending.
    FileWriteError
        If the file cannot be written.
    """
    from matplotlib.figure import Figure

    check_instance("figure", figure, Figure)
    ending = check_choice("the picture's file ending", check_path("path", path).suffix, _ENDINGS)
    write_atomically(path, figure_bytes(figure, ending[1:]))


@entrance
def caption(figure: Figure) -> str:
    """What a picture of this package shows, in words for its caption or its alternative text; empty for another.

    ``xbarsim plot`` writes it into a text file beside the picture.
    """
    from matplotlib.figure import Figure

    check_instance("figure", figure, Figure)
    return caption_of(figure)


def take_literally(figure: Figure) -> None:
    """Let dollars in names be dollars: only numbers that matplotlib itself writes at ticks are set as formulas.

    Parameters
    ----------
    figure
        One of ours, whose names at ticks went through :func:`xbarsim.plot.style.literal`; changed.
    """
    from matplotlib.text import Text

    ticks: set[int] = set()
    for axis in (axis for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)):
        ticks |= {id(label) for label in axis.get_ticklabels(which="both")}
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        if id(text) not in ticks:
            text.set_parse_math(False)


def figure_bytes(figure: Figure, format: str) -> bytes:
    """A picture as a file's content, without its date."""
    import matplotlib as mpl

    metadata = {
        "png": {"Software": None},
        "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    stream = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "xbarsim", "svg.fonttype": "none"}):
        figure.savefig(stream, format=format, metadata=metadata[format])
    return stream.getvalue()
