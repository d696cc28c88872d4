"""Tables and pictures of the study."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xbarsim.foundation.tables import format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["accuracy_picture", "accuracy_table", "equal_accuracy_picture", "equal_accuracy_table"]

_COLOURS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#444444",
    "#8C510A",
    "#7F7F00",
    "#5E3C99",
)
_MARKERS = "osD^vP*X<>"


def _words(family: str) -> str:
    """A family in words, structure first."""
    structure, _, method = family.rpartition("-")
    names = {
        "admm": "ADMM", "gap": "grow and prune", "lhc": "learnt shapes", "parallel": "grow and prune, parallel",
        "gradual": "gradual magnitude", "magnitude": "magnitude", "random": "random masks", "reweighted": "reweighted",
    }  # fmt: skip
    structures = {
        "bcr": "block columns and rows", "columns": "columns", "columns-filters": "columns and filters",
        "unstructured": "single weights", "unstructured-gap": "single weights", "shapes": "kernel shapes",
        "rigid": "rigid kernel shapes",
    }  # fmt: skip
    return family if not structure else f"{structures.get(structure, structure)}: {names.get(method, method)}"


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


def equal_accuracy_table(chosen: Sequence[dict[str, Any]], loss: float) -> str:
    """Of each family the smallest network that loses no more than so many points, against the dense one."""
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
        "network", f"at most {loss:g} points lost", "chip (%)", "weights", "arrays", "joined", "area", "energy",
        "latency", "index bits", "kappa", "stuck cells tolerated", "95 % interval",
    )  # fmt: skip
    return format_table(heads, lines, left=2)


def accuracy_picture(rows: Sequence[dict[str, Any]]) -> Figure:
    """Accuracy against how many times fewer weights there are: a panel a network, a line a family."""
    from matplotlib.figure import Figure

    networks = list(dict.fromkeys(row["network"] for row in rows))
    families = [name for name in dict.fromkeys(row["family"] for row in rows) if name != "dense"]
    figure = Figure(figsize=(4.6 * len(networks) + 3.2, 4.6), layout="constrained", dpi=150)
    panels = figure.subplots(1, len(networks), squeeze=False)[0]
    for axes, network in zip(panels, networks, strict=True):
        for number, family in enumerate(families):
            mine = sorted(
                (row for row in rows if (row["network"], row["family"]) == (network, family)),
                key=lambda row: row["fewer"],
            )
            if not mine:
                continue
            reach = [
                [row["accuracy"] - row["low"] for row in mine],
                [row["high"] - row["accuracy"] for row in mine],
            ]
            axes.errorbar(
                [row["fewer"] for row in mine], [row["accuracy"] for row in mine], yerr=reach,
                color=_COLOURS[number % len(_COLOURS)], marker=_MARKERS[number % len(_MARKERS)], markersize=5,
                linewidth=1.2, capsize=2, label=_words(family),
            )  # fmt: skip
        for row in rows:
            if row["network"] == network and row["arm"] == "dense":
                axes.axhline(row["accuracy"], color="black", linestyle=":", linewidth=1, label="dense")
        axes.set_xscale("log")
        ticks = [
            tick
            for tick in (2, 3, 4, 6, 8, 10, 15, 20, 40)
            if _spans([r for r in rows if r["network"] == network], tick)
        ]
        axes.set_xticks(ticks, [f"{tick}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlabel("times fewer weights, all layers")
        axes.set_title(network)
        axes.grid(color="0.92")
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("test accuracy on the chip (%), 95 % interval")
    shown: dict[str, Any] = {}
    for axes in panels:
        handles, labels = axes.get_legend_handles_labels()
        shown |= dict(zip(labels, handles, strict=True))
    figure.legend(shown.values(), shown.keys(), loc="outside right center", frameon=False, fontsize=8)
    return figure


def _spans(rows: Sequence[dict[str, Any]], tick: float) -> bool:
    pruned = [row["fewer"] for row in rows if row["arm"] != "dense"]
    return bool(pruned) and min(pruned) / 1.2 <= tick <= max(pruned) * 1.2


def equal_accuracy_picture(chosen: Sequence[dict[str, Any]], loss: float) -> Figure:
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
    figure.suptitle(
        f"the smallest network of each kind that loses at most {loss:g} points on images held back", fontsize=10
    )
    return figure
