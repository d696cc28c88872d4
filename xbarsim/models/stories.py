"""Networks that answer questions about stories: a small transformer, ours, and sentences read one after the other."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_integer
from xbarsim.models.coded import load_coded

__all__ = ["STORY_WEIGHTS", "StoryNet", "StoryTransformer", "load_story_transformer"]

STORY_WEIGHTS = Path(__file__).with_name("story_transformer.safetensors")
"""The trained weights that are shipped here."""

_WORDS, _LENGTH, _ANSWERS = 22, 72, 6  # of bAbI's task 1
_WIDTH, _HEADS, _FEED_FORWARD, _LAYERS = 64, 4, 128, 2


class StoryTransformer(nn.Module):
    """Embeddings of words and positions, two layers of :class:`torch.nn.TransformerEncoderLayer`, one linear layer.

    What stands at the place of the last word, the question mark, is classified. Layer norms stand before attention and
    feed-forward networks, and one stands behind the last layer.

    Input: numbers of words, (questions, 72), of any type, from :func:`xbarsim.data.load_babi` for task 1; output
    (questions, 6) logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(_WORDS, _WIDTH)
        self.positions = nn.Embedding(_LENGTH, _WIDTH)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                _WIDTH, _HEADS, _FEED_FORWARD, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(_LAYERS)
        )
        self.normalisation = nn.LayerNorm(_WIDTH)
        self.classifier = nn.Linear(_WIDTH, _ANSWERS)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits (questions, 6) of numbers of words (questions, 72)."""
        x = self.words(tokens.long()) + self.positions.weight
        for layer in self.layers:
            x = layer(x)
        logits: torch.Tensor = self.classifier(self.normalisation(x[:, -1]))
        return logits


def load_story_transformer(path: str | os.PathLike[str] | None = None) -> StoryTransformer:
    """Load `StoryTransformer` trained on bAbI's task 1, ready to evaluate.

    Parameters
    ----------
    path
        A file of :func:`save_coded`; ``None`` for the weights shipped here, trained by
        ``python -m xbarsim.experiments.fits.train_networks``.

    Raises
    ------
    FileFormatError
        If the file is truncated or corrupt, or holds another network.
    """
    with torch.device("meta"):  # no random initial weights: the caller's random state stays as it is
        network = StoryTransformer()
    load_coded(STORY_WEIGHTS if path is None else path, network)
    return network


def _position_weights(words: int, width: int) -> torch.Tensor:
    """Weights of the words of a sentence in its sum, shape (words, width): by the place of a word and the component.

    With j of J words and k of d components, from 1: ``(1 - j / J) - (k / d) (1 - 2 j / J)``.
    """
    place = torch.arange(1, words + 1)[:, None] / words
    component = torch.arange(1, width + 1) / width
    return (1 - place) - component * (1 - 2 * place)


class StoryNet(nn.Module):
    """A story read sentence by sentence, or word by word, the question last, by any network of sequences.

    A sentence is the sum of its words' embeddings, weighted by their places, so that it is known who did what to whom
    ("position encoding"). The embedding of number 0, which fills up sentences and stories, is 0 and stays 0: empty
    sentences before a story are steps without input, which change nothing where a reader without input stays at rest
    (neurons that send 0 at 0, or gates, both without bias).

    Input: numbers of words, (questions, sentences, words), of any type, from
    :meth:`xbarsim.data.StoryQuestions.sentences`; or (questions, words), as :func:`xbarsim.data.load_babi` has them,
    where words are read one by one. Output (questions, answers) logits.

    Parameters
    ----------
    reader
        From sentences (questions, sentences, `width`) to logits, such as :class:`SequenceNet` with ``last=True``.
    vocabulary
        Words there are, the padding included.
    words
        Of a sentence; ``None`` where words are read one by one.
    width
        Of an embedding.

    Raises
    ------
    InputError
        If an argument is out of bounds.

    References
    ----------
    S. Sukhbaatar et al., End-To-End Memory Networks, NIPS 2015, section 4.1, arXiv:1503.08895.
    """

    positions: torch.Tensor | None

    @entrance
    def __init__(self, reader: nn.Module, *, vocabulary: int, words: int | None, width: int = 50) -> None:
        super().__init__()
        width = check_integer("width", width, at_least=1)
        self.words = nn.Embedding(check_integer("vocabulary", vocabulary, at_least=2), width, padding_idx=0)
        weights = None if words is None else _position_weights(check_integer("words", words, at_least=1), width)
        self.register_buffer("positions", weights, persistent=False)  # follows from the shape
        self.reader = reader

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Logits (questions, answers) of numbers of words."""
        read: torch.Tensor = self.words(tokens.long())
        if self.positions is not None:
            read = (read * self.positions).sum(dim=2)
        logits: torch.Tensor = self.reader(read)
        return logits
