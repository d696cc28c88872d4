"""Networks of sequences: recurrent ones for spoken digits, a transformer for stories, a depthwise one for keywords."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from xbarsim.data import load_babi, load_keywords, spoken_digit_features
from xbarsim.experiments.fits.train_networks import round_weights
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.models import (
    STORY_WEIGHTS,
    KeywordNet,
    RecurrentCell,
    SpokenDigitsNet,
    StoryTransformer,
    load_keyword_net,
    load_spoken_digits_net,
    load_story_transformer,
    read_card,
    save_coded,
    spoken_digits_weights,
)

CELLS: tuple[RecurrentCell, ...] = ("lstm", "gru")


def right(network: nn.Module, inputs: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> int:
    """How many the network puts into the right class."""
    assert not network.training
    with torch.inference_mode():
        return int((network(torch.from_numpy(inputs)).argmax(dim=1).numpy() == labels).sum())


def or_skip(load: Callable[[], Any]) -> Any:
    try:
        return load()
    except FileNotFoundError as error:
        pytest.skip(str(error))


# --- stored weights


@pytest.mark.data
@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_networks_have_the_accuracy_that_their_files_state(cell: RecurrentCell) -> None:
    features, labels, _ = or_skip(lambda: spoken_digit_features("test"))
    card = read_card(spoken_digits_weights(cell))
    assert card["test_samples"] == len(labels) == 300
    found = right(load_spoken_digits_net(cell), features, labels)
    assert found / 300 == pytest.approx(card["accuracy_float32"], abs=1 / 300)  # other processors round otherwise
    assert found / 300 > 0.85


@pytest.mark.data
def test_the_transformer_has_the_accuracy_that_its_file_states() -> None:
    stories = or_skip(lambda: load_babi("test"))
    card = read_card(STORY_WEIGHTS)
    assert card["test_samples"] == len(stories.labels) == 1000
    found = right(load_story_transformer(), stories.tokens, stories.labels)
    assert found / 1000 == pytest.approx(card["accuracy_float32"], abs=1 / 1000)


@pytest.mark.data
def test_the_keyword_network_has_its_published_accuracy() -> None:
    features, labels = or_skip(load_keywords)
    network = or_skip(load_keyword_net)
    assert sum(item.numel() for item in network.parameters()) == 22_604
    assert right(network, features, labels) == pytest.approx(901, abs=1)  # 90.1 % of 1,000


def test_stored_weights_are_small_and_loading_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    stored: list[tuple[nn.Module, Path]] = [(load_story_transformer(), STORY_WEIGHTS)]
    stored += [(load_spoken_digits_net(cell), spoken_digits_weights(cell)) for cell in CELLS]
    for network, path in stored:
        assert path.stat().st_size < 400_000
        assert not network.training
        assert all(torch.isfinite(item).all() for item in network.parameters())
    assert torch.equal(torch.get_rng_state(), before)


# --- what they compute


@pytest.mark.parametrize("cell", CELLS)
def test_recurrent_networks_follow_their_equations(cell: RecurrentCell) -> None:
    """Frame by frame in NumPy, with torch's order of gates."""
    torch.manual_seed(4)
    network = SpokenDigitsNet(cell).eval()
    frames = np.random.default_rng(2).random((3, 9, 24))
    parts = {name: item.detach().double().numpy() for name, item in network.named_parameters()}
    w, u, b, c = (parts[f"recurrent.{name}_l0"] for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))

    def sigmoid(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(1 / (1 + np.exp(-x)))

    state, memory, total = np.zeros((3, 64)), np.zeros((3, 64)), np.zeros((3, 64))
    for time in range(9):
        inner, outer = frames[:, time] @ w.T + b, state @ u.T + c
        if cell == "lstm":
            i, f, g, o = np.split(inner + outer, 4, axis=1)
            memory = sigmoid(f) * memory + sigmoid(i) * np.tanh(g)
            state = sigmoid(o) * np.tanh(memory)
        else:
            (r, z, n), (r_state, z_state, n_state) = (np.split(each, 3, axis=1) for each in (inner, outer))
            update = sigmoid(z + z_state)
            state = (1 - update) * np.tanh(n + sigmoid(r + r_state) * n_state) + update * state
        total += state
    expected = total / 9 @ parts["classifier.weight"].T + parts["classifier.bias"]
    with torch.inference_mode():
        found = network(torch.from_numpy(frames).float()).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_the_transformer_reads_numbers_of_words_of_any_type() -> None:
    torch.manual_seed(6)
    network = StoryTransformer().eval()
    tokens = torch.randint(22, (4, 72))
    with torch.inference_mode():
        logits = network(tokens)
        assert logits.shape == (4, 6)
        assert torch.equal(network(tokens.float()), logits)
        alone = torch.cat([network(row[None]) for row in tokens])
    torch.testing.assert_close(alone, logits, rtol=1e-4, atol=1e-5)
    # One way or the other through torch: the fused kernel of evaluation, or module by module.
    torch.testing.assert_close(network(tokens).detach(), logits, rtol=1e-4, atol=1e-4)


def test_the_padding_of_the_keyword_network_is_that_of_tensorflow() -> None:
    """Its "same": output size ceil(size / stride), and the odd row or column of padding behind."""
    network = KeywordNet().eval()
    seen: list[tuple[int, ...]] = []
    network.stem.register_forward_hook(lambda module, arguments, output: seen.append(tuple(output.shape)))
    with torch.inference_mode():
        assert network(torch.zeros(2, 49, 10)).shape == (2, 12)
    assert seen == [(2, 64, -(-49 // 2), -(-10 // 2))]
    for size, kernel, before, behind in ((49, 10, 4, 5), (10, 4, 1, 1)):
        total = (-(-size // 2) - 1) * 2 + kernel - size
        assert (before, behind) == (total // 2, total - total // 2)
    assert network.pad.padding == (1, 1, 4, 5)


# --- files


def test_a_file_of_another_network_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    torch.manual_seed(1)
    network = SpokenDigitsNet("gru")
    round_weights(network)
    save_coded(path, network, bits=8, about={"network": "gru"})
    assert isinstance(load_spoken_digits_net("gru", path).recurrent, nn.GRU)
    with pytest.raises(FileFormatError, match=r"other\.safetensors"):
        load_spoken_digits_net("lstm", path)
    with pytest.raises(FileFormatError, match=r"other\.safetensors"):
        load_story_transformer(path)


def test_cells_are_checked() -> None:
    uses: tuple[Callable[[Any], object], ...] = (SpokenDigitsNet, load_spoken_digits_net, spoken_digits_weights)
    for use in uses:
        with pytest.raises(InputError, match="cell must be one of 'lstm', 'gru', got 'rnn'"):
            use("rnn")


@pytest.mark.parametrize("content", [b"", b"PK\x05\x06", b"no archive"])
def test_weights_of_keywords_must_be_an_archive(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.npz"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"net\.npz is not a valid npz file"):
        load_keyword_net(path)


def test_weights_of_keywords_must_fit_and_hold_no_objects(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    state = {name: item.numpy() for name, item in KeywordNet().state_dict().items()}
    np.savez(path, **state)
    load_keyword_net(path)
    np.savez(path, **{**state, "dense.bias": np.zeros(3, np.float32)})
    with pytest.raises(FileFormatError, match=r"dense\.bias must be torch\.float32 of shape \(12,\)"):
        load_keyword_net(path)
    stream = io.BytesIO()
    np.savez(stream, **{**state, "dense.bias": np.array([Path()], dtype=object)})
    path.write_bytes(stream.getvalue())
    with pytest.raises(FileFormatError, match=r"net\.npz is not a valid npz file"):
        load_keyword_net(path)
