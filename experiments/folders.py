"""Where the experiments keep their settings, and what they write unless told otherwise."""

from __future__ import annotations

from pathlib import Path

__all__ = ["DEVICE_CARDS", "FIGURES", "RECIPES", "WEIGHTS"]

_HERE = Path(__file__).resolve().parent

FIGURES = _HERE / "figures"
"""Tables and pictures that documents show."""

RECIPES = _HERE / "recipes"
"""How networks of the papers are trained and compressed."""

DEVICE_CARDS = _HERE.parent / "devices" / "cards"
"""Of the checkout: where fits write their cards."""

WEIGHTS = _HERE / "weights"
"""Of the checkout, too large for the package: networks that the study of networks maps, ours."""
