"""What all pictures share: colours, sizes of text, axes.

Colours are those of Okabe and Ito, told apart by readers with any colour vision; curves also differ in marker and dash.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xbarsim.devices import FaultKind
from xbarsim.foundation.validation import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "COLOURS",
    "MARKERS",
    "SHADES",
    "SMALL_TEXT",
    "STUCK",
    "TEXT",
    "as_array",
    "caption_of",
    "chance_line",
    "curve",
    "describe",
    "legend",
    "literal",
    "new_axes",
    "plain",
    "rate_axis",
    "these_axes",
]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
SHADES = ("#f1ead9", "#c9bd9c", "#857b68", "#2b2722")  # of levels, from the lowest
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = ("-", "--", "-.", ":", "-", "--", "-.")
TEXT, SMALL_TEXT = 10, 9  # points
STUCK = {  # colour, marker, name
    FaultKind.STUCK_ON: ("#D55E00", "^", "stuck on"),
    FaultKind.STUCK_OFF: ("#0072B2", "v", "stuck off"),
    FaultKind.STUCK_AT: ("#009E73", "o", "stuck between"),
}


def new_axes(width: float, height: float) -> Axes:
    """Axes of a new figure of so many inches, outside of pyplot."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", dpi=150).add_subplot()


def these_axes(ax: Sequence[Axes], count: str) -> list[Axes]:
    """The axes that a caller gives for a picture of several panels.

    Raises
    ------
    InputError
        If they are not as many as there are panels, ``"two"``, ``"three"`` or ``"four"``.
    """
    panels = list(ax)
    if len(panels) != {"two": 2, "three": 3, "four": 4}[count]:
        raise InputError(f"ax must be {count} axes, got {len(panels)}")
    return panels


def as_array(panels: Sequence[Axes]) -> npt.NDArray[Any]:
    """Axes as an array of objects, which is how matplotlib gives several."""
    array = np.empty(len(panels), dtype=object)
    array[:] = panels
    return array


def plain(axes: Axes) -> None:
    """The style all curves and bars share."""
    axes.tick_params(labelsize=SMALL_TEXT)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)


def literal(name: object) -> str:
    """A name for a tick, whose dollars are dollars and begin no formula."""
    return str(name).replace("$", r"\$")


def legend(axes: Axes, **where: Any) -> None:
    """A legend without a frame, in small text."""
    axes.legend(fontsize=SMALL_TEXT, frameon=False, **where)


def describe(axes: Axes, words: str) -> None:
    """Keep a caption with a picture, for :func:`xbarsim.plot.caption`."""
    axes.set_label(words)


def caption_of(figure: Figure) -> str:
    """All captions of a picture's panels, each once."""
    labels = (str(axes.get_label()) for axes in figure.axes)
    return " ".join(dict.fromkeys(label for label in labels if label and not label.startswith(("<", "_"))))


def chance_line(axes: Axes, chance: float) -> None:
    """A dotted line at the accuracy of guessing, from 0 to 1."""
    axes.axhline(100 * chance, color="0.45", linewidth=1, linestyle=(0, (1, 2)))
    axes.annotate(
        "chance", (0.02, 100 * chance), xycoords=("axes fraction", "data"), xytext=(0, 3), textcoords="offset points",
        color="0.35", fontsize=SMALL_TEXT,
    )  # fmt: skip


def rate_axis(axes: Axes, rates: Sequence[float]) -> None:
    """Fault rates: logarithmic down to the smallest that is not 0, and linear from there to 0."""
    positive = [rate for rate in rates if rate > 0]
    smallest = min(positive, default=1e-3)
    axes.set_xscale("symlog", linthresh=smallest, linscale=0.6)
    ticks = sorted(set(rates))
    axes.set_xticks(ticks, [f"{100 * rate:.3g}" for rate in ticks])
    axes.set_xticks([], minor=True)
    left = -0.15 * smallest if 0 in ticks else smallest / 1.25
    axes.set_xlim(left, 1.25 * max(positive, default=smallest))
    scale = "; linear below the smallest" if 0 in ticks and len(positive) > 1 else ""
    axes.set_xlabel(f"stuck cells (%{scale})", fontsize=TEXT)


def curve(axes: Axes, index: int, name: str, x: Sequence[float], y: npt.NDArray[Any], bounds: npt.NDArray[Any]) -> None:
    """A curve of shares in percent with its band, (points, 2)."""
    style = index % len(COLOURS)
    colour = COLOURS[style]
    axes.fill_between(x, 100 * bounds[:, 0], 100 * bounds[:, 1], color=colour, alpha=0.18, linewidth=0)
    axes.plot(
        x, 100 * y, color=colour, marker=MARKERS[style], linestyle=_DASHES[style],
        markersize=5, linewidth=1.6, label=name,
    )  # fmt: skip
