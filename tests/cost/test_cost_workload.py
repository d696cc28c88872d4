"""Cost of an inference: closed forms by hand, invariants of the model, copies of layers, cells of a die."""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cost.uses import use
from xbarsim.cost import (
    AdcCard,
    AdcRegression,
    CostReport,
    Hardware,
    LayerUse,
    Workload,
    adc_names,
    compare,
    estimate,
    hardware_names,
    replicate,
    totals,
)
from xbarsim.cost.scaling import NODES, area_factor, energy_factor
from xbarsim.cost.values import Reference
from xbarsim.cost.views import number
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError

ISAAC = Hardware.load("isaac")


def energies(work: Workload) -> dict[tuple[str, str], float]:
    return {(cost.level, cost.name): cost.energy for cost in work.components}


# ------------------------------------------------------------------------------------------- closed forms


def test_a_layer_by_hand() -> None:
    """Three arrays, ten vectors, eight reads: every number of ISAAC's table multiplied out."""
    layer = use(
        arrays=3,
        reads_per_vector=8,
        vectors_per_image=10,
        driven_rows=300,
        used_columns=200,
        conversions=100,
        cells_used=20_000,
        inputs=150,
        outputs=25,
        input_bits=8,
        macs_per_vector=3750,
    )
    work = estimate([layer], ISAAC).workload()
    energy_of = energies(work)
    reads, t = 10 * 8, 100e-9
    assert energy_of["array", "ADC"] == pytest.approx(reads * 100 * 1.667e-12)
    assert energy_of["array", "DAC"] == pytest.approx(reads * t * 300 * 4e-3 / 1024)
    assert energy_of["array", "sample and hold"] == pytest.approx(reads * t * 200 * 10e-6 / 1024)
    assert energy_of["array", "cells"] == pytest.approx(reads * t * 20_000 * 2.4e-3 / 131072)
    assert energy_of["ima", "shift and add"] == pytest.approx(reads * 100 * 0.05e-3 / 2.4e9)
    assert energy_of["ima", "input register"] == pytest.approx(reads * 300 * 1.24e-3 / 10.24e9)
    assert energy_of["ima", "output register"] == pytest.approx(reads * 100 * 0.23e-3 / 9.6e9)
    moved = 10 * (150 + 25) * 8
    # as the Accelergy library has them: 20.45 pJ for 256 bit, 0.054 pJ a bit, 20.74 pJ for 256 bit
    assert energy_of["tile", "eDRAM buffer"] == pytest.approx(moved * 20.45e-12 / 256, rel=1e-3)
    assert energy_of["tile", "eDRAM to IMA bus"] == pytest.approx(moved * 0.054e-12, rel=2e-3)
    assert energy_of["tile", "router"] == pytest.approx(10 * 25 * 8 * 20.74e-12 / 256, rel=1e-3)
    assert energy_of["tile", "sigmoid"] == pytest.approx(10 * 25 * 0.26e-3 / 1.2e9)
    assert work.energy == pytest.approx(math.fsum(energy_of.values()), rel=1e-12)
    assert work.latency == pytest.approx(10 * 8 * t + 6 * t)
    assert work.interval == pytest.approx(10 * 8 * t)
    assert work.bottleneck[0] == "layer"
    assert work.operations == 2 * 3750 * 10
    assert work.throughput == pytest.approx(75_000 / 8e-6)
    assert work.average_power == pytest.approx(work.energy / 8e-6)
    assert work.throughput_per_power == pytest.approx(75_000 / work.energy)
    assert work.time_utilisation == pytest.approx(1.0)
    assert work.cell_utilisation == pytest.approx(20_000 / 3 / 16384)


def test_the_cells_of_a_die_take_their_own_power() -> None:
    layer = use(arrays=2, vectors_per_image=5, cells_power=7e-3, redundancy=3, copies=2)
    work = estimate([layer], ISAAC).workload()
    assert energies(work)["array", "cells"] == pytest.approx(7e-3 * 5 * 16 * 100e-9 * 3)
    assert next(c.power for c in work.peak.components if c.name == "cells") == pytest.approx(7e-3 * 3 * 2)


