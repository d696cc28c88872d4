"""What is done outside of the arrays: full scale, copies, corrections and outputs that are recalibrated."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import xbarsim as xb
from tests.strategies import encodings
from xbarsim.compress import Injection
from xbarsim.devices import Cell, FaultKind, FaultMap, StuckFaults
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Differential, Encoding, Mapping, TwoColumn, map_matrix, quantise
from xbarsim.mitigation import (
    AverageCopies,
    ChooseCopies,
    ClosestValue,
    CorrectDigitally,
    Diagnosis,
    FlipSigns,
    JointCopies,
    KnownLayer,
    OutputStatistics,
    PermuteRows,
    RecalibrateOutputs,
    best_clip,
    fault_power,
)
from xbarsim.network import MappedNetwork
from xbarsim.testing.mitigation import check_mitigation

pytestmark = pytest.mark.usefixtures("one_thread")

CELL = Cell(g_min=1e-6, g_max=1.6e-5, levels=256, read_voltage=0.2)
RNG = np.random.default_rng
WEIGHTS = RNG(3).normal(size=(30, 9))
VECTORS = RNG(4).integers(-127, 127, (20, 30), endpoint=True)


def design(**changes: Any) -> xb.Design:
    mapping = Mapping(encoding=Differential(), rows=16, columns=24, cell_bits=4, weight_bits=8)
    return xb.Design(cell=CELL, mapping=mapping, faults=StuckFaults(on=0.08, off=0.04)).replace(**changes)


def crossbar(*methods: Any, **changes: Any) -> xb.Crossbar:
    return xb.Crossbar(
        WEIGHTS, design(**changes), seed=2, mitigations=methods, diagnosis=Diagnosis(), precision="double"
    )


def error(die: xb.Crossbar) -> float:
    return float(((die.multiply(VECTORS) - die.digital(VECTORS)) ** 2).sum())


# --- full scale


@given(encoding=encodings(), bits=st.sampled_from([(3, 1), (4, 3), (5, 2)]))
def test_the_power_of_faults_is_the_sum_over_single_stuck_cells(encoding: Encoding, bits: tuple[int, int]) -> None:
    mapping = Mapping(encoding=encoding, rows=1, columns=64, weight_bits=bits[0], cell_bits=bits[1])
    rates = {FaultKind.STUCK_ON: 0.003, FaultKind.STUCK_OFF: 0.001}
    power = fault_power(mapping, rates)
    cells = mapping.slices * mapping.sides
    for code in range(-mapping.max_weight, mapping.max_weight + 1):
        levels = encoding.encode(np.array(code), *bits).astype(float)
        right = float(encoding.decode(levels, *bits))
        expected = 0.0
        for cell, (kind, rate) in itertools.product(range(cells), rates.items()):
            stuck = levels.copy().reshape(-1)
            stuck[cell] = mapping.max_level if kind == FaultKind.STUCK_ON else 0
            expected += rate * (float(encoding.decode(stuck.reshape(levels.shape), *bits)) - right) ** 2
        np.testing.assert_allclose(power[code + mapping.max_weight], expected, rtol=1e-12)


def test_the_power_of_faults_of_one_pair_is_the_closed_form() -> None:
    """Two columns: p_on (1 + (1 - |w|)^2) + p_off w^2; differential: on and off exchanged (theorem T3)."""
    on, off = 0.0042, 0.0008
    rates = {FaultKind.STUCK_ON: on, FaultKind.STUCK_OFF: off}
    for encoding, (full, part) in ((TwoColumn(), (on, off)), (Differential(), (off, on))):
        mapping = Mapping(encoding=encoding, rows=1, columns=2, weight_bits=8, cell_bits=7)
        weights = np.arange(-127, 128) / 127
        expected = full * (1 + (1 - np.abs(weights)) ** 2) + part * weights**2
        np.testing.assert_allclose(fault_power(mapping, rates) / 127**2, expected, rtol=1e-12, atol=1e-15)


def test_drawn_faults_have_the_power_that_is_expected() -> None:
    rng = RNG(0)
    mapping = Mapping(encoding=Differential(), rows=128, columns=128, weight_bits=8, cell_bits=4, pack="none")
    matrix = map_matrix(rng.integers(-127, 127, (512, 128), endpoint=True), mapping)
    model = StuckFaults(on=0.004, off=0.002)
    layer = KnownLayer.of(matrix, cell=CELL, faults=model.sample(matrix.levels.shape, rng))
    expected = fault_power(mapping, model.rates)[matrix.codes() + 127].sum()
    assert abs(layer.errors().sum() / expected - 1) < 0.08  # some 1,500 full-scale errors


def test_full_scale_falls_with_the_rate_and_clips_what_lies_beyond() -> None:
    weights = RNG(1).standard_t(4, (400, 8))
    clips = [best_clip(weights, Mapping(), {FaultKind.STUCK_ON: rate}) for rate in (0.0, 1e-4, 1e-3, 1e-2)]
    assert clips[0] == 1.0
    assert clips == sorted(clips, reverse=True)
    assert clips[-1] < 0.99
    made = quantise(weights, bits=8, clip=0.99)
    largest = np.quantile(np.abs(weights), 0.99, axis=0)
    np.testing.assert_allclose(made.scale * 127, largest)
    np.testing.assert_allclose(made.dequantise(), np.clip(weights, -largest, largest), atol=largest.max() / 254 + 1e-12)
    whole = quantise(weights, bits=8, per="tensor", clip=0.99)
    np.testing.assert_allclose(whole.scale * 127, np.quantile(np.abs(weights), 0.99))
    sparse = np.zeros((100, 2))
    sparse[0] = 1.0  # most weights are 0: a full scale of 0 would lose them all
    np.testing.assert_array_equal(quantise(sparse, bits=8, clip=0.9).codes[0], 127)
    with pytest.raises(InputError, match="clip must be"):
        quantise(weights, bits=8, clip=0.0)
    with pytest.raises(InputError, match="weight_clip must be"):
        Mapping(weight_clip=1.1)


def test_a_clipped_full_scale_reaches_every_way_in() -> None:
    """Networks, matrices and the cells that a training meets are quantised alike."""
    rng = RNG(2)
    mapping = replace(design().mapping, weight_clip=0.9)
    weights = rng.standard_t(3, (30, 9))
    made = mapping.quantise(weights)
    largest = np.quantile(np.abs(weights), 0.9, axis=0)
    np.testing.assert_allclose(made.scale * 127, largest)
    clipped = design(mapping=mapping, faults=None)
    np.testing.assert_array_equal(xb.Crossbar(weights, clipped, seed=1).matrix.codes(), made.codes)
    model = nn.Linear(30, 9, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.from_numpy(weights.T))
    mapped = xb.map_model(nn.Sequential(model), clipped, calibration=torch.rand(8, 30))
    np.testing.assert_array_equal(mapped.layers["0"].layer.codes, made.codes)
    faults = StuckFaults(on=0.1, off=0.1).sample(mapped.layers["0"].arrays_shape, rng)
    injection = Injection(design=clipped, faults={"0": faults})
    met = injection.read_back(model.weight, layer="0", index=0, step=0).detach().numpy().T
    held = mapped.layers["0"].matrix.decode(mapped.fabricate(1, faults={"0": faults}).layers["0"].cells())
    expected = weights + (held - made.codes) * made.scale
    np.testing.assert_allclose(met, expected, rtol=1e-5, atol=1e-5)


# --- corrections


def test_to_correct_all_weights_is_to_have_an_ideal_die() -> None:
    plain, all_of_them = crossbar(), crossbar(CorrectDigitally(share=1.0))
    assert error(plain) > 1.0
    np.testing.assert_allclose(all_of_them.multiply(VECTORS), plain.digital(VECTORS), rtol=1e-9, atol=1e-9)
    some = crossbar(CorrectDigitally(share=0.05))
    assert some.layer.correction is not None
    assert len(some.layer.correction.values) == round(0.05 * WEIGHTS.size)
    assert error(all_of_them) < error(some) < error(plain)
    (first,) = some.mitigations.tiles[:1]
    assert sum(tile.overhead.digital_operations_per_vector for tile in some.mitigations.tiles) == 2 * len(
        some.layer.correction.values
    )
    assert first.method == "CorrectDigitally"
    assert crossbar(CorrectDigitally(share=0.0)).layer.correction is None


def test_the_worst_weights_are_corrected_first() -> None:
    die, repaired = crossbar(), crossbar(CorrectDigitally(share=0.04))
    correction = repaired.layer.correction
    assert correction is not None
    power, scale = die._mapped.mean_square_input, die._mapped.layer.weight_scale
    deviation = die.matrix.decode(die.layer.cells()) - die._mapped.layer.codes
    harm = power[:, None] * (deviation * scale) ** 2
    chosen = np.zeros(harm.shape, bool)
    chosen[correction.inputs, correction.outputs] = True
    assert harm[chosen].min() >= harm[~chosen].max()
    np.testing.assert_array_equal(correction.values, -deviation[correction.inputs, correction.outputs])


# --- copies


def test_copies_of_a_sound_die_change_nothing_and_take_arrays() -> None:
    alone = crossbar(faults=None)
    twice = crossbar(AverageCopies(copies=3), faults=None)
    np.testing.assert_array_equal(twice.multiply(VECTORS), alone.multiply(VECTORS))
    assert twice.shape == alone.shape == WEIGHTS.shape
    assert twice.layer.matrix.tiles == 3 * alone.layer.matrix.tiles


def test_the_average_of_copies_is_that_of_what_each_holds() -> None:
    die = crossbar(AverageCopies(copies=2))
    held = die.matrix.decode(die.layer.cells())
    mean = (held[:, :9] + held[:, 9:]) / 2
    np.testing.assert_allclose(die.multiply(VECTORS), VECTORS @ mean * die._mapped.layer.weight_scale, rtol=1e-10)


def test_the_best_copies_of_each_output_are_chosen() -> None:
    die = crossbar(ChooseCopies(copies=3, best=2))
    weights = die.layer.copy_weights
    assert weights is not None
    np.testing.assert_array_equal(weights.sum(axis=0), 1.0)
    assert set(np.unique(weights)) == {0.0, 0.5}
    held = die.matrix.decode(die.layer.cells()).reshape(30, 3, 9)
    harm = (die._mapped.mean_square_input[:, None, None] * (held - die._mapped.layer.codes[:, None]) ** 2).sum(axis=0)
    for output in range(9):
        worst = int(harm[:, output].argmax())
        assert weights[worst, output] == 0.0
    chosen = np.einsum("icj,cj->ij", held, weights)
    np.testing.assert_allclose(die.multiply(VECTORS), VECTORS @ chosen * die._mapped.layer.weight_scale, rtol=1e-10)
    assert error(die) < error(crossbar(AverageCopies(copies=3)))


def test_a_copy_makes_up_for_what_the_one_before_missed() -> None:
    """A lost weight below half of full scale costs nothing; a larger one keeps what lies beyond."""
    mapping = Mapping(encoding=TwoColumn(), rows=2, columns=2, weight_bits=4, cell_bits=3, pack="none")
    matrix = map_matrix(np.array([[3], [-6]]), mapping)
    both = replace(
        matrix,
        shape=(2, 2),
        tile_rows=np.tile(matrix.tile_rows, (2, 1)),
        tile_outputs=np.array([[0], [1]], np.int32),
        levels=np.tile(matrix.levels, (2, 1, 1)),
    )
    lost = np.zeros((2, 2, 2), int)
    lost[0, 0] = lost[0, 1] = FaultKind.STUCK_OFF  # the first copy holds nothing
    layer = KnownLayer.of(both, cell=CELL, faults=FaultMap.from_dense(lost), copies=2)
    fits = JointCopies(copies=2).fit_layer(layer, [RNG(0)] * 2)
    np.testing.assert_array_equal(fits[1].levels, [[6, 0], [0, 7]])
    # 3 comes right: (0 + 6) / 2; of -6 the average is (0 - 7) / 2
    assert layer.with_fits(fits).errors() == pytest.approx([2.5**2])
    assert layer.errors() == pytest.approx([1.5**2 + 3.0**2])


def test_a_layer_of_zeros_takes_no_array_and_no_spare_line() -> None:
    die = xb.Crossbar(
        np.zeros((4, 3)), design(), seed=1, mitigations=(PermuteRows(spare=2), JointCopies()), diagnosis=Diagnosis()
    )
    np.testing.assert_array_equal(die.multiply(np.ones((2, 4), int)), 0.0)
    assert die.layer.matrix.tiles == 0


def test_copies_together_are_better_than_each_by_itself() -> None:
    errors = [error(crossbar(*methods)) for methods in (
        (ClosestValue(),), (AverageCopies(), ClosestValue()), (JointCopies(),)
    )]  # fmt: skip
    assert errors[2] < errors[1] < errors[0]
    with pytest.raises(InputError, match="copies must be asked for once"):
        crossbar(AverageCopies(), JointCopies())
    for wrong in (
        (JointCopies(), ClosestValue()),
        (CorrectDigitally(), PermuteRows()),
        (CorrectDigitally(), JointCopies()),
    ):
        names = rf"got {type(wrong[1]).__name__} after {type(wrong[0]).__name__}, which it would undo"
        with pytest.raises(InputError, match=names):
            crossbar(*wrong)
    with pytest.raises(InputError, match="best must be"):
        ChooseCopies(copies=2, best=3)
    with pytest.raises(InputError, match="copies must be an integer >= 2"):
        AverageCopies(copies=1)


@pytest.mark.parametrize(
    "method", [AverageCopies(), ChooseCopies(), JointCopies(), CorrectDigitally(share=1.0)], ids=repr
)
def test_they_keep_the_promises_of_every_method(method: Any) -> None:
    check_mitigation(method, examples=25)


# --- outputs


def images(count: int = 40, seed: int = 3) -> torch.Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(seed))


def network(**changes: Any) -> MappedNetwork:
    with torch.random.fork_rng():
        torch.manual_seed(2)
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3),
            nn.BatchNorm2d(8),
            nn.ReLU(),
            nn.Conv2d(8, 6, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(96, 5),
        ).eval()
    return xb.map_model(model, design(**changes), calibration=images())


def distance(chip: xb.Chip, of: MappedNetwork, batch: torch.Tensor) -> float:
    with torch.no_grad():
        return float(((chip(batch) - of.digital(batch)) ** 2).mean())


def test_a_sound_die_is_left_as_it_is_bit_for_bit() -> None:
    sound = network(faults=None)
    chip = sound.fabricate(1, mitigations=(RecalibrateOutputs(),), images=images())
    for adjustment in chip.adjustments.values():
        np.testing.assert_array_equal(adjustment.gain, 1.0)
        np.testing.assert_array_equal(adjustment.offset, 0.0)
    with torch.no_grad():
        assert torch.equal(chip(images(seed=9)), sound.digital(images(seed=9)))


def test_outputs_have_the_mean_and_the_spread_that_they_should_have() -> None:
    """Measured on the images themselves, layer by layer, by what the layers give when the chip runs."""
    broken = network()
    chip = broken.fabricate(1, mitigations=(RecalibrateOutputs(),), images=images())
    assert list(chip.adjustments) == list(chip.layers)
    seen: dict[str, npt.NDArray[Any]] = {}
    right: dict[str, npt.NDArray[Any]] = {}

    def keep(into: dict[str, npt.NDArray[Any]]) -> Any:
        def watch(name: str, inputs: Any, outputs: Any) -> None:
            if name in chip.layers:
                axes = (0, 2, 3) if np.ndim(outputs) == 4 else (0,)
                into[name] = np.stack(
                    [np.asarray(outputs, float).mean(axis=axes), np.asarray(outputs, float).var(axis=axes)]
                )

        return watch

    batch = xb.network.samples.Samples.of(images())
    broken.digital.run(batch, watch=keep(right))
    chip._run(batch, 0, keep(seen))
    for name, (mean, variance) in right.items():
        moving = (variance > 0) & (seen[name][1] > 0)
        np.testing.assert_allclose(seen[name][0][moving], mean[moving], rtol=1e-3, atol=1e-4)
        np.testing.assert_allclose(seen[name][1][moving], variance[moving], rtol=1e-3)


def test_recalibration_helps_on_images_that_it_has_not_seen_and_asks_for_some() -> None:
    broken = network()
    fresh = images(seed=11)
    plain = np.mean([distance(broken.fabricate(seed), broken, fresh) for seed in range(6)])
    recalibrated = np.mean(
        [
            distance(broken.fabricate(seed, mitigations=(RecalibrateOutputs(),), images=images()), broken, fresh)
            for seed in range(6)
        ]
    )
    assert recalibrated < 0.7 * plain
    with pytest.raises(InputError, match="images must be given for RecalibrateOutputs, which needs some, got None"):
        broken.fabricate(1, mitigations=(RecalibrateOutputs(),))
    with pytest.raises(InputError, match="mitigations of a matrix must do without images, got RecalibrateOutputs"):
        crossbar(RecalibrateOutputs())


def test_gains_are_held_and_outputs_that_do_not_move_keep_theirs() -> None:
    ideal = OutputStatistics(mean=np.array([1.0, 2.0, 3.0]), variance=np.array([4.0, 4.0, 4.0]))
    die = OutputStatistics(mean=np.array([0.5, 2.0, 7.0]), variance=np.array([1.0, 0.0, 4e-4]))
    found = RecalibrateOutputs(largest_gain=5.0).adjust(ideal, die)
    assert found is not None
    np.testing.assert_allclose(found.gain, [2.0, 1.0, 5.0])
    np.testing.assert_allclose(found.gain * die.mean + found.offset, ideal.mean)
    with pytest.raises(InputError, match="largest_gain must be"):
        RecalibrateOutputs(largest_gain=0.5)


class Twice(nn.Module):
    """One layer that is used two times for every sample."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared, self.last = nn.Linear(12, 10), nn.Linear(10, 10), nn.Linear(10, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden: torch.Tensor = torch.relu(self.first(x))
        for _ in range(2):
            hidden = torch.relu(self.shared(hidden))
        result: torch.Tensor = self.last(hidden)
        return result


