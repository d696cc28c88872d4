"""A layer to cost, for the tests of this room."""

from __future__ import annotations

from typing import Any

from xbarsim.cost import LayerUse


def use(name: str = "layer", **changes: Any) -> LayerUse:
    """A layer on one ISAAC array, used as ISAAC does."""
    fields: dict[str, Any] = {
        "name": name,
        "arrays": 1,
        "rows": 128,
        "columns": 128,
        "adc_bits": 8,
        "dac_bits": 1,
        "reads_per_vector": 16,
        "macs_per_vector": 2048,
        "vectors_per_image": 1,
    }
    return LayerUse(**(fields | changes))
