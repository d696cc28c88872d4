"""Copies of layers, so that none of them keeps the others waiting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from xbarsim.cost.hardware import Hardware
from xbarsim.cost.use import LayerUse
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_integer, check_memory, shown

__all__ = ["replicate"]


@entrance
def replicate(uses: Sequence[LayerUse], hardware: Hardware, arrays: int) -> list[LayerUse]:
    """Copy layers so that the slowest takes as little time as so many arrays allow.

    Parameters
    ----------
    uses
        The layers; their own copies are not kept.
    hardware
        Gives the read time.
    arrays
        How many arrays there are to fill.

    Returns
    -------
    uses
        The same layers with `copies` set, as few as reach that time. No choice of copies has a shorter longest
        ``ceil(V / copies) p s t``.

    Raises
    ------
    InputError
        If the arrays do not hold one copy of each layer.

    Notes
    -----
    A time T needs ``ceil(V / floor(T / (p s t)))`` copies of a layer; the least T among the multiples of the layers'
    vector times that fits is found by bisection.
    """
    needed = sum(use.arrays * use.redundancy for use in uses)
    arrays = check_integer("arrays", arrays, at_least=needed)
    once = [replace(use, copies=1) for use in uses]
    busy = [
        (index, use) for index, use in enumerate(once) if use.arrays and use.vectors_per_image and use.share("steps")
    ]
    if not busy:
        return once
    per_vector = {
        index: hardware.reads_of_vector(use) * hardware.time_of_read(use) * use.share("steps") for index, use in busy
    }

    def copies(limit: float) -> dict[int, int] | None:
        needed = {}
        for index, use in busy:
            vectors = math.floor(limit / per_vector[index] * (1 + 1e-12))
            if vectors < 1:
                return None
            needed[index] = -(-use.whole_vectors // vectors)
        total = sum(use.arrays * use.redundancy * needed.get(index, 1) for index, use in enumerate(once))
        return needed if total <= arrays else None

    vectors = sum(use.whole_vectors for _, use in busy)
    check_memory("uses", f"{shown(vectors)} vectors an image", 8 * vectors)
    times = np.unique(np.concatenate([np.arange(1, use.whole_vectors + 1) * per_vector[index] for index, use in busy]))
    low, high = 0, len(times) - 1  # the longest time always fits
    while low < high:
        middle = (low + high) // 2
        if copies(float(times[middle])) is None:
            low = middle + 1
        else:
            high = middle
    chosen = copies(float(times[high]))
    assert chosen is not None
    return [replace(use, copies=chosen.get(index, 1)) for index, use in enumerate(once)]
