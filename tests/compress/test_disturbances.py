"""What befalls weights during training: stuck cells found the short way and the long way, lost weights, and rates."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import xbarsim as xb
from xbarsim.compress import Injection, LostWeights, Rates
from xbarsim.compress.disturbances import _with_every_cell, _with_stuck_cells
from xbarsim.devices import (
    Cell,
    ClusteredFaults,
    FaultModel,
    ListedConductances,
    StuckAtFaults,
    StuckFaults,
    StuckLineFaults,
)
from xbarsim.mapping import (
    Balanced,
    Differential,
    DuplicatedDifferential,
    DuplicatedTop,
    Encoding,
    Mapping,
    Offset,
    TwoColumn,
    Unary,
    map_matrix,
    quantise,
)

CELL = Cell(g_min=1e-6, g_max=1e-4, levels=16)
ENCODINGS = (
    TwoColumn(),
    Differential(),
    Balanced(),
    Unary(cells=2),
    DuplicatedTop(),
    DuplicatedDifferential(),
    Offset(reference="digital"),
)
FAULTS = (
    StuckFaults(on=0.08, off=0.03),
    ClusteredFaults(on=0.02, off=0.02, size=5.0, spread=1.0),
    StuckLineFaults(on=0.03, off=0.02),
    StuckAtFaults(where=StuckFaults(on=0.05, off=0.05), on_conductances=ListedConductances(values=(2e-5, 1.3e-4))),
)


def weights(seed: int, shape: tuple[int, ...] = (13, 3, 3, 3), zeros: float = 0.0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(shape, generator=generator)
    return drawn * (torch.rand(shape, generator=generator) >= zeros)


def design(encoding: Encoding = Differential(), **changes: Any) -> xb.Design:  # noqa: B008  a frozen value
    mapping: dict[str, Any] = {
        "encoding": encoding,
        "rows": 16,
        "columns": 20,
        "weight_bits": 7,
        "cell_bits": 3,
    } | changes
    return xb.Design(cell=CELL, mapping=Mapping(**mapping), periphery=xb.Periphery(input_bits=8))


@pytest.mark.parametrize("faults", FAULTS, ids=lambda faults: type(faults).__name__)
@pytest.mark.parametrize("encoding", ENCODINGS, ids=lambda encoding: encoding.name)
@given(
    seed=st.integers(0, 2**31),
    zeros=st.sampled_from([0.0, 0.5, 0.97]),
    pack=st.sampled_from(["none", "matrix", "block"]),
    scale=st.sampled_from(["tensor", "output"]),
)
def test_stuck_cells_alone_say_what_all_cells_say(
    encoding: Encoding, faults: FaultModel, seed: int, zeros: float, pack: str, scale: str
) -> None:
    """The same die of the same generator, and the same weights but for the last place."""
    free, made = weights(seed, zeros=zeros), design(encoding, pack=pack, weight_scale=scale)
    short, long = (
        read(free, made, faults, np.random.default_rng(seed), "a") for read in (_with_stuck_cells, _with_every_cell)
    )
    torch.testing.assert_close(short, long, rtol=1e-6, atol=1e-6)
    assert torch.equal(short == free, long == free) or zeros == 0.0
    known = faults.sample(_tiles(free, made), np.random.default_rng(seed))
    for rng in (np.random.default_rng(1), np.random.default_rng(2)):  # a known map draws nothing
        torch.testing.assert_close(_with_stuck_cells(free, made, known, rng, "a"), short, rtol=0.0, atol=0.0)


def _tiles(free: Tensor, made: xb.Design) -> tuple[int, int, int]:
    quantised = quantise(free.flatten(1).T.numpy(), bits=made.mapping.weight_bits, per=made.mapping.weight_scale)
    return map_matrix(quantised.codes, made.mapping).levels.shape


def test_weights_that_packing_left_out_cannot_be_hit() -> None:
    free = weights(3)
    free[4:9] = 0.0
    free[:, 1] = 0.0
    made = design(pack="matrix")
    hit = _with_stuck_cells(free, made, StuckFaults(on=0.5, off=0.5), np.random.default_rng(0), "a") != free
    assert not hit[4:9].any()
    assert not hit[:, 1].any()
    assert hit[:4, 0].float().mean() > 0.8


@pytest.mark.parametrize("zeros", [0.0, 0.6])
def test_a_stuck_pair_errs_by_the_energy_of_its_rates(zeros: float) -> None:
    """E dw^2 of a differential pair: p_off (1 + E (1 - |w|)^2) + p_on E w^2, w in units of full scale; one slice."""
    on, off = 0.02, 0.01
    made = design(weight_bits=4, rows=128, columns=128, pack="none").replace(faults=StuckFaults(on=on, off=off))
    free = torch.from_numpy(
        quantise(weights(1, (400, 500), zeros=zeros).T.double().numpy(), bits=4, per="output").dequantise().T.copy()
    )
    size = (free.abs() / free.abs().amax(dim=1, keepdim=True)).numpy()
    wanted = off * (1 + ((1 - size) ** 2).mean()) + on * (size**2).mean()
    dies = [Injection(design=made).read_back(free, layer="a", index=0, step=step) - free for step in range(20)]
    energy = np.array([float((die / free.abs().amax(dim=1, keepdim=True)).square().mean()) for die in dies])
    # Two stuck cells in one pair are left out of the formula: relative errors of the order of the rates.
    assert abs(energy.mean() / wanted - 1) < 0.02 + 4 * energy.std() / len(dies) ** 0.5 / wanted


def test_rates_follow_their_law() -> None:
    ramp = Rates(law="ramp", largest=0.3, ramp_steps=4)
    assert [ramp.at(step, die=0, seed=0) for step in range(6)] == pytest.approx([0, 0.075, 0.15, 0.225, 0.3, 0.3])
    assert Rates(largest=0.3).at(5, die=7, seed=1) == 0.3
    uniform = Rates(law="uniform", largest=0.4)
    drawn = [uniform.at(9, die=die, seed=3) for die in range(400)]
    assert drawn == [uniform.at(0, die=die, seed=3) for die in range(400)]
    assert 0 <= min(drawn) < 0.02
    assert 0.38 < max(drawn) <= 0.4
    assert abs(np.mean(drawn) - 0.2) < 4 * 0.4 / 12**0.5 / 20


def test_what_copies_are_read_as_is_the_mean_of_dies_of_their_own() -> None:
    made, free = design().replace(faults=StuckFaults(on=0.1, off=0.02)), weights(6)
    alone = Injection(design=made, seed=4).read_back(free, layer="a", index=1, step=3) - free
    twice = Injection(design=made, seed=4, copies=2).read_back(free, layer="a", index=1, step=3) - free
    other = 2.0 * twice - alone  # what is left must be a die as well: half of the errors are those of the first copy
    assert ((alone != 0) & (other.abs() < 1e-6)).any()
    assert ((alone == 0) & (other.abs() > 1e-6)).any()
    dies = [
        torch.stack([each.read_back(free, layer="a", index=1, step=step) - free for step in range(steps)])
        for each, steps in ((Injection(design=made, seed=4), 600), (Injection(design=made, seed=5, copies=8), 600))
    ]
    power = [float(errors.var(dim=0).mean()) for errors in dies]
    assert 0.9 < 8 * power[1] / power[0] < 1.1  # independent: the mean of eight has an eighth of the power
    assert float((dies[0].mean(dim=0) - dies[1].mean(dim=0)).square().mean()) < 2 * (power[0] + power[1]) / 600


def test_an_injection_breaks_as_many_cells_as_its_rates_say() -> None:
    made = design(rows=128, columns=128).replace(faults=StuckFaults(on=0.9, off=0.1))
    injection = Injection(design=made, rates=Rates(law="ramp", largest=0.02, ramp_steps=10))
    free = weights(2, (200, 300)) + 5.0 * (weights(2, (200, 300)) >= 0) - 5.0 * (weights(2, (200, 300)) < 0)
    share = [
        float((injection.read_back(free, layer="a", index=0, step=step) != free).float().mean()) for step in (0, 5, 10)
    ]
    assert share[0] == 0.0
    # Stuck on matters where a cell was lowered, about half of 4 cells; stuck off nearly everywhere.
    assert 0 < share[1] < share[2] < 4 * 0.02
    assert share[2] / share[1] == pytest.approx(2, rel=0.1)


@given(seed=st.integers(0, 2**31), rate=st.sampled_from([0.0, 0.1, 0.5, 1.0]))
def test_lost_weights_are_zero_and_the_others_as_they_were(seed: int, rate: float) -> None:
    free = weights(seed, (60, 50))
    lost = LostWeights(rates=Rates(largest=rate), seed=seed)
    got = lost.read_back(free, layer="a", index=2, step=4)
    assert torch.equal(got[got != 0], free[got != 0])
    share = float((got == 0).float().mean())
    assert abs(share - rate) <= 5 * (rate * (1 - rate) / 3000) ** 0.5
    assert torch.equal(got, lost.read_back(free, layer="b", index=2, step=4))
    if rate in (0.1, 0.5):
        assert not torch.equal(got, lost.read_back(free, layer="a", index=3, step=4))
        assert not torch.equal(got, lost.read_back(free, layer="a", index=2, step=5))


def test_noise_on_the_weights_that_are_left_is_a_share_of_the_largest_of_their_output() -> None:
    free = weights(0, (100, 400)) * torch.arange(1, 101)[:, None]
    got = LostWeights(rates=Rates(largest=0.25), noise=0.1).read_back(free, layer="a", index=0, step=0)
    relative = ((got - free) / free.abs().amax(dim=1, keepdim=True))[got != 0]
    assert abs(float(relative.mean())) < 4 * 0.1 / len(relative) ** 0.5
    assert abs(float(relative.std()) / 0.1 - 1) < 4 / (2 * len(relative)) ** 0.5
    assert float((got == 0).float().mean()) == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rates(largest=1.5), r"largest must be .*1\.5"),
        (lambda: Rates(largest=0.5, law="ramp"), r"ramp_steps must be >= 1 for 'ramp' and 0 otherwise, got 0"),
        (lambda: Rates(largest=0.5, ramp_steps=3), r"ramp_steps must be >= 1 for 'ramp' and 0 otherwise, got 3"),
        (
            lambda: Rates(largest=0.5, law="cosine"),  # type: ignore[arg-type]
            r"law must be .*'cosine'",
        ),
        (lambda: LostWeights(rates=Rates(largest=0.1), noise=-1.0), r"noise must be .*-1"),
        (
            lambda: Injection(design=design(), rates=Rates(largest=0.1)),
            r"design must have a fault model whose rate can be set, got faults None",
        ),
        (
            lambda: Injection(
                design=design().replace(faults=StuckFaults(on=0.1, off=0.0)), rates=Rates(largest=0.1), faults={}
            ),
            r"rates must be None with known faults",
        ),
        (lambda: Injection(design=design(), faults={}, copies=2), r"copies must be 1 with known faults.*got 2"),
    ],
)
def test_bad_settings(make: Any, message: str) -> None:
    with pytest.raises(xb.InputError, match=message):
        make()
