"""Pictures of costs: what is drawn adds up, and the front of designs is the right one."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.collections import PathCollection

from xbarsim import plot
from xbarsim.cost import CostReport, Hardware, LayerUse, estimate
from xbarsim.foundation.validation import InputError


def report() -> CostReport:
    uses = [
        LayerUse(
            name=name,
            arrays=arrays,
            rows=128,
            columns=128,
            adc_bits=8,
            dac_bits=1,
            reads_per_vector=8,
            macs_per_vector=100,
            vectors_per_image=vectors,
        )
        for name, arrays, vectors in (("conv", 9, 64), ("fc", 2, 1))
    ]
    return estimate(uses, Hardware.load("isaac"))


def test_shares_add_to_the_whole() -> None:
    found = report()
    for shown, bars in ((found, 2), (found.workload(), 1)):
        axes = plot.cost_breakdown(shown)
        patches: list[Any] = list(axes.patches)
        widths = np.array([patch.get_width() for patch in patches]).reshape(bars, -1)
        assert widths.sum(axis=1) == pytest.approx([100] * bars)
        assert len(axes.get_yticks()) == widths.shape[1]
        axes.figure.savefig("/dev/null", format="png")  # type: ignore[union-attr]
    assert plot.cost_breakdown(estimate([], Hardware.load("isaac")))  # nothing to draw is no error


def test_layers_show_energy_and_time() -> None:
    work = report().workload()
    energy, time = plot.cost_layers(work)
    ends = [max(p.get_x() + p.get_width() for p in energy.patches[i::2]) for i in range(2)]
    assert ends == pytest.approx([1e6 * layer.energy for layer in work.layers])
    assert [p.get_width() for p in time.patches] == pytest.approx([1e6 * layer.time for layer in work.layers])
    with pytest.raises(InputError, match="ax must be two axes, got 1"):
        plot.cost_layers(work, ax=[energy])


DESIGNS = st.lists(
    st.fixed_dictionaries(
        {"power_W": st.integers(0, 4), "area_m2": st.integers(0, 4), "accuracy": st.sampled_from([0.1, 0.5, 0.9])}
    ),
    max_size=12,
)


@given(DESIGNS)
def test_pareto_front_by_definition(rows: list[dict[str, Any]]) -> None:
    def beats(one: dict[str, Any], two: dict[str, Any]) -> bool:
        good = (one["power_W"] <= two["power_W"], one["area_m2"] <= two["area_m2"], one["accuracy"] >= two["accuracy"])
        same = all(one[key] == two[key] for key in one)
        return all(good) and not same

    front = plot.pareto_front(rows)
    assert front == [i for i, row in enumerate(rows) if not any(beats(other, row) for other in rows)]
    assert bool(front) == bool(rows)


@pytest.mark.parametrize("against", ["area", "accuracy"])
def test_a_design_stands_at_the_means_of_its_dies(against: Literal["area", "accuracy"]) -> None:
    rows = [
        {"name": name, "power_W": watts, "area_m2": 1e-6, "accuracy": accuracy}
        for name, watts, accuracy in (("one", 1.0, 0.7), ("one", 3.0, 0.9), ("two", 4.0, 0.5))
    ]
    axes = plot.pareto(rows, against=against)
    places = np.concatenate(
        [np.asarray(marks.get_offsets()) for marks in axes.collections if isinstance(marks, PathCollection)]
    )
    wanted = [(1, 2000), (1, 4000)] if against == "area" else [(2, 80), (4, 50)]
    assert {tuple(place) for place in places.round(9).tolist()} == set(wanted)
    with pytest.raises(InputError, match="against must be one of 'area', 'accuracy', got 'power'"):
        plot.pareto(rows, against="power")  # type: ignore[arg-type]


def test_pareto_names_the_front() -> None:
    rows = [
        {"name": "cheap", "power_W": 1e-3, "area_m2": 1e-7, "accuracy": 0.8},
        {"name": "good", "power_W": 2e-3, "area_m2": 2e-7, "accuracy": 0.9},
        {"name": "bad", "power_W": 3e-3, "area_m2": 3e-7, "accuracy": 0.7},
    ]
    axes = plot.pareto(rows)
    assert {text.get_text() for text in axes.texts} == {"cheap", "good"}
    with pytest.raises(InputError, match="rows must hold at least one design, got none"):
        plot.pareto([])
    with pytest.raises(InputError, match=r"rows\[0\] must have a key 'area_m2'"):
        plot.pareto([{"name": "x", "power_W": 1.0, "accuracy": 1.0}])
    with pytest.raises(InputError, match=r"rows\[0\] must have a key 'name'"):
        plot.pareto([{"area_m2": 1.0, "power_W": 1.0, "accuracy": 1.0}])
