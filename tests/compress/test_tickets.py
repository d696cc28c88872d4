"""Lottery tickets: masks by hand, rewinding, and the five conditions, case by case."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from xbarsim.compress import TicketArms, find_tickets, kept_count, magnitude_masks, ticket
from xbarsim.foundation.validation import InputError
from xbarsim.training import Training, TrainingSet


def data() -> TrainingSet:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 200)
    pixels = rng.integers(0, 120, (200, 1, 4, 5)) + 100 * (np.arange(20) % 4 == labels[:, None]).reshape(200, 1, 4, 5)
    return TrainingSet.split(
        "stripes", pixels.astype(np.uint8), labels, validation=40, mean=(0.3,), standard_deviation=(0.2,)
    )


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        return nn.Sequential(nn.Flatten(), nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 4))


TRAINING = Training(epochs=3, batch=16, learning_rate=0.05, device="cpu", seed=2)


def test_the_largest_weights_of_the_whole_network_stay() -> None:
    model = network()
    masks = magnitude_masks(model, 0.3)
    weights = {name: model.get_submodule(name).weight.detach() for name in masks}  # type: ignore[operator]
    kept = torch.cat([weights[name][mask].abs() for name, mask in masks.items()])
    gone = torch.cat([weights[name][~mask].abs() for name, mask in masks.items()])
    assert len(kept) == kept_count(0.3, 160 + 32)
    assert kept.min() >= gone.max()
    fewer = magnitude_masks(model, 0.5, among=masks)
    assert sum(int(mask.sum()) for mask in fewer.values()) == kept_count(0.5, len(kept))
    assert all(not (fewer[name] & ~masks[name]).any() for name in masks)
    assert magnitude_masks(model, 0.5, layers=("3",)).keys() == {"3"}


def test_every_round_takes_its_share_and_begins_with_the_weights_of_old(tmp_path: Path) -> None:
    model = network()
    found = find_tickets(model, data(), TRAINING, rounds=3, share=0.25, folder=tmp_path, progress=False)
    left = 192
    for masks, sparsity in zip(found.masks, found.sparsities, strict=True):
        left = kept_count(0.75, left)
        assert sum(int(mask.sum()) for mask in masks.values()) == left
        assert sparsity == pytest.approx(1 - left / 192)
    for later, earlier in zip(found.masks[1:], found.masks[:-1], strict=True):
        assert all(not (later[name] & ~earlier[name]).any() for name in later)
    assert len(found.accuracies) == 3
    for name, tensor in found.initial.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])
    assert torch.equal(found.masks[0]["1"], magnitude_masks(found.dense, 0.75)["1"])
    again = find_tickets(network(), data(), TRAINING, rounds=3, share=0.25, folder=tmp_path, progress=False)
    assert all(torch.equal(found.masks[2][name], again.masks[2][name]) for name in ("1", "3"))


def test_rewinding_goes_back_to_an_epoch_of_the_dense_training() -> None:
    found = find_tickets(network(), data(), TRAINING, rounds=1, rewind=2, progress=False)
    short = find_tickets(network(), data(), TRAINING, rounds=1, progress=False)
    assert not torch.equal(found.initial.state_dict()["1.weight"], network().state_dict()["1.weight"])
    assert not torch.equal(found.initial.state_dict()["1.weight"], found.dense.state_dict()["1.weight"])
    assert torch.equal(found.dense.state_dict()["1.weight"], short.dense.state_dict()["1.weight"])


def arms(
    dense: float = 0.9,
    found: float = 0.9,
    random: float = 0.85,
    small: float = 0.85,
    sparsity: float = 0.9,
    spread: float = 0.0005,
    best_dense: float | None = None,
) -> TicketArms:
    def seeds(mean: float) -> tuple[float, ...]:
        return (mean - spread, mean, mean + spread)

    return TicketArms(
        sparsity=sparsity,
        dense={0.01: seeds(dense), 0.1: seeds(dense if best_dense is None else best_dense)},
        ticket={0.01: seeds(found), 0.1: seeds(found - 0.05)},
        random={0.01: seeds(random - 0.1), 0.1: seeds(random)},
        small={0.01: seeds(small)},
    )


@pytest.mark.parametrize(
    ("given", "kind", "holds"),
    [
        (arms(), "jackpot", (True, True, True, True, True)),
        (arms(best_dense=0.92), "secondary", (True, True, True, True, False)),
        (arms(random=0.896), "none", (True, True, False, True, True)),  # at whichever rate it learns best
        (arms(small=0.897), "none", (True, False, True, True, True)),
        (arms(sparsity=0.3), "none", (False, True, True, True, True)),
        (arms(found=0.89), "none", (True, True, True, False, False)),
        (arms(found=0.895), "jackpot", (True, True, True, True, True)),  # the bound itself is similar
        (arms(random=0.895), "none", (True, True, False, True, True)),  # and not a clear gap
    ],
)
def test_the_five_conditions(given: TicketArms, kind: str, holds: tuple[bool, ...]) -> None:
    verdict = ticket(given)
    assert tuple(each.holds for each in verdict.conditions) == holds
    assert verdict.kind == kind
    assert f"ticket: {kind}" in str(verdict)


def test_what_the_paper_says_of_resnet20() -> None:
    """X. Ma et al., NeurIPS 2021: 88.0, 87.1 and 80.3 % at a rate of 0.005; 92.4 % at 0.1."""
    verdict = ticket(
        TicketArms(
            sparsity=0.914,
            dense={0.005: (0.880,), 0.1: (0.924,)},
            ticket={0.005: (0.871,), 0.1: (0.873,)},
            random={0.005: (0.803,)},
            small={0.1: (0.80,)},
        )
    )
    assert not verdict.conditions[4].holds
    assert not verdict.certain  # one seed each


def test_a_verdict_is_certain_where_all_intervals_say_the_same() -> None:
    assert ticket(arms(found=0.905, spread=0.0005)).certain
    wide = ticket(arms(found=0.905, spread=0.03))
    assert not wide.certain
    assert wide.kind == "jackpot"
    assert "(not certain)" in str(wide)
    low, high = wide.conditions[1].low, wide.conditions[1].high
    assert low is not None
    assert high is not None
    assert low < 0.005 < high


def test_bad_input() -> None:
    with pytest.raises(InputError, match="rounds must be an integer >= 1, got 0"):
        find_tickets(network(), data(), TRAINING, rounds=0)
    with pytest.raises(InputError, match="rewind must be an integer >= 0 and <= 2, got 3"):
        find_tickets(network(), data(), TRAINING, rounds=1, rewind=3)
    with pytest.raises(InputError, match="layers must be among 1, 3, got 'a'"):
        find_tickets(network(), data(), TRAINING, rounds=1, layers=("a",))
    with pytest.raises(InputError, match="dense and ticket must have a learning rate in common"):
        TicketArms(sparsity=0.9, dense={0.1: (0.9,)}, ticket={0.2: (0.9,)}, random={0.1: (0.9,)}, small={0.1: (0.9,)})
    with pytest.raises(InputError, match=r"small\[0\.1\] must be .* <= 1\.0, got 90"):
        TicketArms(sparsity=0.9, dense={0.1: (0.9,)}, ticket={0.1: (0.9,)}, random={0.1: (0.9,)}, small={0.1: (90,)})
