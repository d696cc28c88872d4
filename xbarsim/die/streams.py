"""The random streams of a die: one for each layer and purpose, so that adding an effect changes no other draw."""

from __future__ import annotations

from enum import IntEnum

import numpy as np

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_integer

__all__ = ["Purpose", "generator", "stream"]


class Purpose(IntEnum):
    """What a stream is for. The number is part of the stream's key: it never changes, and none is used twice."""

    PROGRAMMING = 0
    FAULTS = 1
    READ_NOISE = 2
    LINES = 3
    DRIVERS = 4
    CONVERTERS = 5
    DRIFT = 16  # trajectories in time
    STATES = 17  # telegraph states that a die keeps
    DIAGNOSIS = 32  # which faults a test finds
    MITIGATION = 33  # followed by the number of the method and of the tile


@entrance
def stream(seed: int, layer: int, purpose: Purpose, *parts: int) -> np.random.SeedSequence:
    """The seed sequence of one stream.

    Parameters
    ----------
    seed
        Root seed of the die.
    layer
        Number of the layer in its network.
    purpose
        What is drawn.
    parts
        Numbers that tell several streams of one purpose apart.
    """
    check_integer("seed", seed, at_least=0)
    check_integer("layer", layer, at_least=0)
    return np.random.SeedSequence(seed, spawn_key=(layer, int(purpose), *parts))


@entrance
def generator(seed: int, layer: int, purpose: Purpose, *parts: int) -> np.random.Generator:
    """A generator at the start of one stream; parameters as :func:`stream`."""
    return np.random.default_rng(stream(seed, layer, purpose, *parts))
