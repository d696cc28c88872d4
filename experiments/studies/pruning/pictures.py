"""Tables and pictures of the study."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xbarsim.foundation.intervals import FewDiesWarning, mean_interval
from xbarsim.foundation.tables import format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["accuracy_picture", "accuracy_table", "equal_accuracy_picture", "equal_accuracy_table", "seeds_picture"]

# of each structure in words, and its colour; of each method, its marker and line
_STRUCTURES = {
    "unstructured": ("single weights", "#444444"),
    "bcr": ("block columns and rows", "#0072B2"),
    "columns": ("columns", "#D55E00"),
    "columns-filters": ("columns and filters", "#CC79A7"),
    "shapes": ("kernel shapes", "#009E73"),
    "rigid": ("rigid kernel shapes", "#8C510A"),
}
_METHODS = {
    "admm": ("ADMM", "o", "-"),
    "magnitude": ("magnitude", "v", ":"),
    "gradual": ("gradual magnitude", "v", "-."),
    "gap": ("grow and prune", "s", "-"),
    "gap-parallel": ("grow and prune, parallel", "P", "-"),
    "random": ("random masks", "x", ":"),
    "reweighted": ("reweighted", "D", "--"),
    "priced": ("reweighted by price", "*", "--"),
    "lhc": ("learnt shapes", "^", "-"),
}
_ROOM = 14.0  # points below the dense network that a panel shows; what is lower stands at its edge, with a figure


def _parts(family: str) -> tuple[str, str]:
    """Structure and method of a family."""
    structure = max((name for name in _STRUCTURES if family.startswith(f"{name}-")), key=len, default="")
    return structure, family.removeprefix(f"{structure}-")


def _words(family: str) -> str:
    """A family in words, structure first."""
    structure, method = _parts(family)
    if not structure or method not in _METHODS:
        return family
    return f"{_STRUCTURES[structure][0]}: {_METHODS[method][0]}"


def accuracy_table(rows: Sequence[dict[str, Any]]) -> str:
    """Every network."""
    return format_table(
        (
            "network", "arm", "epochs", "held back (%)", "float (%)", "chip (%)", "95 % interval", "weights", "fewer",
            "arrays", "joined", "mm2", "uJ", "us", "index bits", "CSR", "kappa",
        ),
        [
            (
                row["network"], row["arm"], row["epochs"], f"{row['validation']:.2f}", f"{row['float']:.2f}",
                f"{row['accuracy']:.2f}", f"{row['low']:.2f} to {row['high']:.2f}", row["weights"],
                f"{row['fewer']:.2f}", row["arrays"], row["arrays_joined"],
                f"{row['area_mm2']:.3f}", f"{row['energy_uJ']:.2f}",
                f"{row['latency_us']:.1f}", f"{row['index_bits']:.3f}", f"{row['csr_bits']:.1f}", f"{row['kappa']:.0f}",
            )
            for row in rows
        ],
        left=2,
    )  # fmt: skip


def _rate(row: dict[str, Any], name: str) -> str:
    value = row[name]
    if row["highest_rate"] == "":  # not measured
        return "-"
    return f"> {row['highest_rate']:g}" if value == "" else f"{value:.2g}"


def equal_accuracy_table(chosen: Sequence[dict[str, Any]], errors: float) -> str:
    """Of each family the smallest network with at most so many times the errors of the dense one, beside that."""
    lines = []
    for row in chosen:
        (dense,) = [each for each in chosen if each["network"] == row["network"] and each["arm"] == "dense"]
        lines.append(
            (
                row["network"], row["arm"], f"{row['accuracy']:.2f}", f"{dense['weights'] / row['weights']:.2f}",
                f"{dense['arrays'] / row['arrays']:.2f}",
                f"{dense['arrays'] / row['arrays_joined']:.2f}", f"{dense['area_mm2'] / row['area_mm2']:.2f}",
                f"{dense['energy_uJ'] / row['energy_uJ']:.2f}", f"{dense['latency_us'] / row['latency_us']:.2f}",
                f"{row['index_bits']:.3f}", f"{row['kappa'] / dense['kappa']:.1f}",
                _rate(row, "rate"), f"{_rate(row, 'rate_low')} to {_rate(row, 'rate_high')}",
            )
        )  # fmt: skip
    heads = (
        "network", f"errors at most {errors:g} x", "chip (%)", "weights", "arrays", "joined", "area", "energy",
        "latency", "index bits", "kappa", "stuck cells tolerated", "95 % interval",
    )  # fmt: skip
    return format_table(heads, lines, left=2)


def accuracy_picture(rows: Sequence[dict[str, Any]]) -> Figure:
    """Accuracy against how many times fewer weights there are: a panel a network, a line a family.

    Colours tell structures, markers and lines tell methods.
    """
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(row["network"] for row in rows))
    families = [name for name in dict.fromkeys(row["family"] for row in rows) if name != "dense"]
    across = min(2, len(networks))
    down = -(-len(networks) // across)
    figure = Figure(figsize=(5.2 * across + 3.0, 4.0 * down + 0.4), layout="constrained", dpi=150)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for axes, network in zip(panels, networks, strict=False):
        (dense,) = [row for row in rows if row["network"] == network and row["arm"] == "dense"]
        axes.axhline(dense["accuracy"], color="black", linestyle=(0, (1, 2)), linewidth=1, label="dense")
        mine = [row for row in rows if row["network"] == network and row["arm"] != "dense"]
        floor = max(dense["accuracy"] - _ROOM, min((row["low"] for row in mine), default=0.0)) - 0.3
        for family in families:
            line = sorted((row for row in mine if row["family"] == family), key=lambda row: row["fewer"])
            if not line:
                continue
            structure, method = _parts(family)
            _, colour = _STRUCTURES.get(structure, ("", "#777777"))
            _, marker, style = _METHODS.get(method, ("", "o", "-"))
            reach = [
                [row["accuracy"] - row["low"] for row in line],
                [row["high"] - row["accuracy"] for row in line],
            ]
            axes.errorbar(
                [row["fewer"] for row in line], [row["accuracy"] for row in line], yerr=reach, color=colour,
                marker=marker, linestyle=style, markersize=5, linewidth=1.1, elinewidth=0.6, capsize=1.5,
                label=_words(family),
            )  # fmt: skip
            for row in line:
                if row["accuracy"] < floor:
                    axes.annotate(
                        f"{row['accuracy']:.0f}", (row["fewer"], floor), color=colour, fontsize=7, ha="center",
                        va="bottom", xytext=(0, 7), textcoords="offset points",
                        arrowprops={"arrowstyle": "->", "color": colour, "shrinkA": 0, "shrinkB": 0},
                    )  # fmt: skip
        axes.set_ylim(bottom=floor)
        axes.set_xscale("log")
        ticks = [tick for tick in (2, 3, 4, 6, 8, 10, 15, 20, 40) if _spans(mine, tick)]
        axes.set_xticks(ticks, [f"{tick}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("times fewer weights, all layers")
        axes.set_ylabel("test accuracy on the chip (%)")
        axes.set_title(network)
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[len(networks) :]:
        axes.set_axis_off()
    shown: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    order = ["dense", *(words for words in map(_words, sorted(families, key=_parts)) if words in shown)]
    figure.legend([shown[name] for name in order], order, loc="outside right center", frameon=False, fontsize=8)
    figure.suptitle("bars are 95 % intervals of the accuracy on other images of the kind", fontsize=9)
    return figure


def _spans(rows: Sequence[dict[str, Any]], tick: float) -> bool:
    pruned = [row["fewer"] for row in rows if row["arm"] != "dense"]
    return bool(pruned) and min(pruned) / 1.2 <= tick <= max(pruned) * 1.2


def equal_accuracy_picture(chosen: Sequence[dict[str, Any]], errors: float) -> Figure:
    """What each family frees at nearly equal accuracy, and which share of stuck cells it bears."""
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(row["network"] for row in chosen))
    columns = [
        ("weights", "weights, times fewer"),
        ("arrays", "arrays, times fewer"),
        ("arrays_joined", "arrays, blocks joined"),
        ("energy_uJ", "energy, times less"),
        ("index_bits", "index bits a weight"),
    ]
    if all(row["highest_rate"] != "" for row in chosen):
        columns.append(("rate", "stuck cells tolerated (%)"))
    counts = [len([row for row in chosen if row["network"] == network]) for network in networks]
    figure = Figure(figsize=(13.5, 1.0 + 0.42 * sum(counts) + 0.5 * len(counts)), layout="constrained", dpi=150)
    grid = figure.subplots(
        len(networks), len(columns), squeeze=False, sharey="row", gridspec_kw={"height_ratios": counts}
    )
    for first, line, network in zip([True] + [False] * len(networks), grid, networks, strict=False):
        mine = [row for row in chosen if row["network"] == network]
        (dense,) = [row for row in mine if row["arm"] == "dense"]
        for axes, (name, words) in zip(line, columns, strict=True):
            for place, row in enumerate(mine):
                colour = "0.45" if row is dense else "#0072B2"
                if name == "rate":
                    unknown = row["rate"] == ""
                    value = 100 * (row["highest_rate"] if unknown else row["rate"])
                    axes.barh(place, value, color=colour, height=0.6)
                    if unknown:
                        axes.text(value, place, " or more", va="center", fontsize=7)
                    elif row["rate_low"] != "" and row["rate_high"] != "":
                        ends = [[value - 100 * row["rate_low"]], [100 * row["rate_high"] - value]]
                        axes.errorbar(value, place, xerr=ends, color="black", capsize=2, linewidth=1)
                else:
                    before = dense[name.removesuffix("_joined")]
                    value = row[name] if name == "index_bits" else before / row[name]
                    axes.barh(place, value, color=colour, height=0.6)
                    axes.text(value, place, f" {value:.2f}", va="center", fontsize=7)
            axes.margins(x=0.18)
            axes.set_title(words if first else "", fontsize=9)
            axes.spines[["top", "right"]].set_visible(False)
        line[0].set_yticks(range(len(mine)), [row["arm"] for row in mine], fontsize=8)
        line[0].invert_yaxis()
        line[0].set_ylabel(network)
    words = f"the smallest network of each kind with at most {errors:g} times the errors of the dense one"
    figure.suptitle(f"{words} on images held back", fontsize=10)
    return figure


def seeds_picture(rows: Sequence[dict[str, Any]]) -> Figure:
    """Accuracies of arms from several seeds: every one, the mean, and its 95 % interval; shorter trainings first."""
    from matplotlib.figure import Figure

    arms = sorted(dict.fromkeys((row["epochs"], row["arm"]) for row in rows))
    figure = Figure(figsize=(8.0, 0.55 * len(arms) + 1.3), layout="constrained", dpi=150)
    axes = figure.subplots()
    for height, (_, arm) in enumerate(reversed(arms)):
        mine = [row["accuracy"] for row in rows if row["arm"] == arm]
        with warnings.catch_warnings():  # that these are few, the picture shows
            warnings.simplefilter("ignore", FewDiesWarning)
            mean = mean_interval(mine)
        colour = "black" if arm.startswith("dense") else _STRUCTURES.get(_parts(arm)[0], ("", "#777777"))[1]
        axes.plot(mine, [height - 0.22] * len(mine), ".", color=colour, alpha=0.45, markeredgewidth=0)
        reach = [[mean.estimate - mean.low], [mean.high - mean.estimate]]
        axes.errorbar([mean.estimate], [height], xerr=reach, fmt="o", color=colour, markersize=5, capsize=3)
        axes.annotate(
            f"{mean.estimate:.1f}", (mean.estimate, height), xytext=(0, 5), textcoords="offset points", ha="center",
            va="bottom", fontsize=8, color=colour,
        )  # fmt: skip
    seeds, network = len({row["seed"] for row in rows}), rows[0]["network"]
    names = [f"{arm} ({epochs} epochs)" for epochs, arm in reversed(arms)]
    axes.set_yticks(range(len(arms)), names, fontsize=8)
    axes.set_ylim(-0.6, len(arms) - 0.4)
    axes.set_xlabel("test accuracy on the chip (%)")
    axes.set_title(f"{network}, {seeds} seeds: points are trainings, bars 95 % intervals of the mean", fontsize=9)
    axes.grid(color="0.92", axis="x")
    axes.spines[["top", "right"]].set_visible(False)
    return figure
