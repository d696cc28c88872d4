"""Settings of a training: files, bounds, and the learning rate over time."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.training import Training

few = settings(deadline=None, max_examples=40)


def test_settings_survive_a_file(tmp_path: Path) -> None:
    training = Training(
        epochs=7,
        batch=3,
        optimiser="adamw",
        learning_rate=1e-3,
        momentum=0.8,
        weight_decay=0.1,
        schedule="step",
        milestones=(2, 5.5),
        factor=0.3,
        warm_up=1,
        label_smoothing=0.1,
        augmentation="affine",
        precision="bfloat16",
        channels_last=True,
        device="cpu",
        select="best",
        seed=2**40,
    )
    training.save(tmp_path / "a.toml")
    assert Training.load(tmp_path / "a.toml") == training
    assert training.milestones == (2.0, 5.5)
    (tmp_path / "b.toml").write_text("epochs = 3\nlearning_rates = 1\n")
    with pytest.raises(FileFormatError, match="no key 'learning_rates'"):
        Training.load(tmp_path / "b.toml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": 0}, "epochs must be an integer >= 1 and <= 1000000000, got 0"),
        ({"batch": 1.5}, r"batch must be an integer >= 1 and <= 1099511627776, got 1\.5"),
        ({"optimiser": "lion"}, "optimiser must be one of 'sgd', 'adam', 'adamw', got 'lion'"),
        ({"learning_rate": 0}, "learning_rate must be a finite number > 0.0, got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be a finite number"),
        ({"momentum": 1.0}, r"momentum must be .* < 1\.0, got 1\.0"),
        ({"weight_decay": -1e-4}, "weight_decay must be .* >= 0.0, got -0.0001"),
        ({"schedule": "linear"}, "schedule must be one of 'cosine', 'step', 'exponential', 'constant'"),
        ({"schedule": "step"}, "milestones go with schedule 'step', and may with 'cosine', got .* with 'step'"),
        ({"schedule": "constant", "milestones": (2,)}, r"milestones go with .*, got \(2.0,\) with 'constant'"),
        ({"warm_up": 2, "milestones": (2,)}, r"milestones of 'cosine' must be above 2 \(warm_up\), got 2"),
        ({"schedule": "step", "milestones": (2, 2)}, "milestones must ascend"),
        ({"schedule": "step", "milestones": (3, 2)}, "milestones must ascend"),
        ({"schedule": "step", "milestones": (5,)}, "milestones must be .* < 5.0, got 5.0"),
        ({"schedule": "step", "milestones": [2]}, "milestones must be of type tuple"),
        ({"factor": 1.0}, "factor must be .* < 1.0"),
        ({"warm_up": 5}, "warm_up must be .* < 5.0, got 5.0"),
        ({"label_smoothing": 1}, "label_smoothing must be .* < 1.0"),
        ({"augmentation": "mirror"}, "augmentation must be one of 'none', 'crop-flip', 'shift', 'affine'"),
        ({"precision": "float16"}, "precision must be one of 'float32', 'bfloat16'"),
        ({"channels_last": 1}, "channels_last must be of type bool"),
        ({"device": "tpu"}, "device must be one of 'cpu', 'cuda', 'auto'"),
        ({"select": "first"}, "select must be one of 'last', 'best'"),
        ({"seed": -1}, "seed must be an integer >= 0, got -1"),
    ],
)
def test_settings_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Training(**{"epochs": 5, **changes})


@few
@given(
    st.integers(2, 50), st.floats(0, 1), st.floats(0, 1), st.sampled_from(["cosine", "constant", "step", "exponential"])
)
def test_learning_rate_over_time(epochs: int, share: float, time: float, schedule: Any) -> None:
    warm_up = share * epochs * 0.9
    milestones = (epochs / 2,) if schedule == "step" else ()
    training = Training(
        epochs=epochs, learning_rate=0.4, warm_up=warm_up, schedule=schedule, milestones=milestones, factor=0.25
    )
    now = time * epochs
    if now < warm_up:
        wanted = 0.4 * now / warm_up
    elif schedule == "cosine":
        wanted = 0.4 * math.cos(math.pi / 2 * (now - warm_up) / (epochs - warm_up)) ** 2
    elif schedule == "exponential":
        wanted = 0.4 * 0.25 ** ((now - warm_up) / (epochs - warm_up))
    else:
        wanted = 0.1 if milestones and now >= epochs / 2 else 0.4
    assert training.rate(now) == pytest.approx(wanted, abs=1e-12)


def test_a_cosine_begins_anew_at_every_milestone() -> None:
    plain = Training(epochs=4, learning_rate=0.2)
    restarted = Training(epochs=12, learning_rate=0.2, milestones=(4, 8))
    for part in (0, 4, 8):
        for epoch in (0, 0.5, 1, 2, 3.75):
            assert restarted.rate(part + epoch) == pytest.approx(plain.rate(epoch), abs=1e-15)
    assert restarted.rate(12) == pytest.approx(0.0, abs=1e-15)
    uneven = Training(epochs=10, learning_rate=0.2, warm_up=1, milestones=(3,))
    assert uneven.rate(0.5) == pytest.approx(0.1)
    assert uneven.rate(2) == pytest.approx(0.1)
    assert uneven.rate(3) == pytest.approx(0.2)
    assert uneven.rate(6.5) == pytest.approx(0.1)