def test_a_layer_that_is_used_twice_is_recalibrated_by_all_its_uses() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        model = Twice().eval()
    batch = torch.randn(60, 12, generator=torch.Generator().manual_seed(1))
    mapped = xb.map_model(model, design(), calibration=batch)
    chip = mapped.fabricate(3, mitigations=(RecalibrateOutputs(),), images=batch)
    results: dict[str, list[Any]] = {}

    def watch(name: str, inputs: Any, outputs: Any) -> None:
        results.setdefault(name, []).append(np.asarray(outputs, float))

    samples = xb.network.samples.Samples.of(batch)
    chip._run(samples, 0, watch)
    seen = {name: np.concatenate(each) for name, each in results.items() if name in chip.layers}
    results.clear()
    mapped.digital.run(samples, watch=watch)
    assert len(results["shared"]) == 2
    for name in ("first", "last"):
        right = np.concatenate(results[name])
        np.testing.assert_allclose(seen[name].mean(axis=0), right.mean(axis=0), rtol=1e-3, atol=1e-4)
    right = np.concatenate(results["shared"])
    # its own first use changes what its second is fed: the pooled mean is met for the inputs of before
    assert np.abs(seen["shared"].mean(axis=0) - right.mean(axis=0)).mean() < 0.5 * np.abs(right.mean(axis=0)).mean()


