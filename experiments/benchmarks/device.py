"""Many dies at once on a device of torch's against the compiled kernels of the same machine: the benchmark ``gpu``."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import nn

import xbarsim as xb
from xbarsim.engine import TorchBackend
from xbarsim.foundation.validation import InputError
from xbarsim.network import DieBatch, MappedNetwork
from xbarsim.network.samples import Samples

__all__ = ["DeviceRate", "best_device", "compare_devices", "device_rates", "profile_device"]


def best_device() -> str:
    """``"cuda"`` where torch has one, else ``"cpu"``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


@dataclass(frozen=True, kw_only=True)
class DeviceRate:
    """How fast dies are on a device.

    Attributes
    ----------
    name
        What ran.
    ours, baseline
        Seconds for one image of one die, on the device and by the compiled kernels.
    check
        What was checked, and the figures.
    aim
        The ratio of both to reach, or ``None``.
    """

    name: str
    ours: float
    baseline: float
    check: str
    aim: float | None = None


def _network_and_images(images: int) -> tuple[nn.Module, torch.Tensor, str]:
    """ResNet-20 as trained, or the pruned one of this repository; test images, or random ones of their size."""
    from xbarsim.models import load_model, load_test_set

    try:
        model, _ = load_model("resnet20")
        held = "ResNet-20"
    except FileNotFoundError:
        model, _ = load_model("resnet20-pruned-9bit")
        held = "resnet20-pruned-9bit"
    try:
        pictures, _ = load_test_set("resnet20", count=images)
        return model, torch.from_numpy(pictures), f"{held}, CIFAR-10 test images"
    except FileNotFoundError:
        return (
            model,
            torch.from_numpy(np.random.default_rng(1).normal(size=(images, 3, 32, 32)).astype(np.float32)),
            (f"{held}, random images"),
        )


def _seconds(run: Callable[[], Any], device: str, runs: int) -> float:
    """Median wall time after a warm-up, the device waited for."""
    times = []
    for index in range(runs + 1):
        start = time.perf_counter()
        run()
        if device != "cpu":
            torch.cuda.synchronize()
        if index:
            times.append(time.perf_counter() - start)
    return statistics.median(times)


def _differences(network: MappedNetwork, device: str, images: torch.Tensor, seeds: list[int]) -> str:
    """Compare dies on the device with the same dies by compiled kernels, layer by layer and as a whole.

    Raises
    ------
    AssertionError
        If one layer of one die gives another bit for the same inputs.
    """
    together = DieBatch(network, seeds, backend=TorchBackend(device))
    logits = together(images).cpu()
    same = 0
    for number, seed in enumerate(seeds):
        same += int((network.fabricate(seed=seed)(images) == logits[number]).all(dim=1).sum())
    chip = network.fabricate(seed=seeds[0])
    moved = chip.with_backend(TorchBackend(device))
    wrong: list[str] = []

    def watch(name: str, inputs: Any, results: Any) -> None:
        given = torch.from_numpy(np.ascontiguousarray(inputs, dtype=np.float32)).to(together.backend.device)
        if not np.array_equal(moved.running[name](given).cpu().numpy(), results):
            wrong.append(name)

    xb.network.Network(network.skeleton, chip.running).run(Samples.of(images[:32]), watch=watch)
    if wrong:
        raise AssertionError(f"layers {', '.join(wrong)} differ on {device} from the compiled kernels")
    total = len(seeds) * len(images)
    return (
        f"all {len(chip.layers)} layers equal to the compiled kernels bit for bit on the same inputs; logits equal bit "
        f"for bit for {same} of {total} images x dies"
    )


def compare_devices(
    design: xb.Design, *, device: str, images: int, dies: tuple[int, ...], name: str, runs: int = 5
) -> DeviceRate:
    """Images times dies a second of ResNet-20, on a device and by the compiled kernels on the threads that are set.

    Parameters
    ----------
    design
        The accelerator; its cells sit on levels.
    device
        As torch names it.
    images
        Of a batch.
    dies
        Numbers of dies to run at once; the fastest counts.
    name
        For the table.
    runs
        Timed calls of each.

    Raises
    ------
    AssertionError
        If a layer gives other bits on the device.
    InputError
        If the cells do not sit on levels.
    """
    if not design.cell.exact:
        raise InputError("design must have cells without errors, so that answers can be compared bit for bit, got some")
    model, pictures, what = _network_and_images(images)
    network = xb.map_model(model, design, calibration=pictures[:64])
    chip = network.fabricate(seed=1)
    start = time.perf_counter()
    chip(pictures[:16])
    compiling = time.perf_counter() - start
    check = _differences(network, device, pictures, [1, 2])
    baseline = _seconds(lambda: chip(pictures), "cpu", runs) / images
    rates: dict[int, float] = {}
    making = 0.0
    for count in dies:
        start = time.perf_counter()
        together = DieBatch(network, range(count), backend=TorchBackend(device))
        making = (time.perf_counter() - start) / count
        rates[count] = _seconds(lambda run=together: run(pictures), device, runs) / (images * count)  # type: ignore[misc]
    best = min(rates, key=lambda count: rates[count])
    figures = ", ".join(f"{count}: {1 / seconds:,.0f}" for count, seconds in rates.items())
    return DeviceRate(
        name=name,
        ours=rates[best],
        baseline=baseline,
        check=f"{what}, {images} images, plan {together.plan().rows[1][1]}; {check}; images x dies a second by dies at "
        f"once: {figures}; compiled kernels {1 / baseline:,.0f}: {baseline / rates[best]:.1f} times as many; making a "
        f"die for the device {1e3 * making:.0f} ms on the CPU; first run of the compiled kernels {compiling:.1f} s",
    )


def device_rates(designs: Mapping[str, xb.Design]) -> list[DeviceRate]:
    """Dies of some designs on the best device there is, as :func:`compare_devices`.

    Parameters
    ----------
    designs
        By the plan of their layers; that of ``"tiled"`` has an aim on a GPU, ``"bitplane"`` gets fewer images.
    """
    device = best_device()
    many = device != "cpu"  # there torch is the slower of the two, and only its answers are of interest
    found = []
    for plan, design in designs.items():
        few = plan == "bitplane"
        images = (64 if few else 256) if many else (2 if few else 16)
        dies = ((1, 16) if few else (1, 16, 64)) if many else ((1,) if few else (1, 2))
        rate = compare_devices(design, device=device, images=images, dies=dies, name=f"{device}-{plan}", runs=3)
        found.append(replace(rate, aim=0.02 if many and plan == "tiled" else None))
    return found


def profile_device(design: xb.Design, *, device: str, images: int, dies: int) -> str:
    """Where the time of a device goes: a table of its kernels, for one run of some dies of ResNet-20.

    Parameters
    ----------
    design, device, images, dies
        As :func:`compare_devices`; one number of dies.
    """
    from torch.profiler import ProfilerActivity, profile

    model, pictures, _ = _network_and_images(images)
    network = xb.map_model(model, design, calibration=pictures[:64])
    together = DieBatch(network, range(dies), backend=TorchBackend(device))
    together(pictures)
    kinds = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if device != "cpu" else [])]
    with profile(activities=kinds) as found:
        together(pictures)
    by = "self_cuda_time_total" if device != "cpu" else "self_cpu_time_total"
    table: str = found.key_averages().table(sort_by=by, row_limit=25, max_name_column_width=60)
    return table
