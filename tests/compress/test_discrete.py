"""Weights that move between a few values: the law of their transitions, and trainings that keep to it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file
from scipy.stats import binomtest
from torch import nn

from tests.training.squares import Killed, Wandering, data, network, same
from xbarsim.compress import DiscreteStates, DiscreteTransitions, Hardening, Levels
from xbarsim.data import load_digits_split
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import quantise
from xbarsim.models import DiscreteActivation
from xbarsim.training import Proposal, Training, TrainingSet, train

ADAM = Training(
    epochs=4, batch=16, optimiser="adam", learning_rate=0.01, weight_decay=0.0, schedule="exponential", factor=0.01,
    device="cpu", seed=3,
)  # fmt: skip


def law(states: DiscreteStates, weight: float, step: float) -> dict[float, float]:
    """The probabilities of the values after a step, number by number as the formula has it."""
    size = 2 * states.limit / 2**states.exponent
    cut = min(states.limit - weight, step) if step >= 0 else max(-states.limit - weight, step)
    whole = math.trunc(cut / size)
    chance = math.tanh(states.steepness * abs(cut - whole * size) / size)
    sign = math.copysign(1, cut)
    found = {weight + whole * size: 1 - chance, weight + (whole + sign) * size: chance}
    return {round(value, 9): share for value, share in found.items() if share > 0}


def moved(states: DiscreteStates, weight: torch.Tensor, step: torch.Tensor, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return states.move(Proposal(weight, torch.zeros_like(weight), step, 0.1, generator))


@pytest.mark.parametrize("exponent", [0, 1, 2, 3])
def test_weights_move_as_often_as_the_law_says(exponent: int) -> None:
    """Exact binomial tests, each of a false-alarm rate of 1e-7; about 250 of them in all."""
    states = DiscreteStates(exponent=exponent, limit=0.75, steepness=2.0)
    draws = 4000
    for weight in states.values:
        for step in (-1.9, -0.5, -0.07, 0.0, 0.01, 0.3, 0.75, 1.2):
            share = law(states, weight, step * states.step)
            after = moved(
                states, torch.full((draws,), weight), torch.full((draws,), step * states.step), seed=17 + exponent
            )
            values, counts = np.unique(after.double().numpy().round(6), return_counts=True)
            seen = dict(zip(values.tolist(), counts.tolist(), strict=True))
            assert set(seen) <= {round(value, 6) for value in share}
            for value, chance in share.items():
                count = seen.get(round(value, 6), 0)
                assert binomtest(count, draws, min(chance, 1.0)).pvalue > 1e-7, (weight, step, value)


@given(
    exponent=st.integers(0, 5), limit=st.floats(0.01, 100), steepness=st.floats(0.01, 50), seed=st.integers(0, 2**32),
    size=st.floats(1e-6, 1e6),
)  # fmt: skip
def test_no_weight_leaves_the_values_or_turns_back(
    exponent: int, limit: float, steepness: float, seed: int, size: float
) -> None:
    states = DiscreteStates(exponent=exponent, limit=limit, steepness=steepness)
    generator = torch.Generator().manual_seed(seed)
    weight = states.spread(torch.randn(6, 7, generator=generator))
    step = size * states.step * torch.randn(6, 7, generator=generator)
    after = moved(states, weight, step, seed)
    assert torch.equal(states.nearest(after), after)
    assert np.isclose(after.numpy()[..., None], states.values, rtol=1e-6, atol=0).any(axis=-1).all()
    travelled = (after - weight) * step.sign()
    assert (travelled >= 0).all()
    assert (travelled <= step.abs() + states.step * (1 + 1e-4)).all()


@given(exponent=st.integers(0, 4), count=st.integers(1, 200), seed=st.integers(0, 99))
def test_weights_begin_spread_evenly_in_the_order_that_they_had(exponent: int, count: int, seed: int) -> None:
    states = DiscreteStates(exponent=exponent)
    free = torch.randn(count, generator=torch.Generator().manual_seed(seed))
    spread = states.spread(free)
    assert (spread[free.argsort()].diff() >= 0).all()
    counts = np.unique(spread.numpy(), return_counts=True)[1]
    assert len(counts) == min(count, 2**exponent + 1)
    assert counts.max() - counts.min() <= 1
    assert torch.equal(states.spread(spread), spread)
    assert torch.equal(states.nearest(spread), spread)


def test_the_values_are_those_of_the_paper() -> None:
    assert DiscreteStates(exponent=0, limit=2.0).values == (-2.0, 2.0)
    assert DiscreteStates().values == (-1.0, 0.0, 1.0)
    assert DiscreteStates(exponent=3).values == tuple(number / 4 - 1 for number in range(9))


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
def test_only_discrete_weights_are_stored_and_a_stopped_training_ends_with_the_same_bits(
    tmp_path: Path, optimiser: Any
) -> None:
    settings = Training(**{**vars(ADAM), "optimiser": optimiser})
    states = DiscreteStates(exponent=2)
    whole = network()
    train(whole, data(), settings, callbacks=(DiscreteTransitions(states), Wandering()))
    path = tmp_path / "run.safetensors"
    with pytest.raises(Killed):
        train(
            network(), data(), settings, callbacks=(DiscreteTransitions(states), Wandering(stop=2, middle=True)),
            checkpoint=path,
        )  # fmt: skip
    held = load_file(path)
    values = torch.tensor(states.values, dtype=torch.float32)
    shape = whole.get_submodule("0").weight.shape
    for name, tensor in held.items():
        if name.startswith(("model/0.weight", "model/6.weight")):
            assert torch.isin(tensor, values).all()
        elif tensor.shape == shape:  # what is left of the same size is the optimiser's, and no hidden weight
            assert name.startswith("optimiser/0.weight/")
    resumed = network()
    train(resumed, data(), settings, callbacks=(DiscreteTransitions(states), Wandering()), checkpoint=path)
    assert same(resumed, whole)
    assert torch.isin(weight(resumed, "6"), values).all()
    assert not torch.equal(weight(resumed, "6"), states.spread(weight(network(), "6")))
    with pytest.raises(InputError, match="written with another callbacks"):
        train(
            network(), data(), settings, callbacks=(DiscreteTransitions(DiscreteStates()), Wandering()), checkpoint=path
        )


def weight(made: nn.Module, name: str) -> torch.Tensor:
    found = made.get_submodule(name).weight
    assert isinstance(found, torch.Tensor)
    return found.detach()


def test_layers_that_are_not_named_are_trained_as_ever() -> None:
    trained = network()
    train(trained, data(), ADAM, callbacks=(DiscreteTransitions(DiscreteStates(), layers=("6",)),))
    assert len(np.unique(weight(trained, "0").numpy())) > 3
    assert set(weight(trained, "6").flatten().tolist()) <= {-1.0, 0.0, 1.0}


def digits() -> TrainingSet:
    split = load_digits_split()
    pixels = np.rint(split.train_images * 255).astype(np.uint8)
    return TrainingSet.split(
        "digits", pixels, split.train_labels, validation=400, mean=(0.0,), standard_deviation=(1.0,)
    )


def small(exponent: int = 1) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 64, bias=False), nn.BatchNorm1d(64), DiscreteActivation(exponent=exponent),
            nn.Linear(64, 10, bias=False), nn.BatchNorm1d(10),
        )  # fmt: skip


@pytest.mark.parametrize("way", [0, 1, 2, "straight through"])
def test_networks_of_discrete_weights_and_activations_learn(way: Any) -> None:
    """Digits of 8 x 8; chance is 10 %, and the perceptron of free weights has about 95 %."""
    made = small(1 if way == "straight through" else way)
    training = Training(
        epochs=12, batch=32, optimiser="adam", learning_rate=0.02, weight_decay=0.0, schedule="exponential",
        factor=0.01, device="cpu", seed=1,
    )  # fmt: skip
    if way == "straight through":
        hardening = Hardening(levels={name: Levels(bits=2, per="tensor", threshold=0.7) for name in ("1", "4")})
        history = train(made, digits(), training, callbacks=(hardening,))
        hardening.bake()
        for layer in ("1", "4"):
            matrix = weight(made, layer).numpy().T
            codes = quantise(matrix, bits=2, per="tensor")
            np.testing.assert_allclose(codes.dequantise(), matrix, rtol=1e-6)
            assert np.unique(codes.codes).tolist() == [-1, 0, 1]
    else:
        states = DiscreteStates(exponent=way)
        history = train(made, digits(), training, callbacks=(DiscreteTransitions(states, rate_factor=5.0),))
        assert set(weight(made, "1").flatten().tolist()) <= set(states.values)
    assert history.validation_accuracy[-1] > 0.8


# ------------------------------------------------------------------------------------ straight-through levels


@given(
    rows=st.integers(1, 6), columns=st.integers(1, 9), threshold=st.floats(0.05, 0.95), seed=st.integers(0, 999),
    per=st.sampled_from(["tensor", "output"]), masked=st.booleans(),
)  # fmt: skip
def test_a_threshold_gives_the_levels_of_ternary_weight_networks(
    rows: int, columns: int, threshold: float, seed: int, per: Any, masked: bool
) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, columns))
    mask = rng.random((rows, columns)) < 0.7 if masked else np.ones((rows, columns), bool)
    levels = Levels(bits=2, per=per, threshold=threshold)
    given_mask = torch.from_numpy(mask) if masked else None
    found = levels.project(torch.from_numpy(matrix), given_mask)
    wanted = np.zeros_like(matrix)
    for part in [slice(None)] if per == "tensor" else [slice(row, row + 1) for row in range(rows)]:
        values, kept = np.abs(matrix[part]), mask[part]
        if not kept.any():
            continue
        beyond = kept & (values > threshold * values[kept].mean())
        wanted[part] = np.where(beyond, np.sign(matrix[part]) * values[beyond].mean(), 0.0)
    np.testing.assert_allclose(found.numpy(), wanted, rtol=1e-12)
    if not masked:
        torch.testing.assert_close(levels.project(found), found, rtol=1e-12, atol=0.0)


def test_levels_without_a_threshold_are_written_as_before() -> None:
    assert repr(Levels(bits=4)) == "Levels(bits=4, zero=True, per='output')"
    assert repr(Levels(bits=2, threshold=0.7)) == "Levels(bits=2, zero=True, per='output', threshold=0.7)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DiscreteStates(exponent=-1), "exponent must be an integer >= 0 and <= 8, got -1"),
        (lambda: DiscreteStates(exponent=9), "exponent must be .* <= 8, got 9"),
        (lambda: DiscreteStates(limit=0.0), "limit must be a finite number > 0.0, got 0.0"),
        (lambda: DiscreteStates(steepness=math.inf), "steepness must be a finite number"),
        (lambda: DiscreteStates().nearest(torch.arange(3)), "weights must be floating-point numbers, got torch.int64"),
        (lambda: DiscreteTransitions(DiscreteStates(), rate_factor=0.0), "rate_factor must be .* > 0.0, got 0.0"),
        (lambda: DiscreteTransitions(DiscreteStates(), layers=()), r"layers must be .*, got \(\)"),
        (lambda: DiscreteTransitions(DiscreteStates(), layers="0"), "layers must be .* got '0'"),
        (
            lambda: DiscreteTransitions(DiscreteStates(), layers=("0", "head")).start(network(), 1),
            r"layers\[1\] must match a Linear, Conv1d or Conv2d layer, .* of Sequential \(0, 6\), got 'head'",
        ),
        (lambda: Levels(bits=3, threshold=0.7), "threshold must be None but for 2 bits with zero, got 0.7 with 3 bits"),
        (lambda: Levels(bits=2, zero=False, threshold=0.7), "got 0.7 with 2 bits without zero"),
        (lambda: Levels(bits=2, threshold=1.0), "threshold must be .* < 1.0, got 1.0"),
        (lambda: Levels(bits=2, threshold=0.7).project(torch.tensor([[math.nan]])), "matrix must be finite"),
    ],
)
def test_bad_values_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()