def test_times_of_a_pipeline() -> None:
    layers = [use("a", vectors_per_image=100), use("b", vectors_per_image=30, arrays=4), use("c", arrays=0)]
    report = estimate(layers, ISAAC)
    vector = 16 * 100e-9
    work = report.workload()
    assert work.latency == pytest.approx(130 * vector + 2 * 600e-9)
    assert work.interval == pytest.approx(100 * vector)
    assert work.time_utilisation == pytest.approx((100 + 4 * 30) / (5 * 100))
    alone = report.workload(pipelined=False)
    assert alone.interval == alone.latency == pytest.approx(work.latency)
    assert alone.energy == pytest.approx(work.energy)  # nothing of ISAAC's tile is always on
    assert [layer.energy for layer in work.layers][2] == 0


def test_what_is_always_on_is_paid_for_the_interval() -> None:
    report = estimate([use(vectors_per_image=100)], ISAAC, level="chip")
    work = report.workload()
    assert work.static_power == pytest.approx(10.4)
    assert work.energy - work.dynamic_energy == pytest.approx(10.4 * work.interval)
    assert work.average_power == pytest.approx(10.4 + work.dynamic_energy / work.interval)
    slower = report.workload(pipelined=False)
    assert slower.energy > work.energy


def test_a_buffer_can_set_the_pace() -> None:
    work = estimate([use(inputs=100_000, outputs=10, vectors_per_image=3)], ISAAC).workload()
    assert work.bottleneck[0] == "eDRAM to IMA bus"
    assert work.interval == pytest.approx(3 * 100_010 * 8 / 129.6e9)


def test_few_rows_at_once_take_more_reads() -> None:
    forms = Hardware.load("forms2021")
    layer = use(adc_bits=4, rows=100, vectors_per_image=2)  # 13 fragments of 8 rows
    work = estimate([layer], forms).workload()
    t = 128 / (4 * 2.1e9)
    assert work.layers[0].time == pytest.approx(2 * 16 * 13 * t)
    assert work.layers[0].actions.conversion == 2 * 16 * 13 * 128
    assert work.layers[0].actions.input_bit == 2 * 16 * 100
    assert estimate([layer], forms).peak_throughput == pytest.approx(2 * 2048 / (16 * 13 * t))


NOTHING_SPARE_TWICE: tuple[dict[str, Any], ...] = ({}, {"spare_columns": 8}, {"redundancy": 2})


def test_rows_driven_in_groups() -> None:
    """Four groups of rows: four times the reads and conversions, each row driven once."""
    whole = use(arrays=2, vectors_per_image=3, cells_power=8e-3)
    groups = dataclasses.replace(whole, reads_per_vector=64, row_groups=4, cells_power=2e-3)
    one, two = (estimate([each], ISAAC).workload() for each in (whole, groups))
    before, after = energies(one), energies(two)
    assert two.layers[0].time == 4 * one.layers[0].time
    assert two.layers[0].actions.input_bit == one.layers[0].actions.input_bit
    for name, ratio in (("ADC", 4), ("sample and hold", 4), ("DAC", 1), ("cells", 1)):
        assert after["array", name] == pytest.approx(ratio * before["array", name])
    forms = Hardware.load("forms2021")  # reads 8 rows at once: 4 groups of 32 rows take 4 reads each
    assert forms.reads_of_vector(whole) == 16 * 16
    assert forms.reads_of_vector(groups) == 64 * 4
    odd = dataclasses.replace(whole, reads_per_vector=32, row_groups=2, rows=65)  # 33 and 32 rows: 5 reads of 8
    assert forms.reads_of_vector(odd) == 32 * 5
    with pytest.raises(InputError, match=r"row_groups must divide reads_per_vector \(16\), got 3"):
        use(row_groups=3)


def test_spare_columns_cost_area_and_redundancy_everything() -> None:
    plain, spare, twice = (estimate([use(arrays=8, **more)], ISAAC, level="array") for more in NOTHING_SPARE_TWICE)
    assert spare.power == plain.power
    extra = 8 * 8 * (0.00004 / 1024 + 128 * 0.0002 / 131072) * 1e-6
    assert spare.area - plain.area == pytest.approx(extra, rel=1e-6)
    assert spare.workload().energy == plain.workload().energy
    assert twice.power == pytest.approx(2 * plain.power)
    assert twice.area == pytest.approx(2 * plain.area)
    assert twice.workload().energy == pytest.approx(2 * plain.workload().energy)
    assert twice.workload().latency == plain.workload().latency


