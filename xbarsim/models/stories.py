"""A small transformer that answers questions about stories, ours."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn

from xbarsim.models.coded import load_coded

__all__ = ["STORY_WEIGHTS", "StoryTransformer", "load_story_transformer"]

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
