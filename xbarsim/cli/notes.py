"""What a number on the command line does not say by itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xbarsim.design import Design

__all__ = ["quantised_anew", "without_faults"]


def quantised_anew(network: str, design: Design, trained: bool = True) -> list[str]:
    """A note where the stored weights of a network stand on more levels than a design has.

    Parameters
    ----------
    network
        Its name.
    design
        How it is mapped.
    trained
        Whether its stored weights are used.
    """
    from xbarsim.models import MODELS

    bits = MODELS[network].weight_bits if trained and network in MODELS else None
    if bits is None or bits <= design.mapping.weight_bits:
        return []
    return [
        f"the weights of {network} stand on {bits}-bit levels and the design holds {design.mapping.weight_bits} bits: "
        "they are quantised anew, which a design with as many weight_bits avoids"
    ]


def without_faults(design: Design) -> list[str]:
    """A note where a design says what breaks, for numbers of a network of which no die was made."""
    if design.faults is None and design.line_faults is None:
        return []
    return [
        "what the design breaks is in no number here, which are of a whole die: 'xbarsim evaluate' costs a broken one"
    ]
