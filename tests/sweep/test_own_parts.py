"""Sweeps of networks, encodings and fault models of a user's own, beside the sweep's file or as ONNX files."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.own_parts import DESIGN, OwnParts, own, write_onnx
from xbarsim import FileFormatError, InputError
from xbarsim.sweep import InProcess, Sweep, Task, collect
from xbarsim.sweep.subject import load_subject

__all__ = ["own"]

SWEEP = """
network = "MODULE.py:subject"
calibration = 20
rates = [0.0, 0.3]
[stop]
type = "Dies"
count = 2
[design]
DESIGN
[vary.mapping.plain]
design.faults = { type = "StuckFaults", on = 0.1, off = 0.1 }
[vary.mapping.raised]
design.faults = { type = "MODULE:FAULTS", on = 0.1, off = 0.1 }
design.mapping.encoding = { type = "MODULE:ENCODING", level = 2 }
"""


def text(own: OwnParts) -> str:
    """The sweep, with the names of a test."""
    made = SWEEP.replace("MODULE", own.module).replace("ENCODING", own.encoding).replace("FAULTS", own.faults)
    return made.replace("DESIGN\n", DESIGN)


def test_parts_beside_a_sweep_are_measured_by_worker_processes(own: OwnParts, tmp_path: Path) -> None:
    path = own.folder / "sweep.toml"
    path.write_text(text(own))
    os.chdir(tmp_path.parent)  # paths start at the file, wherever one is
    sweep = Sweep.load(path)
    encodings = [type(task.design.mapping.encoding).__name__ for task in sweep.tasks]
    assert encodings == ["TwoColumn", "TwoColumn", own.encoding, own.encoding]
    assert [type(task.design.faults).__name__ for task in sweep.tasks][2:] == [own.faults] * 2
    results = collect(sweep.tasks, stop=sweep.stop, workers=1)
    here = collect(sweep.tasks, stop=sweep.stop, executor=InProcess())
    assert [die.answer for task in results.tasks for die in task.dies] == [
        die.answer for task in here.tasks for die in task.dies
    ]
    rows = results.rows()
    assert {row["network"] for row in rows} == {"mine"}
    whole = [row for row in rows if row["fault_rate"] == 0.0]
    assert [row["accuracy"] for row in whole] == [1.0] * 4
    assert min(row["accuracy"] for row in rows) < 1.0


def test_a_task_is_the_same_by_module_and_by_file(own: OwnParts) -> None:
    path = own.folder / "sweep.toml"
    path.write_text(text(own))
    by_file = Sweep.load(path).tasks
    path.write_text(text(own).replace(".py:subject", ":subject"))
    assert [task.id for task in Sweep.load(path).tasks] == [task.id for task in by_file]


def test_the_file_of_a_design_names_no_code(own: OwnParts) -> None:
    head = 'network = "digits"\ndesign = "theirs.toml"\n[stop]\ntype = "Dies"\ncount = 2\n'
    (own.folder / "sweep.toml").write_text(head)
    (own.folder / "theirs.toml").write_text(
        f'{DESIGN}\n[faults]\ntype = "{own.module}:{own.faults}"\non = 0.1\noff = 0.1\n'
    )
    with pytest.raises(FileFormatError, match=r"design must be a file that names no code, got .*theirs\.toml"):
        Sweep.load(own.folder / "sweep.toml")
    assert own.module not in sys.modules


def test_a_bad_value_is_found_in_the_table_that_gave_it(own: OwnParts) -> None:
    path = own.folder / "sweep.toml"
    for old, new, line in (
        ("level = 2", "level = 'x'", 17),
        ("calibration = 20", "calibration = 0", 3),
        ('type = "Dies"', 'type = "Days"', 6),
        ("count = 2", "", 5),
        ("rows = 32, ", "rows = 0, ", 11),
    ):
        assert old in text(own)
        path.write_text(text(own).replace(old, new))
        with pytest.raises((FileFormatError, InputError), match=rf"sweep\.toml:{line}: "):
            Sweep.load(path)


def test_an_onnx_file_with_images_beside_it(own: OwnParts) -> None:
    write_onnx(own.folder)
    path = own.folder / "sweep.toml"
    head = 'network = "net.onnx"\ndata_set = "images.npz"\ncalibration = 20\n[stop]\ntype = "Dies"\ncount = 2\n'
    path.write_text(f"{head}[design]\n{DESIGN}faults = {{ type = 'StuckFaults', on = 0.0, off = 0.0 }}\n")
    (task,) = Sweep.load(path).tasks
    rows = collect([task], stop=2, workers=1).rows()
    assert [(row["network"], row["data_set"], row["images"], row["accuracy"]) for row in rows] == [
        ("net", "images", 40, 1.0)
    ] * 2
    before = task.id
    content = (own.folder / "net.onnx").read_bytes()
    (own.folder / "net.onnx").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    load_subject.cache_clear()
    assert Sweep.load(path).tasks[0].id != before  # another network


def test_files_that_are_wrong_are_refused(own: OwnParts) -> None:
    write_onnx(own.folder)
    design = Sweep.loads(f'network = "digits"\n[stop]\ntype = "Dies"\ncount = 2\n[design]\n{DESIGN}').tasks[0].design
    images = np.zeros((3, 16), np.float32)
    np.savez(own.folder / "few.npz", images=images)
    np.savez(own.folder / "objects.npz", images=np.array([{}], dtype=object), labels=images, calibration=images)
    (own.folder / "broken.npz").write_bytes(b"PK\x03\x04 no archive")
    for network, data_set, kind, message in (
        ("net.onnx", None, InputError, "data_set must be given for a network from a file"),
        ("net.onnx", "imagenet", InputError, "data_set must be one of 'digits', 'cifar10', 'mnist', got 'imagenet'"),
        ("absent.onnx", "images.npz", InputError, "network must name a file that there is, got 'absent.onnx'"),
        ("net.onnx", "few.npz", FileFormatError, "must hold images, labels, calibration, got none called labels"),
        ("net.onnx", "objects.npz", FileFormatError, "must hold plain arrays of numbers"),
        ("net.onnx", "broken.npz", FileFormatError, "is not an archive"),
        ("digts", None, InputError, r"network must be one of \d+ names, or 'module:function'.*did you mean 'digits'"),
    ):
        with pytest.raises(kind, match=message):
            _ = Task(network=network, data_set=data_set, design=design).subject
