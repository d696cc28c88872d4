"""What runs in a worker: one die of one task, on a mapped network that all workers of a machine share.

The parent maps each network once and writes it, with the images, into a file in memory (:class:`SharedBench`). Workers
map that file into their own memory, so that the arrays exist once on a machine and nothing large is sent with a die. A
worker that cannot see the file, on another machine of a cluster, maps the network itself; the outcome is the same.
"""

from __future__ import annotations

import contextlib
import gc
import io
import mmap
import os
import secrets
import struct
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import cloudpickle
import numpy as np
import numpy.typing as npt

from xbarsim.design import Design
from xbarsim.devices import FaultKind
from xbarsim.foundation.extras import torch_installed
from xbarsim.foundation.threads import fewer_threads, set_threads
from xbarsim.foundation.validation import InputError
from xbarsim.mitigation import Diagnosis, Mitigation
from xbarsim.sweep.measures import COUNTS, Measure
from xbarsim.sweep.results import MeasuredDie
from xbarsim.sweep.task import Task, fault_hash, make_die

if TYPE_CHECKING:
    from xbarsim.network import MappedNetwork

__all__ = ["Bench", "Failure", "Job", "SharedBench", "load_libraries", "make_bench", "measure"]

_MOST_BENCHES = 8  # mapped networks that a worker keeps
_WARM_IMAGES = 16  # run once before the first die is timed, so that compiled code is loaded
_ALIGNMENT = 64
_HEAD = struct.Struct("<32sQQ")  # token, bytes of the message, number of buffers
_BUFFER = struct.Struct("<QQ?")  # start, bytes, read-only


@dataclass(frozen=True, kw_only=True)
class Bench:
    """A mapped network and what it is measured on."""

    network: MappedNetwork
    images: npt.NDArray[np.float32]
    labels: npt.NDArray[np.int64]
    calibration: Any = None  # what mitigations that need images are given


@contextlib.contextmanager
def _keeping() -> Iterator[None]:
    """Look for no garbage while what is made stays: it would be a fifth of the time that libraries take to load."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


def make_bench(task: Task, *, threads: int | None = None) -> Bench:
    """Map the network of a task, on so many threads at most; fault models are put in die by die."""
    with _keeping():
        subject = task.subject  # loads torch, for most networks: its threads are limited after that
    with contextlib.nullcontext() if threads is None else fewer_threads(threads):
        network = task.map().with_faults(None)
    return Bench(
        network=network,
        images=subject.images,
        labels=subject.labels,
        calibration=subject.calibration,
    )


class _Sender(cloudpickle.Pickler):  # type: ignore[misc]  # it has no types
    """Sends classes of a notebook or script by value, and tensors as arrays, whose memory can stand outside of it."""

    def reducer_override(self, value: Any) -> Any:
        torch = sys.modules.get("torch")
        if torch is None:  # then no value is a tensor
            return super().reducer_override(value)
        plain = type(value) is torch.Tensor and value.device.type == "cpu" and value.dtype != torch.bfloat16
        if plain and value.is_contiguous():  # as an array, its numbers would lie in another order else
            array = value.detach().numpy()
            # what is made contiguous has a dimension: single numbers, such as a batch norm's count, have none
            return torch.from_numpy, (np.ascontiguousarray(array).reshape(array.shape),)
        return super().reducer_override(value)


@dataclass(frozen=True, kw_only=True)
class _Place:
    """Where a shared bench is: a path that holds on this machine while the parent lives, and how the file begins."""

    path: str
    token: bytes


_made_here: set[bytes] = set()  # tokens of what this process shares: a worker has none of those it is sent


class SharedBench:
    """A bench in a file in memory, for other processes of this machine.

    On Linux the file has no name in any folder: it is gone with the last process that has it open, however that ends.

    Parameters
    ----------
    bench
        What to share.

    Raises
    ------
    InputError
        If it holds something that cannot be sent to another process.
    """

    def __init__(self, bench: Bench) -> None:
        buffers: list[Any] = []
        stream = io.BytesIO()
        try:
            _Sender(stream, 5, buffers.append).dump(bench)
        except Exception as error:  # whatever the classes of a user's network raise
            raise InputError(f"network must be one that can be sent to worker processes, got {error}") from error
        content = stream.getbuffer()
        token = secrets.token_bytes(32)
        start = _HEAD.size + len(content) + _BUFFER.size * len(buffers)
        table, views = [], []
        for buffer in buffers:
            view = buffer.raw()
            start = -(-start // _ALIGNMENT) * _ALIGNMENT
            table.append((start, view.nbytes, view.readonly))
            views.append(view)
            start += view.nbytes
        self._name: str | None = None
        if hasattr(os, "memfd_create"):
            handle = os.memfd_create("xbarsim")
            path = f"/proc/{os.getpid()}/fd/{handle}"
        else:
            handle, path = tempfile.mkstemp(prefix="xbarsim-")
            self._name = path
        self._file = os.fdopen(handle, "wb")
        self._file.write(_HEAD.pack(token, len(content), len(buffers)))
        self._file.write(content)
        for row in table:
            self._file.write(_BUFFER.pack(*row))
        for (start, _, _), view in zip(table, views, strict=True):
            self._file.seek(start)
            self._file.write(view)
        self._file.truncate()
        self._file.flush()
        _made_here.add(token)
        self.place = _Place(path=path, token=token)

    def close(self) -> None:
        """Let go of the file; workers that have it open keep it."""
        _made_here.discard(self.place.token)
        self._file.close()
        if self._name is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._name)


def _open_shared(place: _Place) -> Bench | None:
    """The bench at a place, or ``None`` where there is no such file: on another machine."""
    try:
        with open(place.path, "rb") as file:
            # private to this process if it should ever be written, shared with all others as long as it is not
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (OSError, ValueError):
        return None
    if len(memory) < _HEAD.size:
        return None
    token, size, count = _HEAD.unpack_from(memory, 0)
    if token != place.token:
        return None
    view = memoryview(memory)
    buffers = []
    for index in range(count):
        start, length, readonly = _BUFFER.unpack_from(memory, _HEAD.size + size + index * _BUFFER.size)
        part = view[start : start + length]
        buffers.append(part.toreadonly() if readonly else part)
    bench = cloudpickle.loads(view[_HEAD.size : _HEAD.size + size], buffers=buffers)
    assert isinstance(bench, Bench)
    return bench


# ------------------------------------------------------------------------------------------------ work


@dataclass(frozen=True, kw_only=True)
class Job:
    """One die to measure, small enough to be sent by itself.

    Attributes
    ----------
    task, die
        Id of the task and number of the die.
    seed
        The die's seed.
    design, mitigations, diagnosis, age
        As in the task.
    measures
        Those of the task, its metrics among them.
    mapping_key
        Names the mapped network.
    place
        Where it is shared.
    rebuild
        The task, to map the network where the place cannot be seen; ``None`` if its network has no name.
    """

    task: str
    die: int
    seed: int
    design: Design
    mitigations: tuple[Mitigation, ...]
    diagnosis: Diagnosis | None
    age: float
    measures: tuple[Measure, ...]
    mapping_key: str
    place: _Place
    rebuild: Task | None


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What went wrong in a worker.

    Attributes
    ----------
    task, die
        Of what.
    message, traceback
        The error.
    of
        What failed: the die, or the network of the whole task, before there was a die.
    """

    task: str
    die: int
    message: str
    traceback: str
    of: Literal["die", "network"]


