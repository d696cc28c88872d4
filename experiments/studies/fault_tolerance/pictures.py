"""Tables and pictures of the study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from xbarsim.experiments.studies.fault_tolerance.arms import MOSTLY_ON, arms
from xbarsim.experiments.tolerance import rate_text
from xbarsim.foundation.tables import format_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["accuracy_table", "factor_picture", "factor_table", "pareto", "picture", "tolerance_table"]


def accuracy_table(table: Sequence[dict[str, Any]]) -> str:
    """Accuracy, points lost and cost of every point."""
    return format_table(
        ("part", "arm", "known", "faults", "rate", "dies", "accuracy", "95 % interval", "worst", "lost", "kbit", "NSR"),
        [
            (
                each["part"], each["arm"], each["known"], each["polarity"], f"{each['rate']:g}", each["dies"],
                f"{each['accuracy']:.2f}", f"{each['low']:.2f} to {each['high']:.2f}", f"{each['worst_die']:.1f}",
                f"{each['lost']:.2f}", f"{each['stored_bits'] / 1e3:.1f}", f"{each['worst_noise_to_signal']:.4f}",
            )
            for each in table
        ],
        left=4,
    )  # fmt: skip


def tolerance_table(found: Sequence[dict[str, Any]]) -> str:
    """Tolerated rates, and how many times that of two columns they are."""
    base = {(each["network"], each["polarity"]): each["rate"] for each in found if each["arm"] == "two columns"}
    return format_table(
        ("arm", "known", "faults", "rate tolerated", "95 % interval", "times two columns"),
        [
            (
                each["arm"], each["known"], each["polarity"], rate_text(each["rate"], each["highest"]),
                f"{rate_text(each['low'], each['highest'])} to {rate_text(each['high'], each['highest'])}",
                _times(each, base.get((each["network"], each["polarity"]))),
            )
            for each in found
        ],
        left=3,
    )  # fmt: skip


def _times(each: dict[str, Any], base: float | None) -> str:
    if not base or math.isinf(base):
        return "-"
    bound = ">" if math.isinf(each["rate"]) else ""
    return f"{bound}{min(each['rate'], each['highest']) / base:.1f}"


_COLOURS = {
    "nothing": "#444444",
    "rates": "#D55E00",
    "images": "#0072B2",
    "map": "#009E73",
    "99 % map, images": "#CC79A7",
}


def picture(table: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]]) -> Figure:
    """Accuracy against rate by what is known of the die, and which rate is tolerated at one point lost."""
    from matplotlib.figure import Figure

    chosen = [each for each in table if each["part"] in ("table", "curves")]
    figure = Figure(figsize=(11.5, 5.2), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    names = list(dict.fromkeys(each["arm"] for each in chosen))
    styles = ("-", "--", ":", "-.")
    counted: dict[str, int] = {}
    for name in names:
        curve = sorted(
            (each for each in chosen if each["arm"] == name and each["rate"] > 0), key=lambda each: each["rate"]
        )
        if not curve:
            continue
        known = curve[0]["known"]
        number = counted.get(known, 0)
        counted[known] = number + 1
        rates = [100 * each["rate"] for each in curve]
        colour = _COLOURS[known]
        ends = [
            [each["accuracy"] - each["low"] for each in curve], [each["high"] - each["accuracy"] for each in curve]
        ]  # fmt: skip
        left.errorbar(
            rates, [each["accuracy"] for each in curve], yerr=ends if len(curve) == 1 else None, color=colour,
            linestyle=styles[number % 4], marker="osD^"[number % 4], markersize=4, capsize=2, label=name,
        )  # fmt: skip
        left.fill_between(
            rates, [each["low"] for each in curve], [each["high"] for each in curve], color=colour, alpha=0.15,
            linewidth=0,
        )  # fmt: skip
    sound = chosen[0]["accuracy"] + chosen[0]["lost"]
    left.axhline(sound, color="black", linewidth=1, linestyle=":")
    left.axhline(sound - 1, color="0.6", linewidth=0.8, linestyle=":")
    left.set_xscale("log")
    left.set_ylim(max(0.0, min(each["accuracy"] for each in chosen) - 3), 95)
    left.set_xlabel("probability that a cell is stuck (%)")
    left.set_ylabel(f"accuracy on {chosen[0]['images']} test images (%)")
    left.legend(fontsize=7, frameon=False, loc="lower left")
    bars = [each for each in found if each["part"] == "table"]
    for place, each in enumerate(reversed(bars)):
        rate = min(each["rate"], each["highest"])
        right.barh(place, 100 * rate, color=_COLOURS[each["known"]], height=0.7)
        low, high = (100 * min(each[end], each["highest"]) for end in ("low", "high"))
        right.plot([low, high], [place, place], color="black", linewidth=1.2)
        beyond = "> " if math.isinf(each["rate"]) else ""
        right.annotate(f" {beyond}{100 * rate:.2g} %", (max(100 * rate, high), place), va="center", fontsize=8)
    right.set_yticks(range(len(bars)), [each["arm"] for each in reversed(bars)], fontsize=8)
    right.set_xscale("log")
    right.set_xlim(right=200)
    right.set_xlabel("rate tolerated at one point lost (%)")
    for axes in (left, right):
        axes.grid(color="0.92", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    handles = [figure.axes[0].plot([], [], color=colour, linewidth=5)[0] for colour in _COLOURS.values()]
    figure.legend(
        handles,
        [f"known: {known}" for known in _COLOURS],
        loc="outside lower center",
        ncols=5,
        frameon=False,
        fontsize=9,
    )
    return figure


def pareto(table: Sequence[dict[str, Any]], part: str = "methods") -> Figure:
    """Accuracy of every method against what it stores, and the energy and area that it takes."""
    from matplotlib.figure import Figure

    chosen = [each for each in table if each["part"] == part and each["polarity"] == MOSTLY_ON and "energy_J" in each]
    highest = max(each["rate"] for each in chosen)
    chosen = [each for each in chosen if each["rate"] == highest]
    figure = Figure(figsize=(12.0, 4.6), layout="constrained", dpi=150)
    panels = figure.subplots(1, 3, sharey=True)
    axes_of = (
        ("stored_bits", 1e-3, "configuration stored (kbit)"),
        ("energy_J", 1e6, "energy an image (µJ)"),
        ("area_m2", 1e6, "area (mm²)"),
    )
    for axes, (column, factor, label) in zip(panels, axes_of, strict=True):
        for number, each in enumerate(chosen):
            axes.errorbar(
                each[column] * factor, each["accuracy"],
                yerr=[[each["accuracy"] - each["low"]], [each["high"] - each["accuracy"]]],
                marker="osD^v<>P*X"[number % 10], color=f"C{number % 10}", markersize=6, linestyle="none", capsize=2,
                markerfacecolor="white" if number >= 10 else f"C{number % 10}", label=each["arm"],
            )  # fmt: skip
        axes.set_xlabel(label)
        axes.grid(color="0.92", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel(f"accuracy at {100 * highest:g} % stuck cells (%)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return figure


def factor_table(effects: Sequence[dict[str, Any]]) -> str:
    """By how much each factor multiplies the tolerated rate, all others being equal."""
    return format_table(
        ("factor", "level", "against", "times the rate", "95 % interval", "combinations", "beyond what was measured"),
        [
            (
                each["factor"], each["level"], each["against"], f"{each['ratio']:.2f}",
                f"{each['low']:.2f} to {each['high']:.2f}", len(each["ratios"]), each["beyond"],
            )
            for each in effects
        ],
        left=3,
    )  # fmt: skip


_PATH = (  # from the baseline of ISQED 2021, one factor a step
    ("mapping", "differential"), ("full scale", "an output"), ("weights", "trained on"), ("weights", "pruned by 60 %"),
    ("faulty layers", "all but first and last"),
)  # fmt: skip


def factor_picture(found: Sequence[dict[str, Any]], effects: Sequence[dict[str, Any]]) -> Figure:
    """What each factor does to the tolerated rate, and one path from the baseline through all of them."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.5, 4.6), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2)
    colours = {factor: f"C{index}" for index, factor in enumerate(dict.fromkeys(each["factor"] for each in effects))}
    for place, each in enumerate(reversed(effects)):
        colour = colours[each["factor"]]
        left.scatter(each["ratios"], [place - 0.18] * len(each["ratios"]), s=9, color=colour, alpha=0.45, linewidths=0)
        left.plot([each["low"], each["high"]], [place + 0.12] * 2, color=colour, linewidth=2.5)
        left.plot([each["ratio"]], [place + 0.12], marker="D", color=colour, markersize=6)
        left.annotate(
            f"{each['ratio']:.2g}", (each["high"], place + 0.12), xytext=(6, 0), textcoords="offset points",
            va="center", fontsize=8,
        )  # fmt: skip
    left.set_yticks(
        range(len(effects)),
        [f"{each['factor']}: {each['level']}\nagainst {each['against']}" for each in reversed(effects)],
        fontsize=7.5,
    )
    left.axvline(1.0, color="0.4", linewidth=1)
    left.set_xscale("log")
    left.set_xlabel("times the rate tolerated, all else equal\n(dots: each combination of the others)")

    rates = {tuple(arm.settings.values()): arm.name for arm in arms("factors")}
    by_name = {each["arm"]: each for each in found if each["part"] == "factors"}
    chosen = dict(next(iter(arms("factors"))).settings)
    steps = [("two columns, dense, a layer, all", dict(chosen))]
    for factor, level in _PATH:
        chosen[factor] = level
        steps.append((f"{factor}: {level}", dict(chosen)))
    drawn = [(words, by_name.get(rates[tuple(settings.values())])) for words, settings in steps]
    for place, (_, each) in enumerate(reversed(drawn)):
        if each is None:
            continue
        rate, low, high = (100 * min(each[key], each["highest"]) for key in ("rate", "low", "high"))
        right.barh(place, rate, color="#0072B2", height=0.6, alpha=0.8)
        right.plot([low, high], [place, place], color="black", linewidth=1.3)
        beyond = "> " if math.isinf(each["rate"]) else ""
        right.annotate(
            f"{beyond}{rate:.2g} %", (max(rate, high), place), xytext=(5, 0), textcoords="offset points", va="center",
            fontsize=8,
        )  # fmt: skip
    right.set_yticks(
        range(len(drawn)), [words if index == len(drawn) - 1 else f"+ {words}" for index, (words, _) in
                            enumerate(reversed(drawn))], fontsize=8,
    )  # fmt: skip
    right.set_xscale("log")
    right.set_xlim(right=100 * 2.5 * max(min(each["high"], each["highest"]) for _, each in drawn if each))
    right.set_xlabel("rate tolerated at one point lost (%),\none change after another")
    for axes, ticks in ((left, (0.25, 0.5, 1, 2, 4, 8)), (right, (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2))):
        low, high = axes.get_xlim()
        kept = [tick for tick in ticks if low <= tick <= high]
        axes.set_xticks(kept, [f"{tick:g}" for tick in kept])
        axes.set_xticks([], minor=True)
        axes.grid(color="0.92", linewidth=0.8, axis="x")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    return figure
