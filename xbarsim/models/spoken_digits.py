"""Recurrent networks for spoken digits, ours."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import nn

from xbarsim.data import SPOKEN_DIGITS_SHAPE
from xbarsim.foundation.validation import check_choice
from xbarsim.models.coded import load_coded

__all__ = ["RecurrentCell", "SpokenDigitsNet", "load_spoken_digits_net", "spoken_digits_weights"]

#: The recurrent layer of a network.
RecurrentCell = Literal["lstm", "gru"]
_HIDDEN = 64


class SpokenDigitsNet(nn.Module):
    """One recurrent layer of 64 units over the frames of a word, the mean of its outputs, and one linear layer.

    Input float32 (recordings, 64, 24) in [0, 1], from :func:`xbarsim.data.spoken_digit_features`; output (recordings,
    10) logits.

    Parameters
    ----------
    cell
        ``"lstm"`` or ``"gru"``.

    Raises
    ------
    InputError
        If `cell` is neither.
    """

    def __init__(self, cell: RecurrentCell) -> None:
        super().__init__()
        kind = {"lstm": nn.LSTM, "gru": nn.GRU}[check_choice("cell", cell, get_args(RecurrentCell))]
        self.recurrent = kind(SPOKEN_DIGITS_SHAPE[1], _HIDDEN, batch_first=True)
        self.classifier = nn.Linear(_HIDDEN, 10)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Logits (recordings, 10) of frames (recordings, time, 24)."""
        outputs, _ = self.recurrent(frames)
        logits: torch.Tensor = self.classifier(outputs.mean(dim=1))
        return logits


def spoken_digits_weights(cell: RecurrentCell) -> Path:
    """The file with the trained weights of a cell that is shipped here."""
    return Path(__file__).with_name(f"spoken_digits_{check_choice('cell', cell, get_args(RecurrentCell))}.safetensors")


def load_spoken_digits_net(cell: RecurrentCell, path: str | os.PathLike[str] | None = None) -> SpokenDigitsNet:
    """Load `SpokenDigitsNet` with trained weights, ready to evaluate.

    Parameters
    ----------
    cell
        ``"lstm"`` or ``"gru"``.
    path
        A file of :func:`save_coded`; ``None`` for the weights shipped here, trained by
        ``python -m xbarsim.experiments.fits.train_networks``.

    Raises
    ------
    FileFormatError
        If the file is truncated or corrupt, or holds another network.
    InputError
        If `cell` is neither.
    """
    source = spoken_digits_weights(cell) if path is None else Path(path)
    with torch.device("meta"):  # no random initial weights: the caller's random state stays as it is
        network = SpokenDigitsNet(cell)
    load_coded(source, network)
    network.recurrent.flatten_parameters()
    return network