_benches: OrderedDict[str, Bench] = OrderedDict()
_lock = threading.Lock()
_settled = threading.local()


def _settle_threads(place: _Place) -> None:
    """One thread for each worker; a parent that measures by itself keeps those it has."""
    if getattr(_settled, "done", False) or place.token in _made_here:
        return
    set_threads(1)
    _settled.done = True


def _find_bench(job: Job) -> Bench:
    with _lock:
        if job.mapping_key in _benches:
            _benches.move_to_end(job.mapping_key)
            return _benches[job.mapping_key]
        from xbarsim.network.samples import Samples

        bench = _open_shared(job.place)
        if bench is None:
            if job.rebuild is None:
                raise InputError(
                    "network must be a name or 'module:function' to be measured on other machines, got a Subject"
                )
            bench = make_bench(job.rebuild)
        chip = bench.network.with_faults(job.design.faults).fabricate(job.seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # every worker would say it: `InputClipping` counts what is clipped
            chip.run(Samples.of(bench.images[:_WARM_IMAGES]))
        _benches[job.mapping_key] = bench
        while len(_benches) > _MOST_BENCHES:
            _benches.popitem(last=False)
        return bench


def measure(job: Job) -> MeasuredDie | Failure:
    """Make one die and measure it.

    Whatever goes wrong is returned, not raised: it belongs to this die, and says nothing about the worker.

    Raises
    ------
    MemoryError
        If this process has no memory left: another may have.
    """
    of: Literal["die", "network"] = "network"
    try:
        _load_torch()  # before the threads are settled, so that it is told too
        _settle_threads(job.place)
        bench = _find_bench(job)
        of = "die"
        return _measure(job, bench)
    except Exception as error:
        message = f"{type(error).__name__}: {error}"
        if isinstance(error, MemoryError) or "can't allocate memory" in message:  # torch has no error for it
            raise MemoryError(message) from error
        return Failure(task=job.task, die=job.die, message=message, traceback=traceback.format_exc(), of=of)


def _measure(job: Job, bench: Bench) -> MeasuredDie:
    start = time.perf_counter()
    network = bench.network.with_faults(job.design.faults)
    chip = make_die(network, job.seed, job.mitigations, job.diagnosis, job.age, images=bench.calibration)
    values: dict[str, Any] = {}
    for each in job.measures:
        values |= each.checked(chip, bench.images, bench.labels)
    counted = {name: values.pop(name, 0) for name in COUNTS}
    counts = dict.fromkeys(FaultKind, 0)
    cells = 0
    for faults in chip.faults.values():
        cells += faults.cells
        for kind, count in faults.counts.items():
            counts[kind] += count
    return MeasuredDie(
        task=job.task,
        die=job.die,
        correct=counted["correct"],
        images=counted["images"],
        seconds=time.perf_counter() - start,
        inference_seconds=counted["inference_seconds"],
        fault_hash=fault_hash(chip),
        cells=cells,
        stuck_on=counts[FaultKind.STUCK_ON],
        stuck_off=counts[FaultKind.STUCK_OFF],
        stuck_at=counts[FaultKind.STUCK_AT],
        metrics=values,
    )


def _load_torch() -> None:
    """Load torch where it is installed; networks from ONNX files do without."""
    if torch_installed():
        import torch  # noqa: F401


def load_libraries() -> None:
    """What a worker process loads at its start, while its parent still maps."""
    with _keeping():
        _load_torch()
        import xbarsim.network
        import xbarsim.network.evaluation  # noqa: F401
    gc.freeze()  # libraries stay: no search for garbage need look through them again
