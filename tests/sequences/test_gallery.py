"""A gallery on crossbars: exact where everything is ideal, calibrated by its own cells where it is not, and costed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xbarsim as xb
from xbarsim.cost import OPERATIONS, DigitalCard
from xbarsim.network.report import ClippingWarning
from xbarsim.sequences import Gallery, Sequences, TimeShift, Warping, pair_distances

DESIGN = xb.Design(
    cell=xb.Cell.load("isaac2016").without_errors(),
    mapping=xb.Mapping(rows=16, columns=32, weight_bits=5, cell_bits=2),
    periphery=xb.Periphery(input_bits=5, dac_bits=1),
)
LOSSLESS = DESIGN.replace(periphery=xb.Periphery(input_bits=5, dac_bits=1, adc_range="lossless"))
STUCK = DESIGN.replace(faults=xb.StuckFaults(on=0.05, off=0.1))


def codes(rng: np.random.Generator, count: int, channels: int = 4) -> Sequences:
    return Sequences.of([rng.integers(-15, 16, (rng.integers(1, 9), channels)) for _ in range(count)])


def values(rng: np.random.Generator, count: int, channels: int = 4) -> Sequences:
    return Sequences.of([rng.normal(size=(rng.integers(2, 9), channels)) for _ in range(count)])


def stuck_frames(gallery: Gallery) -> Any:
    """What the cells hold, in codes: (numbers of a frame, frames)."""
    largest = gallery.crossbar.layer.drive.max_input
    return gallery.crossbar.multiply(np.eye(gallery.crossbar.shape[0], dtype=int) * largest) / largest


@given(st.integers(0, 2**32), st.integers(0, 2), st.sampled_from(["own", "cells", "codes"]))
@settings(max_examples=8)
def test_an_ideal_gallery_is_exact(seed: int, context: int, norms: Literal["own", "cells", "codes"]) -> None:
    rng = np.random.default_rng(seed)
    sequences, probes = codes(rng, 5), codes(rng, 3)
    for design in (DESIGN, LOSSLESS):
        gallery = Gallery(sequences, design, seed=1, context=context, norms=norms)
        ours, theirs = (each.with_context(context) for each in (probes, sequences))
        expected = ((ours.values[:, np.newaxis] - theirs.values[np.newaxis]) ** 2).sum(axis=2)
        read = np.concatenate(list(gallery.local_distances(probes)))
        assert np.array_equal(read, expected)  # integers, bit for bit
        assert np.array_equal(gallery.norms, (theirs.values**2).sum(axis=1))
        for rules in (Warping(), Warping(steps="symmetric2", radius=2), TimeShift(most=2, overlap=2)):
            assert np.array_equal(gallery.distances(probes, rules), pair_distances(ours, theirs, rules))


def test_many_bits_come_close_to_the_distances_of_floating_numbers() -> None:
    rng = np.random.default_rng(1)
    sequences, probes, weights = values(rng, 6), values(rng, 4), [1.0, 0.5, 2.0, 0.0]
    fine = DESIGN.replace(
        mapping=xb.Mapping(rows=16, columns=32, weight_bits=14, cell_bits=2), periphery=xb.Periphery(input_bits=14)
    )
    expected = pair_distances(probes, sequences, weights=weights)
    errors = []
    for design in (DESIGN, fine):
        gallery = Gallery(sequences, design, seed=1, weights=weights, calibration=probes)
        errors.append(np.abs(gallery.distances(probes) - expected).max())
        assert gallery.clipped.clipped == 0
        assert gallery.clipped.inputs == probes.values.size
    assert errors[1] < 1e-3 * expected.max() < errors[0]


def test_norms_are_those_of_the_cells_as_they_are() -> None:
    rng = np.random.default_rng(2)
    sequences = codes(rng, 12)
    blind = Gallery(sequences, STUCK, seed=3, norms="codes")
    held, meant = stuck_frames(blind), sequences.values.T
    broken = (held != meant).any(axis=0)
    assert 0.2 < broken.mean() < 1.0
    assert np.array_equal(blind.norms, (meant**2).sum(axis=0))
    assert blind.calibration_reads == 0
    cells = Gallery(sequences, STUCK, seed=3)
    np.testing.assert_allclose(cells.norms, (held**2).sum(axis=0), rtol=1e-12)
    assert cells.calibration_reads == 4
    own = Gallery(sequences, STUCK, seed=3, norms="own")
    assert np.array_equal(own.norms, 2 * (meant * held).sum(axis=0) - (meant**2).sum(axis=0))
    assert own.calibration_reads == len(sequences.values)


def test_a_frame_is_at_no_distance_from_itself_whatever_is_broken() -> None:
    sequences = values(np.random.default_rng(4), 12)
    own = Gallery(sequences, STUCK, seed=3, norms="own")
    blind = Gallery(sequences, STUCK, seed=3, norms="codes")
    diagonals = [np.diag(np.concatenate(list(each.local_distances(sequences)))) for each in (own, blind)]
    assert np.abs(diagonals[0]).max() < 1e-12
    assert np.abs(diagonals[1]).max() > 1.0


def test_what_is_beyond_the_range_is_clipped_counted_and_told() -> None:
    sequences = values(np.random.default_rng(5), 5)
    gallery = Gallery(sequences, DESIGN, seed=1, largest=1.0)
    with pytest.warns(ClippingWarning, match="numbers of probes lie beyond the range of inputs"):
        gallery.distances(sequences)
    beyond = int((np.floor(np.abs(sequences.values) * 15 + 0.5) > 15).sum())
    assert 0 < gallery.clipped.clipped == beyond
    with pytest.raises(xb.InputError, match=r"x must be input codes in \[-15, 15\]"):
        Gallery(codes(np.random.default_rng(1), 2), DESIGN, seed=1).distances(Sequences.of([[[16, 0, 0, 0]]]))


def test_a_seed_names_a_die_and_probes_do_not_disturb_each_other() -> None:
    rng = np.random.default_rng(6)
    sequences, probes = values(rng, 6), values(rng, 5)
    first, again, other = (Gallery(sequences, STUCK, seed=seed) for seed in (1, 1, 2))
    whole = first.distances(probes)
    assert np.array_equal(whole, again.distances(probes))
    assert not np.array_equal(whole, other.distances(probes))
    one = again.distances(probes.select([3]), first_vector=int(probes.offsets[3]))
    assert np.array_equal(whole[3:4], one)


def test_calibrated_converters_take_their_range_from_frames_of_the_whole_gallery() -> None:
    rng = np.random.default_rng(7)
    sequences = Sequences.of([scale * rng.normal(size=(8, 4)) for scale in np.linspace(0.1, 2.0, 30)])  # loudest last
    design = DESIGN.replace(periphery=xb.Periphery(input_bits=5, dac_bits=4, adc_bits=8))
    gallery = Gallery(sequences, design, seed=1)
    found, exact = gallery.distances(sequences), pair_distances(sequences, sequences)
    assert np.abs(found - exact).max() < 0.1 * exact.max()


def test_a_match_is_costed() -> None:
    rng = np.random.default_rng(8)
    sequences, probes = codes(rng, 12), codes(rng, 6)
    gallery = Gallery(sequences, LOSSLESS, seed=1)
    frames, pairs = probes.values.shape[0] / 6, probes.values.shape[0] / 6 * sequences.values.shape[0]
    cost = gallery.cost(probes)
    use = cost.report.layers[0].use
    assert use.reads_per_vector == 8  # four planes of magnitude, two signs
    assert cost.frames == frames
    assert cost.reads == pytest.approx(frames * 8 * use.arrays)
    assert cost.conversions == pytest.approx(frames * 8 * use.counted("conversions"))
    assert cost.cells == pytest.approx(pairs)
    assert cost.warping.elementwise == pytest.approx(pairs)
    assert cost.warping.comparisons == pytest.approx(2 * pairs + 11)
    assert cost.warping.state_accesses == pytest.approx(2 * pairs)
    assert cost.local.elementwise == pytest.approx(3 * pairs)
    assert cost.digital.multiply_accumulates == pytest.approx(4 * pairs + 4 * frames)
    card = DigitalCard.load("horowitz2014").digital
    node = cost.report.hardware.technology_node.si
    price = {kind: card.energy(kind, node) or 0.0 for kind in OPERATIONS}
    assert price["state_accesses"] == pytest.approx(5 / 0.9 * price["comparisons"])
    arithmetic = price["elementwise"] * pairs + price["comparisons"] * (2 * pairs + 11)
    warping = arithmetic + price["state_accesses"] * 2 * pairs
    assert cost.warping_energy == pytest.approx(warping)
    digital = price["multiply_accumulates"] * 4 * (pairs + frames) + price["elementwise"] * 2 * pairs
    assert cost.digital_energy == pytest.approx(digital + warping)
    work = cost.workload
    assert cost.energy == pytest.approx(work.energy)  # the report counts the same operations, once
    assert cost.latency == work.latency
    assert cost.keeping_up == pytest.approx(4 * (pairs + frames) / cost.latency)
    shifted = gallery.cost(probes, TimeShift(most=2, overlap=2))
    assert shifted.cells > cost.cells
    assert shifted.warping_energy > cost.warping_energy
    assert shifted.reads == cost.reads  # distances are read once for all shifts
    assert "only local distances are on crossbars" in str(cost)
    assert len(set(cost.report.notes)) == len(cost.report.notes)
    priced = replace(cost.report.hardware, name="other")
    assert gallery.cost(probes, hardware=priced).report.hardware.name == "other"


def test_a_gallery_of_zeros_takes_no_arrays() -> None:
    gallery = Gallery(Sequences.of([[[0, 0]], [[0, 0]]]), DESIGN, seed=1)
    probes = Sequences.of([[[3, 4]]])
    assert gallery.distances(probes).tolist() == [[25.0, 25.0]]
    cost = gallery.cost(probes)
    assert (cost.reads, cost.latency, cost.array_energy) == (0, 0.0, 0.0)
    assert cost.keeping_up == float("inf")


FLOATS = Sequences.of([[[1.0, 2.0]]])
INTEGERS = Sequences.of([[[1, 2]]])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Gallery(FLOATS, DESIGN, seed=1, norms="none"), "norms must be one of"),  # type: ignore[arg-type]
        (lambda: Gallery(FLOATS, DESIGN, seed=1, context=-1), "context must be an integer >= 0"),
        (lambda: Gallery(FLOATS, DESIGN, seed=1, largest=0.0), "largest must be a finite number > 0"),
        (lambda: Gallery(INTEGERS, DESIGN, seed=1, largest=1.0), "largest must be None where sequences are of integer"),
        (lambda: Gallery(INTEGERS, DESIGN, seed=1, weights=[1, 1]), "weights must be None where sequences are of int"),
        (lambda: Gallery(FLOATS, DESIGN, seed=1, calibration=INTEGERS), "calibration must be of floating numbers, as"),
        (lambda: Gallery(FLOATS, DESIGN, seed=1).distances(INTEGERS), "probes must be of floating numbers, as the"),
        (lambda: Gallery(INTEGERS, DESIGN, seed=1).distances(FLOATS), "probes must be of integer codes, as the gall"),
        (lambda: Gallery(FLOATS, DESIGN, seed=1).distances(Sequences.of([[1.0]])), "probes must have 2 channels"),
        (lambda: Gallery(Sequences.of([[0.0]]), DESIGN, seed=1), "sequences must hold a number other than 0"),
        (lambda: Gallery(FLOATS, DESIGN, seed=1).distances(FLOATS, first_vector=-1), "first_vector must be an integer"),
    ],
)
def test_bad_input_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(xb.InputError, match=message):
        wrong()
