"""What commands take where nothing else is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xbarsim.design import Design

__all__ = ["calibration_images", "first_design"]


def first_design() -> Design:
    """The design of the project's first example."""
    from xbarsim.design import Design, Periphery
    from xbarsim.devices import Cell, StuckFaults
    from xbarsim.mapping import Differential, Mapping

    return Design(
        cell=Cell.load("milo2021"),
        mapping=Mapping(encoding=Differential(), rows=128, columns=128, weight_bits=8, cell_bits=4),
        periphery=Periphery(input_bits=8, dac_bits=1, adc_bits=8),
        faults=StuckFaults(on=0.009, off=0.0175),
    )


def calibration_images(network: str) -> Any:
    """Training images to calibrate a network with, as it wants them."""
    from xbarsim.models import DATA_SETS, MODELS, load_images

    data_set = next(name for name, title in DATA_SETS.items() if title == MODELS[network].data_set)
    return load_images(data_set, "train", count=None if data_set == "digits" else 128)[0]
