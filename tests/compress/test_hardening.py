"""Masks, levels and injected errors during training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import xbarsim as xb
from xbarsim.compress import (
    FrozenStatistics,
    Hardening,
    Injection,
    LayerRule,
    Levels,
    LostWeights,
    Rates,
    Recipe,
    Unstructured,
    clip_weights,
)
from xbarsim.devices import Cell, FaultMap, Polynomial, ProgrammingError, StuckFaults
from xbarsim.mapping import Balanced, Differential, Encoding, Mapping, Offset, TwoColumn, quantise

CELL = Cell(g_min=1e-6, g_max=1e-4, levels=16)
ENCODINGS = (TwoColumn(), Differential(), Balanced(), Offset())


def model(seed: int = 0) -> nn.Sequential:
    generator = torch.Generator().manual_seed(seed)
    made = nn.Sequential(nn.Conv2d(2, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 16, 5))
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        made[1].running_mean.copy_(torch.randn(6, generator=generator))  # type: ignore[operator]
        made[1].running_var.copy_(torch.rand(6, generator=generator) + 0.5)  # type: ignore[operator]
    return made


def weight(made: nn.Module, name: str) -> Tensor:
    found = made.get_submodule(name).weight
    assert isinstance(found, Tensor)
    return found


def images(count: int = 4) -> Tensor:
    return torch.rand((count, 2, 6, 6), generator=torch.Generator().manual_seed(3))


def masks(made: nn.Module) -> dict[str, Tensor]:
    return Recipe(rules=(LayerRule(layers=("*",), targets=(Unstructured(keep=0.4),)),)).masks(made)


def design(encoding: Encoding | None = None, **changes: Any) -> xb.Design:
    kept: dict[str, Any] = {
        "cell": CELL,
        "mapping": Mapping(encoding=encoding or TwoColumn(), rows=16, columns=20, weight_bits=7, cell_bits=3),
        "periphery": xb.Periphery(input_bits=8),
    }
    return xb.Design(**{**kept, **changes})


def test_forward_uses_masked_weights_on_levels_and_gradients_pass_through() -> None:
    made = model()
    hardening = Hardening(masks=masks(made), levels={"0": Levels(bits=5, zero=False)})
    free = weight(made, "0").detach().clone()
    hardening.start(made, 1)
    hard = weight(made, "0")
    mask = hardening.masks["0"]
    assert torch.equal(hard != 0, mask)
    wanted = Levels(bits=5, zero=False).project(free.flatten(1), mask.flatten(1)).reshape(free.shape)
    assert torch.equal(hard.detach(), wanted)
    made(images()).square().sum().backward()
    gradient = next(made[0].parametrizations.parameters()).grad  # type: ignore[union-attr]
    assert isinstance(gradient, Tensor)
    assert torch.equal(gradient != 0, mask)
    # The same gradient as that of a network with the hard weights, where these are not pruned.
    plain = model()
    with torch.no_grad():
        weight(plain, "0").copy_(wanted)
        weight(plain, "4").mul_(hardening.masks["4"])
    plain(images()).square().sum().backward()
    other = weight(plain, "0").grad
    assert isinstance(other, Tensor)
    torch.testing.assert_close(gradient, other * mask)


def test_training_keeps_pruned_weights_pruned_and_baking_leaves_a_plain_network() -> None:
    made = model()
    hardening = Hardening(masks=masks(made), levels={name: Levels(bits=4) for name in ("0", "4")})
    hardening.start(made, 1)
    optimiser = torch.optim.SGD(made.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1)
    for _ in range(5):
        optimiser.zero_grad()
        made(images()).square().mean().backward()
        optimiser.step()
        hardening.after_step()
    made.eval()
    before = made(images())
    hardening.bake()
    assert torch.equal(before, made(images()))
    assert set(made.state_dict()) == set(model().state_dict())
    for name, mask in hardening.masks.items():
        held = weight(made, name)
        assert isinstance(held, nn.Parameter)
        assert not held[~mask].any()
        codes = quantise(held.detach().flatten(1).T.numpy(), bits=4)
        np.testing.assert_allclose(codes.dequantise(), held.detach().flatten(1).T.numpy(), rtol=1e-6)


@pytest.mark.parametrize("bits", [5, 9])
def test_mapping_a_baked_network_finds_its_codes_behind_batch_norm(bits: int) -> None:
    made = model()
    levels = {name: Levels(bits=bits, zero=False) for name in ("0", "4")}
    hardening = Hardening(masks=masks(made), levels=levels)
    hardening.start(made, 1)
    hardening.bake()
    made.eval()
    mapped = xb.map_model(
        made, design(mapping=Mapping(rows=16, columns=20, weight_bits=bits, cell_bits=4)), calibration=images()
    )
    for name, layer in mapped.layers.items():
        wanted = quantise(weight(made, name).detach().flatten(1).T.numpy(), bits=bits).codes
        np.testing.assert_array_equal(abs(layer.layer.codes), abs(wanted))  # a negative scale of the norm flips signs
        assert (masks(model())[name].flatten(1).numpy() == (layer.layer.codes != 0).T).all()


@pytest.mark.parametrize("encoding", ENCODINGS, ids=repr)
@given(seed=st.integers(0, 2**31))
def test_nothing_injected_changes_nothing(encoding: Encoding, seed: int) -> None:
    weights = torch.randn((7, 3, 2, 2), generator=torch.Generator().manual_seed(seed))
    injection = Injection(design=design(encoding, faults=StuckFaults(on=0.0, off=0.0)), seed=seed)
    assert torch.equal(injection.read_back(weights, layer="a", index=0, step=0), weights)


@pytest.mark.parametrize("encoding", ENCODINGS, ids=repr)
def test_what_is_injected_is_what_a_chip_computes_with(encoding: Encoding) -> None:
    """With a chip's own fault maps, the weights read back are those of the chip's cells."""
    made = nn.Sequential(nn.Flatten(), nn.Linear(72, 9, bias=False))
    with torch.no_grad():
        weight(made, "1").copy_(torch.randn((9, 72), generator=torch.Generator().manual_seed(5)))
    broken = design(encoding, faults=StuckFaults(on=0.05, off=0.05))
    network = xb.map_model(made.eval(), broken, calibration=images())
    chip = network.fabricate(seed=11)
    injection = Injection(design=broken, faults=chip.faults)
    free = weight(made, "1").detach()
    got = injection.read_back(free, layer="1", index=0, step=0)
    layer = chip.layers["1"]
    matrix = network.layers["1"].matrix
    quantised = quantise(free.T.numpy(), bits=7)
    held = matrix.decode(layer.cells().astype(np.float64))
    wanted = free.numpy() + ((held - quantised.codes) * quantised.scale).T
    assert len(layer.faults) > 20
    np.testing.assert_allclose(got.numpy(), wanted, rtol=1e-6, atol=1e-6)
    # And that is what the chip answers, but for the rounding of activations and of weights to 7 bits.
    x = images(16)
    exact = x.flatten(1) @ torch.from_numpy((held * quantised.scale).astype(np.float32))
    torch.testing.assert_close(chip(x), exact, rtol=0.0, atol=0.02 * float(exact.abs().max()))


def test_dies_come_in_turn_or_never_again() -> None:
    broken = design(faults=StuckFaults(on=0.1, off=0.1))
    weights = torch.randn((6, 20), generator=torch.Generator().manual_seed(1))

    def seen(injection: Injection, step: int) -> Tensor:
        return injection.read_back(weights, layer="a", index=0, step=step)

    fixed = Injection(design=broken, dies=2, every=3)
    assert [fixed.die(step) for step in range(13)] == [0, 0, 0, 1, 1, 1, 0, 0, 0, 1, 1, 1, 0]
    assert torch.equal(seen(fixed, 0), seen(fixed, 7))
    assert not torch.equal(seen(fixed, 0), seen(fixed, 3))
    fresh = Injection(design=broken)
    assert [fresh.die(step) for step in range(4)] == [0, 1, 2, 3]
    assert len({seen(fresh, step).numpy().tobytes() for step in range(20)}) == 20
    assert torch.equal(seen(fresh, 4), seen(Injection(design=broken), 4))
    assert not torch.equal(seen(fresh, 4), seen(Injection(design=broken, seed=1), 4))
    other = fresh.read_back(weights, layer="b", index=1, step=4)
    assert not torch.equal(other, seen(fresh, 4))


def test_programming_errors_have_the_spread_of_the_cell() -> None:
    """One pair of cells a weight, 10 uS a level: a standard deviation of 1 uS each makes 0.1 sqrt(2) levels."""
    error = ProgrammingError(spread=Polynomial(coefficients=(1e-6,), scale=1.0), valid_from=0.0, valid_to=1e-3)
    cell = Cell(g_min=2e-5, g_max=9e-5, levels=8, programming_error=error)
    noisy = design(cell=cell, mapping=Mapping(rows=64, columns=64, weight_bits=4, cell_bits=3))
    weights = torch.full((40, 50), 7.0)
    found = Injection(design=noisy).read_back(weights, layer="a", index=0, step=0) - weights
    assert abs(float(found.mean())) < 4 * 0.1414 / 2000**0.5
    assert abs(float(found.std()) / 0.1414 - 1) < 4 / (2 * 2000) ** 0.5


def test_injection_acts_in_training_alone() -> None:
    made = model()
    hardening = Hardening(injection=Injection(design=design(faults=StuckFaults(on=0.2, off=0.0))), layers=("0", "4"))
    plain = model().eval()(images())
    hardening.start(made, 1)
    assert torch.equal(made.eval()(images()), plain)
    first = weight(made.train(), "0")
    again = weight(made, "0")
    assert torch.equal(first, again)
    assert not torch.equal(first, weight(model(), "0"))
    hardening.after_step()
    assert not torch.equal(weight(made, "0"), first)
    restored = Hardening(injection=hardening.injection, layers=("0", "4"))
    restored.load_state(hardening.state())
    other = model()
    restored.start(other, 1)
    assert torch.equal(weight(other.train(), "0"), weight(made, "0"))
    hardening.bake()
    assert torch.equal(made.eval()(images()), plain)


@given(seed=st.integers(0, 2**31), quantile=st.sampled_from([0.3, 0.9, 0.99, 1.0]), zeros=st.sampled_from([0.0, 0.7]))
def test_clipping_holds_all_beyond_a_share_of_an_output_at_the_largest_of_that_share(
    seed: int, quantile: float, zeros: float
) -> None:
    generator = torch.Generator().manual_seed(seed)
    free = torch.randn((5, 200), generator=generator) * (torch.rand((5, 200), generator=generator) >= zeros)
    free[3] = 0.0
    clipped = clip_weights(free, quantile)
    for before, after in zip(free, clipped, strict=True):
        used = before[before != 0].abs().sort().values
        limit = float(used[int(np.ceil(quantile * len(used) - 1e-9)) - 1]) if len(used) else 0.0
        assert torch.equal(after, before.clamp(-limit, limit))
    assert torch.equal(clip_weights(clipped, quantile), clipped)


def test_clipped_weights_are_trained_as_if_they_were_not() -> None:
    made = model()
    free = weight(made, "4").detach().clone()
    hardening = Hardening(layers=("0", "4"), clip=0.9)
    hardening.start(made, 1)
    hard = weight(made, "4")
    torch.testing.assert_close(hard.detach(), clip_weights(free, 0.9), rtol=1e-6, atol=0.0)
    assert int((hard.detach().abs() < free.abs() - 1e-6).sum()) == 5 * 9  # of 96 weights an output the largest 9
    made(images()).square().sum().backward()
    gradient = next(made[4].parametrizations.parameters()).grad  # type: ignore[union-attr]
    assert isinstance(gradient, Tensor)
    assert (gradient != 0).float().mean() > 0.5
    assert (gradient[hard.detach() != free] != 0).float().mean() > 0.5
    hardening.bake()
    torch.testing.assert_close(weight(made, "4"), clip_weights(free, 0.9), rtol=1e-6, atol=0.0)
    with pytest.raises(xb.InputError, match=r"clip must be .*1\.5"):
        Hardening(clip=1.5)


def test_lost_weights_resume_where_a_training_stopped() -> None:
    lost = LostWeights(rates=Rates(law="ramp", largest=0.5, ramp_steps=4), noise=0.1, seed=9)
    seen = []
    for resumed in (False, True):
        made, hardening = model(), Hardening(injection=lost, layers=("0", "4"))
        if resumed:
            hardening.load_state({"step": torch.tensor(3)})
        hardening.start(made, 1)
        for _ in range(0 if resumed else 3):
            hardening.after_step()
        seen.append((weight(made, "0").detach(), weight(made, "4").detach()))
    assert all(torch.equal(*pair) for pair in zip(*seen, strict=True))
    assert 0.2 < float((seen[0][1] == 0).float().mean()) < 0.55


def test_frozen_statistics_are_used_and_stay_as_they_were() -> None:
    made = model()
    frozen = FrozenStatistics(epoch=1)
    frozen.start(made, 2)
    norm = made[1]
    assert isinstance(norm, nn.BatchNorm2d)
    assert isinstance(norm.running_mean, Tensor)
    for epoch in (0, 1):
        before = norm.running_mean.clone()
        frozen.begin_epoch(epoch)
        made.train()
        frozen.begin_step(epoch)
        made(images())
        assert torch.equal(norm.running_mean, before) == (epoch == 1)
    assert made.training


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dies": 0}, r"dies must be an integer >= 1, got 0"),
        ({"every": 0}, r"every must be an integer >= 1, got 0"),
        ({"seed": -1}, r"seed must be an integer >= 0, got -1"),
        ({"design": "isaac"}, r"design must be .*Design, got 'isaac'"),
    ],
)
def test_bad_injections(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(xb.InputError, match=message):
        Injection(**{"design": design(), **arguments})


def test_bad_layers() -> None:
    made = model()
    with pytest.raises(xb.InputError, match="layers must be names of layers with a weight, got 'nothing'"):
        Hardening(levels={"nothing": Levels(bits=4)}).start(made, 1)
    with pytest.raises(xb.InputError, match=r"masks of layer '0' must have shape \(6, 2, 3, 3\), got \(6, 18\)"):
        Hardening(masks={"0": torch.ones((6, 18), dtype=torch.bool)}).start(made, 1)
    assert isinstance(weight(made, "0"), nn.Parameter)  # nothing was parametrized
    wrong = Injection(design=design(), faults={"a": FaultMap.empty((1, 2, 3))})
    with pytest.raises(xb.InputError, match=r"faults of layer 'a' must have shape .*, got \(1, 2, 3\)"):
        wrong.read_back(torch.ones((3, 3)), layer="a", index=0, step=0)