# --- all together, in files and in costs


@pytest.mark.parametrize(
    "methods",
    [
        (PermuteRows(spare=2), FlipSigns(), CorrectDigitally(share=0.02), RecalibrateOutputs()),
        (ClosestValue(), ChooseCopies(copies=2), RecalibrateOutputs()),
    ],
    ids=["moved", "copies"],
)
def test_a_repaired_die_is_saved_and_loaded(methods: tuple[Any, ...], tmp_path: Path) -> None:
    broken = network()
    chip = broken.fabricate(1, mitigations=methods, diagnosis=Diagnosis(coverage=0.95), images=images())
    batch = images(seed=9)
    with torch.no_grad():
        expected = chip(batch)
        reference = chip.reference()(batch)
    np.testing.assert_allclose(reference, expected, rtol=1e-4, atol=1e-4)
    chip.save(tmp_path / "die")
    loaded = xb.Chip.load(tmp_path / "die", model=broken.skeleton.model)  # type: ignore[attr-defined]
    with torch.no_grad():
        assert torch.equal(loaded(batch), expected)
    assert str(loaded.mitigations) == str(chip.mitigations)
    assert loaded.stored_bits() == chip.stored_bits()
    crossbar(*[method for method in methods if method.needs != "images"]).save(tmp_path / "matrix")
    again = xb.Crossbar.load(tmp_path / "matrix")
    np.testing.assert_array_equal(
        again.multiply(VECTORS), crossbar(*[m for m in methods if m.needs != "images"]).multiply(VECTORS)
    )


