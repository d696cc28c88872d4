"""Tables and pictures of the study."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from xbarsim.experiments.studies.fault_tolerance.arms import MOSTLY_ON, arms
from xbarsim.experiments.tolerance import rate_text
from xbarsim.foundation.tables import format_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

__all__ = [
    "accuracy_table",
    "diagnosis_picture",
    "draw",
    "factor_picture",
    "factor_table",
    "grouped_picture",
    "pareto",
    "picture",
    "tolerance_table",
    "training_picture",
]


def draw(
    table: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]], effects: Sequence[dict[str, Any]]
) -> Figure | None:
    """The picture of what stands in one file; ``None`` where there is too little to draw."""
    drawn = {each["part"] for each in table if each["rate"] > 0}
    if "table" in drawn:
        return picture(table, found)
    if effects:
        return factor_picture(found, effects)
    for part, make in (
        ("methods", pareto),
        ("diagnosis", diagnosis_picture),
        ("patterns", grouped_picture),
        ("wires", grouped_picture),
        ("training", training_picture),
    ):
        if part in drawn:
            return make([each for each in table if each["part"] == part])
    return None


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
    lowest = max(0.0, min(each["low"] for each in chosen if each["rate"] > 0))
    left.set_ylim(lowest - 0.05 * (sound - lowest), sound + 0.05 * (sound - lowest))
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
    if bars:
        right.set_xlim(100 * min(min(each["low"], each["highest"]) for each in bars) / 3, 300)
    right.set_xlabel("rate tolerated at one point lost (%)")
    for axes in (left, right):
        _percent_axis(axes)
        _plain(axes)
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
                each[column] * factor, each["lost"],
                yerr=[[each["high"] - each["accuracy"]], [each["accuracy"] - each["low"]]],
                marker="osD^v<>P*X"[number % 10], color=f"C{number % 10}", markersize=6, linestyle="none", capsize=2,
                fillstyle=("full", "none", "left")[number // 10 % 3], label=each["arm"],
            )  # fmt: skip
        axes.set_xlabel(label)
        _plain(axes)
    panels[0].set_yscale("symlog", linthresh=1.0)
    worst = max(each["lost"] + each["accuracy"] - each["low"] for each in chosen)
    ticks = [tick for tick in (0, 0.5, 1, 2, 5, 10, 20, 50, 100) if tick <= worst]
    _ticks(panels[0].yaxis, ticks)
    panels[0].set_ylim(min(-0.3, *(each["lost"] + each["accuracy"] - each["high"] for each in chosen)), 1.2 * worst)
    panels[0].invert_yaxis()  # the best on top
    panels[0].set_ylabel(f"points lost at {100 * highest:g} % stuck cells (linear below 1)")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right center", frameon=False, fontsize=8)
    return figure


def diagnosis_picture(table: Sequence[dict[str, Any]]) -> Figure:
    """Accuracy against the share of faults that the test misses, a line for each share of false alarms."""
    from matplotlib.figure import Figure

    tests = {arm.name: arm for arm in arms("diagnosis")}
    panels = list(dict.fromkeys(len(tests[each["arm"]].mitigations) for each in table))
    figure = Figure(figsize=(10.0, 4.2), layout="constrained", dpi=150)
    for axes, methods in zip(figure.subplots(1, len(panels), sharey=True, squeeze=False)[0], panels, strict=True):
        points = [
            (tests[each["arm"]].diagnosis, each) for each in table if len(tests[each["arm"]].mitigations) == methods
        ]
        alarms = sorted({test.false_alarm for test, _ in points if test is not None})
        for number, alarm in enumerate(alarms):
            curve = sorted(
                (
                    (100 * (1 - test.coverage), each)
                    for test, each in points
                    if test and isinstance(test.coverage, float) and test.false_alarm == alarm
                ),
                key=lambda point: point[0],
            )
            missed = [place + 0.08 * (number - 1) for place, _ in curve]  # beside each other, where they are alike
            ends = [[abs(each["accuracy"] - each[end]) for _, each in curve] for end in ("low", "high")]
            axes.errorbar(
                missed, [each["accuracy"] for _, each in curve], yerr=ends, color=f"C{number}", capsize=2,
                linestyle=("-", "--", ":")[number % 3], marker="osD"[number % 3], markersize=4,
                label=f"{100 * alarm:g} % false alarms",
            )  # fmt: skip
        axes.set_title("rows permuted" + (", outputs recalibrated" if methods > 1 else ""), fontsize=10)
        axes.set_xlabel("stuck cells that the test misses (%)")
        axes.legend(frameon=False, fontsize=8)
        _plain(axes)
    rate = 100 * max(each["rate"] for each in table)
    figure.axes[0].set_ylabel(f"accuracy at {rate:g} % stuck cells (%)")
    return figure


def grouped_picture(table: Sequence[dict[str, Any]]) -> Figure:
    """Points lost by every arm, a row each, without faults (hollow) and with them."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(each["arm"] for each in table))
    figure = Figure(figsize=(8.0, 1.2 + 0.3 * len(names)), layout="constrained", dpi=150)
    axes = figure.subplots()
    # what is before a colon, or after the last comma, is what the arms of a group have in common
    groups = [name.split(":")[0] if ":" in name else name.rsplit(", ", 1)[-1] for name in names]
    colours = {group: f"C{number}" for number, group in enumerate(dict.fromkeys(groups))}
    for each in table:
        place = len(names) - 1 - names.index(each["arm"])
        colour = colours[groups[names.index(each["arm"])]]
        sound = each["accuracy"] + each["lost"]
        axes.plot([sound - each["high"], sound - each["low"]], [place, place], color=colour, linewidth=2)
        axes.plot(
            each["lost"], place, marker="o" if each["rate"] else "D", markersize=5, color=colour,
            markerfacecolor=colour if each["rate"] else "white",
        )  # fmt: skip
    axes.set_yticks(range(len(names)), list(reversed(names)), fontsize=8)
    rates = ", ".join(f"{100 * rate:g} %" for rate in sorted({each["rate"] for each in table if each["rate"]}))
    hollow = "; hollow: none" if any(each["rate"] == 0 for each in table) else ""
    axes.set_xlabel(f"points lost at {rates} stuck cells{hollow} (bars: 95 % of {_dies(table)} dies)")
    lost = [each["lost"] + each["accuracy"] - each[end] for each in table for end in ("low", "high")]
    axes.set_xscale("symlog", linthresh=1.0)
    axes.set_xlim(min(0.0, *lost) - 0.1, 1.2 * max(lost))
    ticks = [tick for tick in (-0.5, 0, 0.5, 1, 2, 5, 10, 20, 50, 100) if min(0.0, *lost) <= tick <= 1.2 * max(lost)]
    _ticks(axes.xaxis, ticks)
    axes.annotate("linear below 1", (1.0, 0.0), xycoords="axes fraction", ha="right", va="bottom", fontsize=7)
    _plain(axes)
    return figure


