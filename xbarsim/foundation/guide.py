"""Pages of the guide that a message points to, by what they explain; all such messages end alike."""

from __future__ import annotations

from typing import Literal

__all__ = ["PAGES", "Page", "see"]

Page = Literal["cells", "cost", "devices", "install", "layers", "limits", "onnx", "reports", "statistics"]

#: Where each stands, in a checkout and (``.html``) in the documentation site.
PAGES: dict[Page, str] = {
    "cells": "docs/theory/cells.md",
    "cost": "docs/guide/cost.md",
    "devices": "docs/devices.md",
    "install": "docs/install.md",
    "layers": "docs/layers.md",
    "limits": "docs/limits.md",
    "onnx": "docs/guide/own_onnx.md",
    "reports": "docs/guide/read_a_report.md",
    "statistics": "docs/statistics.md",
}


def see(page: Page) -> str:
    """What a message ends in that a page of the guide explains.

    Examples
    --------
    >>> "drift is not known" + see("devices")
    'drift is not known; see guide: docs/devices.md'
    """
    return f"; see guide: {PAGES[page]}"
