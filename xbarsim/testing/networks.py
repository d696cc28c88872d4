"""What a registered network promises."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from xbarsim.design import Design
from xbarsim.devices import Cell
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance
from xbarsim.mapping import Mapping
from xbarsim.models import ARCHITECTURES, untrained_model
from xbarsim.network import map_model
from xbarsim.testing.promises import call, promise

__all__ = ["check_network"]


@entrance
def check_network(name: str, *, seed: int = 0) -> None:
    """Check that a registered network is what its card says, and that it can be put on crossbars.

    It must be known by its name, with a description and a source; be built the same way twice, without touching the
    caller's random state; have as many parameters and outputs as its card says; give the same answers for an image
    alone and among others; and have a layer that can be mapped.

    Parameters
    ----------
    name
        As it was registered with :func:`xbarsim.models.register_architecture`.
    seed
        Of the images that it is tried with.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    """
    check_instance("name", name, str)
    promise(name in ARCHITECTURES, "a network must be registered by its name", repr(name))
    card = ARCHITECTURES[name]
    for what in ("description", "source"):
        promise(str(getattr(card, what)).strip(), f"a network must state its {what}", "it is empty")
    before = torch.get_rng_state()
    model, _ = call("building it", untrained_model, name)
    again, _ = call("building it again", untrained_model, name)
    promise(torch.equal(before, torch.get_rng_state()), "building must leave the random state alone", "it did not")
    promise(isinstance(model, nn.Module), "a network must be a torch module", type(model).__name__)
    same = all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    promise(same, "a network must be built the same way twice", "its weights differ")
    counted = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    promise(counted == card.parameters, "the card must count the parameters", f"{card.parameters}, found {counted}")
    images = torch.from_numpy(np.random.default_rng(seed).random((3, *card.input_shape), dtype=np.float32))
    with torch.no_grad():
        together = call("running it", model, images)
        alone = torch.cat([model(image[None]) for image in images])
    promise(tuple(together.shape) == (3, card.classes), "it must give an output for each class", tuple(together.shape))
    promise(torch.allclose(together, alone, atol=1e-4), "no answer may depend on the images beside it", "one does")
    mapping = Mapping(rows=128, columns=128, weight_bits=8, cell_bits=4)
    design = Design(cell=Cell(g_min=1e-6, g_max=1e-5, levels=16), mapping=mapping)
    mapped = call("mapping it", lambda: map_model(model, design, calibration=images))
    promise(mapped.layers, "a network must have a layer that can be mapped", "it has none")