def training_picture(table: Sequence[dict[str, Any]]) -> Figure:
    """Accuracy against rate: a panel for each way of repair, a line for each training."""
    from matplotlib.figure import Figure

    split = {each["arm"]: tuple(each["arm"].split(": ")) for each in table}
    trainings, methods = (list(dict.fromkeys(names[side] for names in split.values())) for side in (0, 1))
    figure = Figure(figsize=(11.5, 4.0), layout="constrained", dpi=150)
    for axes, method in zip(figure.subplots(1, len(methods), sharey=True, squeeze=False)[0], methods, strict=True):
        for number, training in enumerate(trainings):
            curve = sorted(
                (each for each in table if split[each["arm"]] == (training, method) and each["rate"]),
                key=lambda each: each["rate"],
            )
            rates = [100 * each["rate"] for each in curve]
            axes.plot(
                rates, [each["accuracy"] for each in curve], color=f"C{number}", marker="osD"[number % 3], markersize=4,
                linestyle=("-", "--", ":")[number % 3], label=training,
            )  # fmt: skip
            low, high = ([each[end] for each in curve] for end in ("low", "high"))
            axes.fill_between(rates, low, high, color=f"C{number}", alpha=0.15, linewidth=0)
        axes.set_title({"nothing": "no repair"}.get(method, method), fontsize=10)
        axes.set_xscale("log")
        ticks = sorted({100 * each["rate"] for each in table if each["rate"]})
        _ticks(axes.xaxis, ticks)
        axes.set_xlabel("probability that a cell is stuck (%)")
        _plain(axes)
    figure.axes[0].set_ylabel(f"accuracy (%), bands: 95 % of {_dies(table)} dies")
    figure.axes[0].legend(frameon=False, fontsize=8)
    return figure


def _dies(table: Sequence[dict[str, Any]]) -> str:
    counts = sorted({each["dies"] for each in table if each["rate"]})
    return " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))


def _percent_axis(axes: Axes) -> None:
    """Plain numbers on a logarithmic axis of rates."""
    low, high = axes.get_xlim()
    ticks = [tick for tick in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if low <= tick <= high]
    shown = ticks if len(ticks) <= 8 else [tick for tick in ticks if f"{tick:g}".strip("0.") == "1"]
    _ticks(axes.xaxis, shown)


def _ticks(axis: Axis, values: Sequence[float]) -> None:
    """Plain numbers at these places alone."""
    axis.set_ticks(values, [f"{value:g}" for value in values])
    axis.set_ticks([], minor=True)


def _plain(axes: Axes, *, grid: Literal["both", "x"] = "both") -> None:
    axes.grid(color="0.92", linewidth=0.8, axis=grid)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


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
        _ticks(axes.xaxis, [tick for tick in ticks if low <= tick <= high])
        _plain(axes, grid="x")
    return figure