def test_index_storage_has_a_price() -> None:
    plain, indexed = (estimate([use(index_bits=bits)], ISAAC, level="array") for bits in (0, 1000))
    assert indexed.area - plain.area == pytest.approx(1000 * 0.083e-6 / 524288)
    assert indexed.power - plain.power == pytest.approx(1000 * 20.7e-3 / 524288)
    assert any(
        "no memory for the indices" in note for note in estimate([use(index_bits=1)], Hardware.load("islped")).notes
    )


# -------------------------------------------------------------------------------------------- properties


@st.composite
def layers(draw: st.DrawFn, least: int = 0, most: int = 5) -> list[LayerUse]:
    uses = []
    for index in range(draw(st.integers(least, most))):
        arrays, rows, columns = draw(st.integers(0, 200)), draw(st.sampled_from([8, 64, 128, 256])), 128
        columns_used = draw(st.integers(0, arrays * columns))
        uses.append(
            use(
                f"layer{index}",
                arrays=arrays,
                rows=rows,
                columns=columns,
                adc_bits=draw(st.integers(1, 14)),
                dac_bits=draw(st.integers(1, 4)),
                reads_per_vector=draw(st.integers(1, 16)),
                vectors_per_image=draw(st.integers(0, 300)),
                driven_rows=draw(st.integers(0, arrays * rows)),
                used_columns=columns_used,
                conversions=draw(st.integers(0, columns_used)),
                cells_used=draw(st.integers(0, arrays * rows * columns)),
                cells_power=draw(st.none() | st.floats(0, 1)) if arrays else None,
                inputs=draw(st.integers(1, 5000)),
                outputs=draw(st.integers(1, 500)),
                index_bits=draw(st.integers(0, 10**5)),
                redundancy=draw(st.integers(1, 3)),
                copies=draw(st.integers(1, 5)),
            )
        )
    return uses


CARDS = st.sampled_from([Hardware.load(name) for name in hardware_names()])


@settings(max_examples=40, deadline=None)
@given(layers(), CARDS, st.booleans())
def test_views_of_an_inference_add_up(uses: list[LayerUse], card: Hardware, pipelined: bool) -> None:
    work = estimate(uses, card).workload(pipelined=pipelined)
    assert math.isfinite(work.energy)
    assert min(work.energy, work.latency, work.interval, work.static_power, work.average_power) >= 0
    assert 0 <= work.time_utilisation <= 1 + 1e-9
    assert 0 <= work.cell_utilisation <= 1
    assert work.interval <= work.latency * (1 + 1e-12) or work.bottleneck[0] not in {each.name for each in uses}
    for by in ("part", "component", "layer"):
        rows = work.to_rows(by)
        assert all(row["energy_J"] >= 0 for row in rows)
        assert math.fsum(row["energy_J"] for row in rows) == pytest.approx(work.energy, rel=1e-9, abs=1e-30)
    assert work.tree()["energy"] == pytest.approx(work.energy, rel=1e-9, abs=1e-30)
    assert str(work)


@settings(max_examples=40, deadline=None)
@given(layers(least=1), CARDS)
def test_energy_and_latency_add_over_layers(uses: list[LayerUse], card: Hardware) -> None:
    whole = estimate(uses, card).workload()
    alone = [estimate([each], card).workload() for each in uses]
    assert whole.dynamic_energy == pytest.approx(math.fsum(each.dynamic_energy for each in alone), rel=1e-9, abs=1e-30)
    assert whole.latency == pytest.approx(math.fsum(each.latency for each in alone), rel=1e-9)
    without = estimate(uses[1:], card).workload()  # removing a layer removes exactly its energy
    assert whole.dynamic_energy - without.dynamic_energy == pytest.approx(
        alone[0].dynamic_energy, rel=1e-9, abs=1e-9 * whole.dynamic_energy + 1e-30
    )


