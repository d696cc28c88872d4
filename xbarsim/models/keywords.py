"""The keyword network of the MLPerf Tiny benchmark."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional

from xbarsim.data import KEYWORDS, data_file
from xbarsim.foundation.archives import read_npz
from xbarsim.models.weights import fill

__all__ = ["KeywordNet", "load_keyword_net"]

_CHANNELS, _BLOCKS = 64, 4
_FRAMES, _COEFFICIENTS = 49, 10


class SeparableBlock(nn.Module):
    """A depthwise 3 x 3 convolution and a 1 x 1 one, each with ReLU; their batch norms are folded in."""

    def __init__(self) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, groups=_CHANNELS)
        self.pointwise = nn.Conv2d(_CHANNELS, _CHANNELS, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(utterances, 64, height, width) to the same shape."""
        return functional.relu(self.pointwise(functional.relu(self.depthwise(x))))


class KeywordNet(nn.Module):
    """A 10 x 4 convolution with stride 2, four separable blocks of 64 channels, a mean, and one linear layer.

    Input float32 (utterances, 49, 10), from :func:`xbarsim.data.load_keywords`; output (utterances, 12) logits. The
    padding of the first convolution is one-sided, as TensorFlow's "same" makes it.

    References
    ----------
    C. Banbury et al., MLPerf Tiny benchmark, 2021, https://arxiv.org/abs/2106.07597, after Y. Zhang et al., Hello
    edge: Keyword spotting on microcontrollers, 2017, https://arxiv.org/abs/1711.07128.
    """

    def __init__(self) -> None:
        super().__init__()
        self.pad = nn.ZeroPad2d((1, 1, 4, 5))
        self.stem = nn.Conv2d(1, _CHANNELS, (10, 4), stride=2)
        for number in range(_BLOCKS):
            self.add_module(f"block{number}", SeparableBlock())
        self.dense = nn.Linear(_CHANNELS, len(KEYWORDS))

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Logits (utterances, 12) of frames (utterances, 49, 10)."""
        x = functional.relu(self.stem(self.pad(frames.unsqueeze(1))))
        for number in range(_BLOCKS):
            x = self.get_submodule(f"block{number}")(x)
        logits: torch.Tensor = self.dense(x.mean(dim=(2, 3)))
        return logits


def load_keyword_net(path: str | os.PathLike[str] | None = None) -> KeywordNet:
    """Load MLPerf Tiny's reference network (90.1 % of the benchmark's 1,000 utterances), ready to evaluate.

    Parameters
    ----------
    path
        An npz file of its weights in torch's layout; ``None`` for the data folder's ``kws_mlperf_tiny/kws_dscnn.npz``.

    Raises
    ------
    FileNotFoundError
        If `path` is None and the data folder does not have the file.
    FileFormatError
        If the file is truncated or corrupt, or holds another network.

    References
    ----------
    mlcommons/tiny at 1afd2c98, benchmark/training/keyword_spotting/trained_models (Apache-2.0).
    """
    source = data_file("kws_mlperf_tiny", "kws_dscnn.npz") if path is None else Path(path)
    tensors = {name: torch.from_numpy(array) for name, array in read_npz(source, "network weights").items()}
    with torch.device("meta"):  # no random initial weights: the caller's random state stays as it is
        network = KeywordNet()
    fill(network, tensors, source=source)
    return network
