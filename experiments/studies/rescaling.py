"""What rescaling channels with outliers buys a transformer whose inputs become few bits.

``python -m xbarsim.experiments.studies.rescaling`` measures the two-layer transformer of bAbI's task 1 on an ideal chip
with inputs of 4 to 8 bits, with and without :class:`xbarsim.network.Rescale`: as it was trained, and with outliers as
large language models have them. These are put in by hand, without changing what the network computes: in each norm
before attention or a feed-forward network one channel in sixteen gets a gain 32 times as large, and the weights behind
it become 32 times smaller.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import typer
from torch import nn

import xbarsim as xb
from xbarsim.data import load_babi
from xbarsim.devices import Cell
from xbarsim.experiments.folders import FIGURES
from xbarsim.foundation.intervals import share_interval
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import write_atomically
from xbarsim.models import load_story_transformer
from xbarsim.network import ClippingWarning, NotMappedWarning, Rescale
from xbarsim.plot import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BITS", "Row", "main", "measure", "picture", "with_outliers"]

BITS = (4, 5, 6, 7, 8)
_FACTOR, _EVERY = 32.0, 16
_CALIBRATION = 128


@dataclass(frozen=True, kw_only=True)
class Row:
    """One accuracy.

    Attributes
    ----------
    outliers
        Whether outliers were put in.
    strength
        Of the rescaling; ``None`` for none.
    input_bits, samples
        Bits of inputs, and test questions.
    accuracy, low, high
        Share answered right, and its 95 % interval (Clopper-Pearson) on questions like these.
    """

    outliers: bool
    strength: float | None
    input_bits: int
    samples: int
    accuracy: float
    low: float
    high: float


def with_outliers(model: nn.Module) -> nn.Module:
    """A copy that computes the same, with some channels in front of its products 32 times as large.

    Parameters
    ----------
    model
        With transformer layers whose norms stand before attention and feed-forward networks.
    """
    made: nn.Module = copy.deepcopy(model)
    with torch.no_grad():
        for layer in made.modules():
            if not isinstance(layer, nn.TransformerEncoderLayer):
                continue
            for norm, weight in (
                (layer.norm1, layer.self_attn.in_proj_weight),
                (layer.norm2, layer.linear1.weight),
            ):
                norm.weight[::_EVERY] *= _FACTOR
                norm.bias[::_EVERY] *= _FACTOR
                weight[:, ::_EVERY] /= _FACTOR
    return made


def measure(samples: int = 1000, *, strengths: Sequence[float | None] = (None, 0.5)) -> list[Row]:
    """Measure every combination.

    Parameters
    ----------
    samples
        Test questions, from the first.
    strengths
        Of the rescaling.
    """
    test, train = load_babi("test"), load_babi("train")
    tokens, labels = test.tokens[:samples].astype(np.int64), test.labels[:samples]
    calibration = train.tokens[:_CALIBRATION].astype(np.int64)
    plain = load_story_transformer()
    rows = []
    for outliers, model in ((False, plain), (True, with_outliers(plain))):
        for strength in strengths:
            for bits in BITS:
                correct = _correct(model, bits, strength, calibration, tokens, labels)
                interval = share_interval(correct, len(labels))
                rows.append(
                    Row(
                        outliers=outliers,
                        strength=strength,
                        input_bits=bits,
                        samples=len(labels),
                        accuracy=interval.estimate,
                        low=interval.low,
                        high=interval.high,
                    )
                )
    return rows


def _correct(model: nn.Module, bits: int, strength: float | None, calibration: Any, tokens: Any, labels: Any) -> int:
    design = xb.Design(
        cell=Cell.load("wan2022").without_errors(),
        mapping=xb.Mapping(rows=128, columns=128, weight_bits=8, cell_bits=4),
        periphery=xb.Periphery(input_bits=bits, dac_bits=bits),
    )
    rescale = None if strength is None else Rescale(strength=strength)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotMappedWarning)
        warnings.simplefilter("ignore", ClippingWarning)
        network = xb.map_model(model, design, calibration=calibration, rescale=rescale)
        return xb.evaluate(network.fabricate(seed=0), tokens, labels, progress=False).correct


def picture(rows: Sequence[Row]) -> Figure:
    """Accuracy against the bits of inputs, with and without outliers and rescaling."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.0), layout="constrained", dpi=150)
    axes = figure.subplots()
    for outliers, colour in ((False, "#0072B2"), (True, "#D55E00")):
        for strength, line in ((None, "--"), (0.5, "-")):
            shown = [row for row in rows if (row.outliers, row.strength) == (outliers, strength)]
            bits = [row.input_bits for row in shown]
            label = f"{'with outliers' if outliers else 'as trained'}, {'plain' if strength is None else 'rescaled'}"
            axes.plot(bits, [100 * row.accuracy for row in shown], line, color=colour, marker="o", label=label)
            low, high = [100 * row.low for row in shown], [100 * row.high for row in shown]
            axes.fill_between(bits, low, high, color=colour, alpha=0.12, linewidth=0)
    axes.set_xticks(BITS)
    axes.set_xlabel("bits of inputs")
    axes.set_ylabel("questions answered right (%)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.9", linewidth=0.8)
    axes.legend(frameon=False, fontsize=9)
    return figure


def main(samples: Annotated[int, typer.Option(help="Test questions.", min=1)] = 1000) -> None:
    """Measure, and write the table and the picture."""
    rows = measure(samples)
    write_atomically(FIGURES / "rescaling.csv", csv_bytes([asdict(row) for row in rows]))
    save_figure(picture(rows), FIGURES / "rescaling.png")
    print(
        format_table(
            ("outliers", "strength", "bits", "accuracy (%)", "95 % interval"),
            [
                (
                    "yes" if row.outliers else "no",
                    "-" if row.strength is None else row.strength,
                    row.input_bits,
                    f"{100 * row.accuracy:.1f}",
                    f"{100 * row.low:.1f} to {100 * row.high:.1f}",
                )
                for row in rows
            ],
        )
    )


if __name__ == "__main__":
    typer.run(main)
