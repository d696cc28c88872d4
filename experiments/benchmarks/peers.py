"""A whole network on other simulators of analog arrays, where they are installed: same weights, images and run."""

from __future__ import annotations

import copy
import importlib.util

import torch
from torch import nn

import xbarsim as xb
from xbarsim.experiments.benchmarks.wires import Case

__all__ = ["LEAST_AGREEMENT", "peers"]

LEAST_AGREEMENT = 0.9
"""Of the classes of the float32 network, that a simulator of 8-bit converters must give for its time to count."""


def peers(model: nn.Module, images: torch.Tensor, design: xb.Design) -> list[Case]:
    """Cases of a die against other simulators; against the plain network where none is installed.

    aihwkit's layers get arrays of the design's size, converters of as many bits at rows and columns, its own scaling of
    each vector by the largest input, and no noise; its faults, drift and programming are not used. What it computes is
    close to a die of the design but not the same, so classes are compared. CrossSim is not on PyPI: not measured.

    Parameters
    ----------
    model, images
        A network, and a batch of what it classifies.
    design
        Of one pulse for an input, with a converter on every array and sound cells.

    Raises
    ------
    AssertionError
        If a simulator's classes are not those of the network.
    """
    chip = xb.map_model(model, design, calibration=images[:64]).fabricate(seed=1)
    with torch.no_grad():
        classes = model(images).argmax(1)

    def agreement(logits: torch.Tensor, name: str) -> str:
        same = int((logits.argmax(1) == classes).sum())
        if same < LEAST_AGREEMENT * len(images):
            raise AssertionError(f"{name}: {same} of {len(images)} classes are those of the float32 network")
        return f"{name}: {same} of {len(images)} classes of the float32 network"

    def ours() -> torch.Tensor:
        logits: torch.Tensor = chip(images)
        return logits

    check = agreement(ours(), "here")
    if importlib.util.find_spec("aihwkit") is None:

        def plain() -> torch.Tensor:
            with torch.no_grad():
                logits: torch.Tensor = model(images)
                return logits

        message = f"{check}; aihwkit is NOT installed: nothing was compared (pip install 'xbarsim[peers]')"
        return [Case(name="peers", ours=ours, baseline=plain, check=message, against="torch: no peer", runs=5)]
    import aihwkit

    analog = _by_aihwkit(model, design)

    def theirs() -> torch.Tensor:
        with torch.no_grad():
            logits: torch.Tensor = analog(images)
            return logits

    version = f"aihwkit {aihwkit.__version__}"
    check = f"{check}; {agreement(theirs(), version)}"
    return [
        Case(
            name="peers", ours=ours, baseline=theirs, check=check, against=version, runs=3, must=1 / 4, aim=1 / 10
        )
    ]  # fmt: skip


def _by_aihwkit(model: nn.Module, design: xb.Design) -> nn.Module:
    """The network with aihwkit's analog layers."""
    from aihwkit.nn.conversion import convert_to_analog
    from aihwkit.simulator.configs import InferenceRPUConfig

    config = InferenceRPUConfig()
    config.mapping.max_input_size = design.mapping.rows
    config.mapping.max_output_size = design.mapping.columns
    config.forward.inp_res = 1 / (2**design.periphery.input_bits - 2)
    assert design.periphery.adc_bits is not None
    config.forward.out_res = 1 / (2**design.periphery.adc_bits - 2)
    config.forward.out_noise = config.forward.w_noise = 0.0
    analog: nn.Module = convert_to_analog(copy.deepcopy(model), config)
    return analog.eval()
