"""Training a network around the stuck cells of one die."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import xbarsim as xb
from xbarsim.compress import Hardening, Injection, fine_tune
from xbarsim.data import load_digits_split
from xbarsim.devices import Cell, FaultMap, StuckFaults
from xbarsim.mapping import Balanced, Differential, Encoding, Mapping, Offset, TwoColumn, quantise
from xbarsim.models import load_digits_net
from xbarsim.training import Training, TrainingSet
from xbarsim.training.trainer import Run

CELL = Cell(g_min=1e-6, g_max=1e-4, levels=16)


def design(encoding: Encoding | None = None, rate: float = 0.1, **changes: Any) -> xb.Design:
    mapping: dict[str, Any] = {"encoding": encoding or Differential(), "weight_bits": 9, "cell_bits": 4} | changes
    return xb.Design(
        cell=CELL,
        mapping=Mapping(**mapping),
        periphery=xb.Periphery(input_bits=8),
        faults=StuckFaults(on=0.84 * rate, off=0.16 * rate),
    )


def digits() -> TrainingSet:
    split = load_digits_split()
    pixels = np.rint(split.train_images * 255).astype(np.uint8)
    return TrainingSet.split(
        "digits", pixels, split.train_labels, validation=200, mean=(0.0,), standard_deviation=(1.0,)
    )


TRAINING = Training(epochs=3, batch=64, learning_rate=0.02, augmentation="shift", device="cpu")


@pytest.mark.parametrize("encoding", [Differential(), TwoColumn(), Balanced()], ids=lambda encoding: encoding.name)
def test_a_die_of_ten_percent_stuck_cells_is_tuned_to_within_three_points(encoding: Encoding) -> None:
    """The tuned network is mapped and fabricated as any: its die has the same faults, and classifies the test set."""
    split, data, model, made = load_digits_split(), digits(), load_digits_net(), design(encoding)
    calibration = split.train_images[:256]
    chip = xb.map_model(model, made, calibration=calibration).fabricate(seed=2)
    before = xb.evaluate(chip, split.test_images, split.test_labels, progress=False).accuracy
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    tuned = fine_tune(model, data, TRAINING, design=made, faults=chip.faults)
    assert all(torch.equal(tensor, weights[name]) for name, tensor in model.state_dict().items())
    again = xb.map_model(tuned.model, made, calibration=calibration).fabricate(seed=2)
    assert again.faults == chip.faults
    after = xb.evaluate(again, split.test_images, split.test_labels, progress=False).accuracy
    assert before < 0.9
    assert after > 0.966
    assert tuned.history.validation_accuracy[-1] == pytest.approx(after, abs=0.04)  # validation meets the faults too


def test_a_tuning_that_was_cut_short_ends_with_the_same_bits(tmp_path: Path) -> None:
    model, data, made = load_digits_net(), digits(), design()
    faults = xb.map_model(model, made, calibration=load_digits_split().train_images[:64]).fabricate(seed=0).faults

    def tuned(training: Training, path: Path | None) -> dict[str, Tensor]:
        return fine_tune(model, data, training, design=made, faults=faults, checkpoint=path).model.state_dict()

    training = Training(epochs=2, batch=200, learning_rate=0.01, device="cpu")
    whole = tuned(training, tmp_path / "whole.safetensors")

    original, calls = Run.epoch, []

    def killed(self: Run, display: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        original(self, display)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            tuned(training, tmp_path / "cut.safetensors")
    resumed = tuned(training, tmp_path / "cut.safetensors")
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


ENCODINGS = (TwoColumn(), Differential(), Balanced(), Offset(reference="digital"))


def drawn(seed: int) -> Tensor:
    """Weights on levels, with a largest one in each output, as a matrix (8 outputs, 30 inputs)."""
    free = torch.randn((8, 30), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return torch.from_numpy(quantise(free.T.numpy(), bits=5, per="output").dequantise().T.copy())


def broken(free: Tensor, made: xb.Design, seed: int) -> tuple[Injection, FaultMap]:
    shape = (-(-30 // made.mapping.rows) * -(-8 // made.mapping.outputs_per_tile), made.mapping.rows, 40)
    faults = StuckFaults(on=0.15, off=0.15).sample(shape, np.random.default_rng(seed))
    return Injection(design=made, faults={"a": faults}), faults


@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)
@given(seed=st.integers(0, 2**31))
def test_what_is_written_first_is_read_as_nearly_as_any_code_can_be(encoding: Encoding, seed: int) -> None:
    """Against the reading of every code, one at a time, by the way through all cells."""
    made = design(encoding, weight_bits=5, cell_bits=2, rows=16, columns=40, pack="none")
    free = drawn(seed)
    injection, _ = broken(free, made, seed)
    scale = free.abs().amax(dim=1, keepdim=True) / 15
    codes = (free / scale).round()

    def read(written: Tensor) -> Tensor:
        return injection.read_back(written, layer="a", index=0, step=0) / scale

    written = injection.nearest(free, layer="a")
    found = (read(written) - codes).abs()
    largest = codes.abs() == 15  # these set the scale, and stay
    torch.testing.assert_close(written[largest], free[largest])
    least = (read(free) - codes).abs()
    moves = torch.zeros(free.shape, dtype=torch.bool)
    for code in range(-15, 16):
        everywhere = torch.where(largest, free, code * scale)
        least = torch.minimum(least, (read(everywhere) - codes).abs())
    torch.testing.assert_close(found, least, rtol=0.0, atol=1e-9)
    for step in (-1, 1):
        beside = torch.where(largest, free, (codes + step) * scale)
        moves |= (read(beside) - read(free)).abs() > 1e-9
    told = injection.moves(free, layer="a", index=0, step=0)
    assert told is not None
    assert torch.equal(told[~largest], moves[~largest])


def test_weights_that_no_code_moves_get_no_gradient() -> None:
    made = design(weight_bits=5, cell_bits=4, rows=16, columns=40, pack="none")
    layer = nn.Linear(30, 8, bias=False).double()
    with torch.no_grad():
        layer.weight.copy_(drawn(1))
    model = nn.Sequential(layer)
    injection, _ = broken(drawn(1), made, 1)
    hardening = Hardening(
        injection=Injection(design=made, faults={"0": injection.faults["a"]}),  # type: ignore[index]
        layers=("0",),
    )
    hardening.start(model, 1)
    model(torch.ones(2, 30, dtype=torch.float64)).sum().backward()
    gradient = next(model[0].parametrizations.parameters()).grad  # type: ignore[union-attr]
    moves = injection.moves(drawn(1), layer="a", index=0, step=0)
    assert moves is not None
    assert 20 < int((~moves).sum()) < 120
    assert isinstance(gradient, Tensor)
    assert torch.equal(gradient != 0, moves)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"faults": {"nothing": FaultMap.empty((1, 128, 128))}}, "faults must name layers of model .*got 'nothing'"),
        (
            {"design": design(Offset()), "faults": {"classifier.1": FaultMap.empty((1, 128, 128))}},
            "design must have cells without programming_error and no shared reference column",
        ),
        (
            {"faults": {"classifier.1": FaultMap.empty((2, 128, 128))}},
            r"faults of layer 'classifier.1' must have shape \(1, 128, 128\), got \(2, 128, 128\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(xb.InputError, match=message):
        fine_tune(load_digits_net(), digits(), TRAINING, **{"design": design(), **changes})