@settings(max_examples=40, deadline=None)
@given(layers(least=1), CARDS, st.integers(2, 6))
def test_copies_change_time_and_area_but_no_energy(uses: list[LayerUse], card: Hardware, copies: int) -> None:
    more = [dataclasses.replace(each, copies=each.copies * copies) for each in uses]
    before, after = estimate(uses, card), estimate(more, card)
    one, two = before.workload(), after.workload()
    assert two.dynamic_energy == pytest.approx(one.dynamic_energy, rel=1e-12)
    assert two.latency <= one.latency
    assert two.interval <= one.interval * (1 + 1e-12)
    assert after.area >= before.area


@settings(max_examples=40, deadline=None)
@given(layers(least=1), st.data())
def test_more_bits_and_arrays_never_take_less_energy(uses: list[LayerUse], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(uses) - 1))
    field = data.draw(
        st.sampled_from(["adc_bits", "dac_bits", "reads_per_vector", "redundancy", "index_bits", "vectors_per_image"])
    )
    more = list(uses)
    more[index] = dataclasses.replace(uses[index], **{field: getattr(uses[index], field) + 1})
    before, after = (estimate(each, ISAAC).workload() for each in (uses, more))
    assert after.dynamic_energy >= before.dynamic_energy * (1 - 1e-12)
    assert after.peak.area >= before.peak.area * (1 - 1e-12)


@given(CARDS, st.integers(1, 20), st.data())
def test_removing_a_unit_removes_exactly_its_cost(card: Hardware, units: int, data: st.DataObject) -> None:
    level = data.draw(st.sampled_from([each.name for each in card.levels]))
    one, some, fewer = (totals(card, level, number) for number in (1, units, units - 1))
    assert some.power - fewer.power == pytest.approx(one.power, rel=1e-9)
    assert some.area - fewer.area == pytest.approx(one.area, rel=1e-9)
    assert some.peak_throughput - fewer.peak_throughput == pytest.approx(one.peak_throughput, rel=1e-9)


