"""Networks, encodings and fault models of a user's own on the command line; and numbers that say what they are of."""

from __future__ import annotations

import re
import sys

import pytest

import xbarsim as xb
from tests.cli.running import one_line, run
from tests.own_parts import DESIGN, OwnParts, own, write_onnx

__all__ = ["own"]


def accuracies(text: str) -> list[str]:
    return re.findall(r"^die \d+: accuracy ([\d.]+)%", text, flags=re.MULTILINE)


def test_no_cell_is_stuck_unless_it_is_said() -> None:
    result = run("evaluate", "digits", "--images", "60", "--dies", "2")
    assert result.exit_code == 0, result.output
    assert "faults     none: no cell is stuck" in result.output
    assert "no cell is stuck on these dies: --faults NAME --rate 0.01" in result.output
    assert "floating point: accuracy" in result.output
    design = result.output.index("converter  8 bits, range calibrated")
    assert design < result.output.index("accuracy")  # what was simulated stands above every number
    assert min(map(float, accuracies(result.output))) > 90
    stuck = run("evaluate", "digits", "--images", "60", "--dies", "2", "--faults", "chen2015_sa0_hrs", "--rate", "0.1")
    assert stuck.exit_code == 0, stuck.output
    assert re.search(r"faults     StuckFaults: [\d.]+ % stuck off, [\d.]+ % stuck on", stuck.output)
    assert re.search(r"of the last die are stuck \((9\.|10\.)\d+%\)", stuck.output)
    assert max(map(float, accuracies(stuck.output))) < 90


def test_a_network_of_ones_own_by_file_and_by_module(own: OwnParts) -> None:
    outputs = []
    for name in (f"{own.module}.py:subject", f"{own.module}:subject"):
        result = run("evaluate", name, "--design", "design.toml", "--dies", "2")
        assert result.exit_code == 0, result.output
        assert "mine on 40 test images of noise, calibrated with 20 training images" in result.output
        outputs.append(accuracies(result.output))
    assert outputs == [["100.00"] * 2] * 2
    cost = run("cost", f"{own.module}.py:subject", "--design", "design.toml", "--preset", "isaac")
    assert cost.exit_code == 0, cost.output
    assert "note: weights are its own, inputs those of 20 training images of noise" in cost.output
    assert "weights are random" not in cost.output


def test_an_encoding_and_faults_of_ones_own(own: OwnParts) -> None:
    plain = ("evaluate", f"{own.module}:subject", "--design", "design.toml", "--dies", "1")
    result = run(
        *plain, "--encoding", f"{own.module}:{own.encoding}", "--faults", f"{own.module}:FAULTS", "--rate", "0.25"
    )
    assert result.exit_code == 0, result.output
    assert f"encoding   {own.encoding}" in result.output
    assert f"{own.faults}(on=0.125, off=0.125): 12.5 % stuck" in result.output
    one_line(run(*plain, "--faults", f"{own.module}:{own.faults}"), 2, "which needs on, off: name one that is")
    one_line(run(*plain, "--encoding", f"{own.module}:subject"), 2, "encoding must name a Encoding, got")
    cost = run("cost", "digits", "--encoding", f"{own.module}:{own.encoding}", "--design", "design.toml")
    assert f"encoding   {own.encoding}" in cost.output


def test_a_design_names_code_only_with_parts_that_are_named_too(own: OwnParts) -> None:
    for kind in (f"{own.module}:{own.encoding}", own.encoding):
        (own.folder / "mine.toml").write_text(f'{DESIGN}mapping.encoding = {{ type = "{kind}", level = 3 }}\n'.replace(
            "mapping = { rows = 32, columns = 32 }\n", "mapping.rows = 32\nmapping.columns = 32\n"
        ))  # fmt: skip
        if own.module not in sys.modules:
            bad = run("evaluate", "digits", "--design", "mine.toml")
            one_line(bad, 2, f"so import {own.module} before it is read (--parts on the command line)")
            assert "mine.toml:6: mapping.encoding.type" in bad.output
            assert own.module not in sys.modules
        good = run("cost", "digits", "--design", "mine.toml", "--parts", f"{own.module}.py")
        assert good.exit_code == 0, good.output
        assert f"encoding   {own.encoding}(level=3)" in good.output


def test_an_onnx_file(own: OwnParts) -> None:
    write_onnx(own.folder)
    result = run("evaluate", "net.onnx", "--data-set", "images.npz", "--design", "design.toml", "--dies", "1")
    assert result.exit_code == 0, result.output
    assert accuracies(result.output) == ["100.00"]
    one_line(run("evaluate", "net.onnx"), 2, "data_set must be given for a network from a file")
    shaped = run("cost", "net.onnx", "--design", "design.toml")
    assert "note: weights are its own and images random" in shaped.output
    known = run("cost", "net.onnx", "--design", "design.toml", "--data-set", "images.npz")
    assert "note: weights are its own, inputs those of 20 training images of images" in known.output


@pytest.mark.data
def test_a_compressed_network_is_costed_with_its_own_images() -> None:
    name = next(name for name in xb.models.MODELS if name.startswith("lenet5-unpruned-9bit"))
    result = run("cost", name, "--trained")
    assert result.exit_code == 0, result.output
    assert "inputs those of 128 training images of mnist" in result.output
    assert f"note: the weights of {name} stand on 9-bit levels and the design holds 8 bits" in result.output
