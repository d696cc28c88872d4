"""What a sweep costs besides inference: the benchmark ``sweep``."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import xbarsim as xb
from xbarsim.sweep.collecting import collect
from xbarsim.sweep.task import Task

__all__ = ["sweep_overhead"]


def sweep_overhead(design: xb.Design, *, workers: int, dies: int = 200, images: int = 500) -> tuple[float, float, str]:
    """Time of all workers in a sweep of ResNet-20, and how much of it is inference.

    Parameters
    ----------
    design
        The accelerator.
    workers
        Processes of one thread.
    dies, images
        Dies of the sweep, and test images of each.

    Returns
    -------
    float
        Wall time of the whole sweep times `workers`, s: start of the processes, mapping, fabrication, writing and all.
    float
        Inference in it, s: the sum of what the workers measured around it.
    str
        The share in words.
    """
    task = Task(network="resnet20", data_set="cifar10", images=images, calibration=64, design=design)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        result = collect([task], stop=dies, workers=workers, store=Path(folder) / "sweep.sqlite").tasks[0]
        total = workers * (time.perf_counter() - start)
    inference = sum(measured.inference_seconds for measured in result.dies)
    seconds = sum(measured.seconds for measured in result.dies)
    text = (
        f"{len(result.dies)} dies of {images} images: {inference / total:.1%} of {workers} cores' time is inference, "
        f"{(seconds - inference) / total:.1%} making dies, {(total - seconds) / total:.1%} everything else; "
        f"mean accuracy {result.mean()}"
    )
    return total, inference, text