def test_what_repair_costs_stands_in_the_cost_of_the_die() -> None:
    broken = network()
    plain = broken.fabricate(1)
    repaired = broken.fabricate(
        1,
        mitigations=(PermuteRows(spare=4), CorrectDigitally(share=0.05), RecalibrateOutputs()),
        diagnosis=Diagnosis(),
        images=images(),
    )
    bits = repaired.stored_bits()
    table = repaired.mitigations
    for name, layer in repaired.layers.items():
        rows = layer.matrix.tiles * 16 * 5  # 16 rows, each one of 20 lines
        corrected = 0 if layer.correction is None else len(layer.correction.values)
        place = int(np.ceil(np.log2(16 * layer.matrix.mapping.outputs_per_tile)))
        outputs = len(repaired.network.layers[name].layer.weight_scale)
        assert bits[name] == rows + corrected * (place + 9) + 2 * 16 * outputs
    assert plain.stored_bits() == {}
    assert repaired.cost().area > plain.cost().area
    added = {use.name: use for use in repaired.digital_overhead()}
    for name, use in added.items():
        layer = repaired.layers[name]
        assert layer.correction is not None
        vectors = repaired.network.layers[name].vectors_per_image
        assert use.multiply_accumulates == len(layer.correction.values) * vectors
    assert set(table.noise_to_signal()) == set(repaired.layers)
    assert all(value >= 0 for value in table.noise_to_signal().values())
    assert table.overhead.configuration_bits == sum(tile.overhead.configuration_bits for tile in table.tiles)