# ------------------------------------------------------------------------------------------- replication


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 4), st.integers(1, 12), st.integers(1, 3)), min_size=1, max_size=3),
    st.integers(0, 12),
)
def test_copies_are_the_best_there_are(shapes: list[tuple[int, int, int]], spare: int) -> None:
    uses = [
        use(str(i), arrays=arrays, vectors_per_image=vectors, reads_per_vector=reads)
        for i, (arrays, vectors, reads) in enumerate(shapes)
    ]
    budget = sum(each.arrays for each in uses) + spare

    def longest(copies: tuple[int, ...]) -> float:
        return max(
            -(-each.vectors_per_image // n) * each.reads_per_vector for each, n in zip(uses, copies, strict=True)
        )

    copied = replicate(uses, ISAAC, budget)
    taken = tuple(each.copies for each in copied)
    assert sum(each.occupied for each in copied) <= budget
    ranges = [range(1, 2 + spare // each.arrays) for each in uses]
    best = min(
        longest(each)
        for each in itertools.product(*ranges)
        if sum(use.arrays * n for use, n in zip(uses, each, strict=True)) <= budget
    )
    assert longest(taken) == best
    for index, n in enumerate(taken):  # as few as reach that time
        if n > 1:
            assert longest((*taken[:index], n - 1, *taken[index + 1 :])) > best


def test_copies_fill_a_chip() -> None:
    report = estimate([use("a", vectors_per_image=1000), use("b", arrays=5, vectors_per_image=10)], ISAAC)
    chip = report.workload(replication="chip")
    assert chip.peak.units["array"] <= 16128
    assert chip.layers[0].use.copies == 1000
    assert chip.interval < report.workload().interval / 100
    some = report.workload(replication=20)
    assert some.peak.units["array"] <= 20
    with pytest.raises(InputError, match="replication must be an integer >= 6, got 5"):
        report.workload(replication=5)
    with pytest.raises(InputError, match="replication must be one of 'none', 'chip' or an integer, got 'all'"):
        report.workload(replication="all")  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"replication must be one of 'none', 'chip' or an integer, got 7\.5"):
        report.workload(replication=7.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="pipelined must be True or False"):
        report.workload(pipelined=1)  # type: ignore[arg-type]


def test_the_peak_of_a_workload_is_a_report_too() -> None:
    report = estimate([use("a", vectors_per_image=10)], ISAAC)
    assert report.workload().peak is report
    copied = report.workload(replication=5).peak
    assert isinstance(copied, CostReport)
    assert copied == estimate([layer.use for layer in copied.layers], ISAAC)
    assert copied.units["array"] == 5


def test_nothing_takes_nothing() -> None:
    for uses in ([], [use(arrays=0)], [use(vectors_per_image=0)]):
        work = estimate(uses, ISAAC).workload(replication="chip")
        assert (work.energy, work.latency, work.images_per_second, work.throughput_per_power) == (0, 0, 0, 0)


# ------------------------------------------------------------------------------------------- converters


@pytest.mark.parametrize(
    ("rate", "node", "expected"),
    [
        (1.28e9, 32, (0.92, 0.94, 1.07, 1.31, 1.93, 5.53, 16.4)),
        (100e6, 32, (0.92, 0.94, 1.07, 1.31, 1.71, 2.34, 3.31)),
        (100e6, 65, (3.50, 3.55, 4.04, 4.97, 6.49, 8.87, 12.5)),
    ],
)
def test_survey_regression_gives_the_published_table(rate: float, node: int, expected: tuple[float, ...]) -> None:
    card = AdcCard.load("cimloop2024")
    quantity = dataclasses.replace(card.adc.rate, value=rate / 1e9)
    placed = card.at(rate=quantity, nameplate_rate=quantity)
    assert isinstance(placed, AdcRegression)
    adc = dataclasses.replace(placed, technology_node=dataclasses.replace(placed.technology_node, value=node))
    for bits, energy in zip(range(4, 11), expected, strict=True):
        assert adc.energy_per_conversion(bits) * 1e12 == pytest.approx(energy, rel=5e-3), bits
    if (rate, node) == (1.28e9, 32):
        assert adc.area_each(4) * 1e12 == pytest.approx(5190, rel=1e-3)
        assert adc.area_each(10) * 1e12 == pytest.approx(12275, rel=1e-3)


@given(st.integers(1, 31))
def test_survey_regression_grows_with_bits(bits: int) -> None:
    adc = AdcCard.load("cimloop2024").adc
    assert adc.energy_per_conversion(bits + 1) >= adc.energy_per_conversion(bits) > 0
    assert adc.area_each(bits + 1) >= adc.area_each(bits) > 0


def test_another_converter_in_a_hardware() -> None:
    assert "cimloop2024" in adc_names()
    other = ISAAC.with_adc("cimloop2024")
    mine, theirs = (totals(card, "tile") for card in (ISAAC, other))
    adc = {c.name: c for c in theirs.components}["ADC"]
    assert adc.power == pytest.approx(96 * 1.93e-12 * 1.28e9, rel=2e-3)
    assert adc.area > 4 * {c.name: c for c in mine.components}["ADC"].area
    assert any("2404.06553" in text for text in theirs.sources())
    assert any("about the best possible" in note for note in theirs.notes)
    assert theirs.peak_throughput == mine.peak_throughput
    with pytest.raises(InputError, match=r"adc must be one of .*'cimloop2024'.*, or a path .* got 'flash'"):
        ISAAC.with_adc("flash")
    with pytest.raises(InputError, match="adc must be a converter of the hardware to be replaced, got none"):
        Hardware.load("islped2019").with_adc("cimloop2024")


def test_converter_cards_round_trip(tmp_path: Any) -> None:
    card = AdcCard.load("cimloop2024")
    tomlio.save(card, tmp_path / "mine.toml")
    assert AdcCard.load(tmp_path / "mine.toml") == card
    (tmp_path / "bad.toml").write_text((tmp_path / "mine.toml").read_text().replace("least_bits = 4", "least_bits = 0"))
    with pytest.raises(InputError, match=r"adc\.least_bits must be an integer >= 1"):
        AdcCard.load(tmp_path / "bad.toml")
    with pytest.raises(FileFormatError):
        AdcCard.load(tmp_path / "none.toml")


def test_node_scaling() -> None:
    assert area_factor(45e-9, 32e-9) == 0.46
    assert area_factor(32e-9, 32e-9) == 1.0
    assert area_factor(38.5e-9, 38.5e-9) == 1.0
    assert area_factor(65e-9, 38.5e-9) == pytest.approx((0.66 + 0.31) / 2)
    assert energy_factor(65e-9, 45e-9) == pytest.approx((1.103 - 0.362 + 0.2767) / (3.755 - 4.398 + 1.975))
    for larger, smaller in itertools.pairwise(NODES):
        assert energy_factor(larger, smaller) < 1
        assert area_factor(larger, smaller) < 1
        assert energy_factor(larger, smaller) * energy_factor(smaller, larger) == pytest.approx(1)
    with pytest.raises(InputError, match=r"node must be .*1\.8e-07"):
        area_factor(180e-9, 32e-9)
    with pytest.raises(InputError, match=r"supply must be .*3\.0"):
        energy_factor(65e-9, 45e-9, 3.0)


# ---------------------------------------------------------------------------------------------- reports


def report() -> CostReport:
    return estimate([use("conv", arrays=9, vectors_per_image=64), use("fc", arrays=2, adc_bits=9)], ISAAC)


def test_frames_and_html() -> None:
    pandas = pytest.importorskip("pandas")
    peak, work = report(), report().workload()
    assert isinstance(peak.to_frame(), pandas.DataFrame)
    assert peak.to_frame("component")["power_W"].sum() == pytest.approx(peak.power)
    assert work.to_frame("part")["energy_J"].sum() == pytest.approx(work.energy)
    assert list(compare(peak, peak).to_frame()["relative"].dropna().unique()) == [0.0]
    for view in (peak._repr_html_(), work._repr_html_()):
        assert view.count("<details") == view.count("</details>") > 3
        assert "<b>conv</b>" in view
    assert "power (mW), share" in peak._repr_html_()
    for shown, total in ((peak, peak.power / 1e-3), (peak, peak.area / 1e-6), (work, work.energy / 1e-6)):
        assert f">{number(total)}</span>" in shown._repr_html_()


def test_a_frame_without_pandas_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ImportError, match="to_frame needs pandas"):
        report().to_frame()


def test_html_is_escaped() -> None:
    view = estimate([use("<script>")], ISAAC)._repr_html_()
    assert "<script>" not in view
    assert "&lt;script&gt;" in view


def test_sources_print_references_and_bibtex() -> None:
    sources = report().sources()
    text = str(sources)
    for words in ("10.1109/ISCA.2016.12", "@misc{isaac2016,", "author = {Shafiee, Ali and", "year = {2016}"):
        assert words in text
    assert sources.bibtex().count("@misc{") == len(sources)
    assert text.count("{") == text.count("}")
    bare = Reference(key="x", citation="A. Author, A title")
    assert bare.bibtex() == "@misc{x,\n  howpublished = {A. Author, A title}\n}"


def test_deltas() -> None:
    before, after = report(), estimate([use("conv", arrays=18, vectors_per_image=64)], ISAAC)
    deltas = compare(before, after, names=("one", "two"))
    assert (deltas["arrays"].before, deltas["arrays"].after) == (11, 18)
    assert deltas["arrays"].relative == pytest.approx(18 / 11 - 1)
    assert deltas["area"].difference == pytest.approx(after.area - before.area)
    assert deltas["ADC: area"].after == pytest.approx(18 * 1200e-12)
    assert deltas["ADC: energy"].after == pytest.approx(64 * 16 * 18 * 128 * 1.667e-12)
    text = str(deltas)
    assert "one" in text
    assert "two" in text
    assert "+7" in text
    same = compare(before, before)
    assert all(change.difference == 0 for change in (*same.changes, *same.components))
    with pytest.raises(InputError, match="after must be of type CostReport"):
        compare(before, "x")  # type: ignore[arg-type]
    gone = compare(estimate([], ISAAC), before)
    assert gone["area"].relative is None
    assert str(gone)
