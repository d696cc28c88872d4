"""What stays digital: counted by kind and name, shown, and priced where a card has prices."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cost.uses import use
from xbarsim.cost import (
    OPERATIONS,
    DigitalCard,
    DigitalPrices,
    DigitalUse,
    Hardware,
    SourcedValue,
    digital_names,
    estimate,
)
from xbarsim.cost.scaling import energy_factor
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import InputError

ISAAC = Hardware.load("isaac")
PRICED = ISAAC.with_digital("horowitz")

SCORES = DigitalUse(name="attention", kind="scores", multiply_accumulates=6000)
SOFTMAX = DigitalUse(name="attention", kind="softmax", elementwise=300, nonlinear=200, comparisons=100)
NORM = DigitalUse(name="norm", kind="LayerNorm", parameters=64, elementwise=1000, nonlinear=10)
WORDS = DigitalUse(name="words", kind="Embedding", parameters=10_000, lookups=320)
NEURONS = DigitalUse(name="neurons", kind="Neuron", state_accesses=40)
WORK = (SCORES, SOFTMAX, NORM, WORDS, NEURONS)


def test_the_digital_share_by_hand() -> None:
    """6,000 multiply-accumulates digitally beside 2048 x 5 on arrays."""
    report = estimate([use(vectors_per_image=5)], ISAAC, digital=WORK)
    assert report.digital_share == 6000 / (6000 + 2048 * 5)
    assert estimate([use()], ISAAC).digital_share == 0.0
    assert estimate([], ISAAC, digital=WORK).digital_share == 1.0
    assert estimate([], ISAAC).digital_share == 0.0
    text = str(report)
    assert "digital for one image: 36.9% of all multiply-accumulates" in text
    rows = {tuple(line.split()[:2]): line.split() for line in text.splitlines() if line.strip()}
    assert rows["attention", "scores"][2:] == ["0", "6,000", "0", "0", "0", "0", "0"]
    assert rows["(all)", "10,064"][1:] == ["10,064", "6,000", "1,300", "210", "100", "320", "40"]


def test_what_has_no_price_is_said_and_in_no_number() -> None:
    plain, report = estimate([use()], ISAAC), estimate([use()], ISAAC, digital=WORK)
    assert (report.power, report.area) == (plain.power, plain.area)
    assert report.workload().energy == plain.workload().energy
    assert report.workload().digital_energy == 0.0
    (note,) = (note for note in report.notes if "no price" in note)
    assert re.findall(r"([a-z-]+) \(([\d,]+)\)", note) == [
        ("multiply-accumulates", "6,000"),
        ("elementwise", "1,300"),
        ("nonlinear", "210"),
        ("comparisons", "100"),
        ("lookups", "320"),
        ("state-accesses", "40"),
    ]
    assert "10,064 parameters are held digitally: no card charges their memory" in report.notes
    assert "digital operations have no part in peak power, area and time" in report.notes
    assert "not in the energy" in str(report.workload())
    assert not any("digital" in note for note in plain.notes)


def test_the_energy_of_digital_operations_by_hand() -> None:
    """Horowitz's 0.9, 3.7 and 5 pJ at 45 nm, scaled to ISAAC's 32 nm by Stillmaker and Baas's polynomials at 1 V."""
    at_45, at_32 = 1.103 - 0.362 + 0.2767, 0.9559 - 0.7823 + 0.471
    scale = at_32 / at_45
    plain, work = (estimate([use()], card, digital=WORK).workload() for card in (ISAAC, PRICED))
    expected = scale * (6000 * (3.7 + 0.9) + 1300 * 3.7 + 100 * 0.9 + 40 * 5) * 1e-12
    assert work.digital_energy == pytest.approx(expected, rel=1e-12)
    assert work.energy == pytest.approx(plain.energy + expected, rel=1e-12)
    assert (work.interval, work.latency) == (plain.interval, plain.latency)
    assert work.average_power == pytest.approx(work.energy * work.images_per_second, rel=1e-12)
    by_kind = {cost.name: cost.energy for cost in work.components if cost.level == "digital"}
    assert by_kind["comparisons"] == pytest.approx(scale * 90e-12, rel=1e-12)
    assert by_kind["state-accesses"] == pytest.approx(scale * 200e-12, rel=1e-12)
    assert set(by_kind) == {"multiply-accumulates", "elementwise", "comparisons", "state-accesses"}
    # what Horowitz has no number for is still said
    assert any("nonlinear (210), lookups (320)" in note for note in work.peak.notes)
    assert any("Horowitz" in source for source in work.peak.sources())  # type: ignore[attr-defined]


counts = st.integers(0, 10**9) | st.floats(0, 1e9)


@st.composite
def digital_uses(draw: st.DrawFn) -> DigitalUse:
    return DigitalUse(
        name=draw(st.sampled_from(["", "a", "b.c"])),
        kind=draw(st.sampled_from(["softmax", "LayerNorm"])),
        parameters=draw(st.integers(0, 10**9)),
        **{operation: draw(counts) for operation in OPERATIONS},
    )


@settings(max_examples=50)
@given(st.lists(digital_uses(), max_size=12), st.booleans())
def test_every_view_adds_up(digital: list[DigitalUse], priced: bool) -> None:
    report = estimate([use(vectors_per_image=3)], PRICED if priced else ISAAC, digital=digital)
    work = report.workload()
    for by in ("part", "component", "layer"):
        assert math.fsum(row["energy_J"] for row in work.to_rows(by)) == pytest.approx(work.energy, rel=1e-9)
    assert work.tree()["energy"] == pytest.approx(work.energy, rel=1e-9)
    assert 0.0 <= report.digital_share <= 1.0
    assert report.with_uses([use()]).digital == tuple(digital)
    kinds = ("multiply_accumulates", "elementwise", "comparisons", "state_accesses")
    assert (work.digital_energy > 0) == (priced and any(getattr(each, kind) for kind in kinds for each in digital))
    assert str(report)
    assert str(work)


def test_only_the_largest_are_listed_and_the_rest_is_added_up() -> None:
    digital = [DigitalUse(name=f"d{k:02}", kind="ReLU", comparisons=2**k) for k in range(12)]
    text = str(estimate([use()], ISAAC, digital=digital))
    shown = re.findall(r"^(d\d\d)", text, re.MULTILINE)
    assert shown == [f"d{k:02}" for k in range(11, 3, -1)]
    (rest,) = re.findall(r"^\(4 more\).*", text, re.MULTILINE)
    assert rest.split()[-3] == str(1 + 2 + 4 + 8)


def test_counts_stay_whole_where_they_are() -> None:
    made = DigitalUse(name="", kind="ReLU", comparisons=3.0, elementwise=0.5)
    assert made.name == "(model)"
    assert isinstance(made.comparisons, int)
    assert made.operations == 3.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": 3}, "name must be of type str"),
        ({"name": " "}, "name must be a non-empty text"),
        ({"kind": ""}, "a: kind must be a non-empty text"),
        ({"parameters": -1}, "a: parameters must be an integer >= 0"),
        ({"parameters": 1.5}, "a: parameters must be an integer >= 0"),
        ({"lookups": -1}, "a: lookups must be an integer >= 0"),
        ({"elementwise": -0.5}, "a: elementwise must be a finite number >= 0"),
        ({"nonlinear": math.nan}, "a: nonlinear must be a finite number"),
        ({"comparisons": True}, "a: comparisons must be an integer"),
        ({"multiply_accumulates": "9"}, "a: multiply_accumulates must be a finite number"),
    ],
)
def test_impossible_counts_are_refused(change: dict[str, Any], message: str) -> None:
    fields: dict[str, Any] = {"name": "a", "kind": "b"}
    with pytest.raises(InputError, match=re.escape(message)):
        DigitalUse(**(fields | change))


def test_other_bad_input_is_refused() -> None:
    with pytest.raises(InputError, match=r"digital\[0\] must be of type DigitalUse"):
        estimate([use()], ISAAC, digital=["softmax"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="digital must be of type list or tuple"):
        estimate([use()], ISAAC, digital=SCORES)  # type: ignore[arg-type]
    node = SourcedValue(value=45, unit="nm", origin="assumed", source="a", note="-")
    joule = SourcedValue(value=1, unit="pJ", origin="assumed", source="a", note="-")
    with pytest.raises(InputError, match="digital must have a price"):
        DigitalPrices(technology_node=node)
    with pytest.raises(InputError, match=r"digital\.lookups\.unit must be a unit like 'pJ'"):
        DigitalPrices(technology_node=node, lookups=dataclasses.replace(joule, unit="mW"))
    with pytest.raises(InputError, match=r"node must be .* <= 1\.3e-07"):
        DigitalPrices(technology_node=dataclasses.replace(node, value=500), lookups=joule)
    with pytest.raises(InputError, match="source must be one of"):
        dataclasses.replace(ISAAC, digital=DigitalPrices(technology_node=node, lookups=joule))


@pytest.mark.parametrize("name", digital_names())
def test_cards_of_prices_round_trip_and_say_where_they_come_from(name: str) -> None:
    card = DigitalCard.load(name)
    assert card.name == name
    assert tomlio.loads(DigitalCard, tomlio.dumps(card)) == card
    with_it = ISAAC.with_digital(card)
    assert tomlio.loads(Hardware, tomlio.dumps(with_it)) == with_it
    assert with_it.digital is not None
    assert with_it.digital.energy("comparisons", 45e-9) == pytest.approx(0.9e-12 * energy_factor(45e-9, 45e-9))
    assert {row["name"] for row in with_it.values()} >= {"digital.elementwise", "digital.technology_node"}


def test_cards_from_before_there_was_a_price_of_states_are_read(tmp_path: Path) -> None:
    """Saved cards of prices and of hardware lack the key: everything else is priced as it was, and states are said."""
    card = DigitalCard.load("horowitz2014")
    price = card.digital.state_accesses
    assert price is not None
    section = re.compile(r"\[digital\.state_accesses\]\n(?:[^\[\n].*\n)*")
    texts = [section.sub("", tomlio.dumps(each)) for each in (card, PRICED)]
    assert all("[digital.comparisons]" in text and "state_accesses" not in text for text in texts)
    without = dataclasses.replace(card, digital=dataclasses.replace(card.digital, state_accesses=None))
    assert tomlio.loads(DigitalCard, texts[0]) == without
    path = tmp_path / "saved.digital.toml"
    path.write_text(texts[0])
    old = tomlio.loads(Hardware, texts[1])
    assert old == ISAAC.with_digital(str(path)) == ISAAC.with_digital(without)
    now, then = (estimate([use()], hardware, digital=WORK).workload() for hardware in (PRICED, old))
    assert then.digital_energy > 0
    of_states = 40 * price.si * energy_factor(45e-9, 32e-9)
    assert now.digital_energy - then.digital_energy == pytest.approx(of_states, rel=1e-9)
    assert any("lookups (320), state-accesses (40)" in note for note in then.peak.notes)
    assert old.digital is not None
    assert old.digital.energy("state_accesses", 45e-9) is None


def test_a_layer_that_serves_a_share_of_the_images() -> None:
    """A quarter of the images need it once: a quarter of the energy of its actions, and the time of those that do."""
    whole, share = (estimate([use("", vectors_per_image=v)], ISAAC) for v in (1, 0.25))
    one, quarter = whole.workload(), share.workload()
    assert quarter.dynamic_energy == pytest.approx(one.dynamic_energy / 4, rel=1e-12)
    assert (quarter.latency, quarter.interval) == (one.latency, one.interval)
    assert quarter.operations == 2 * 2048 * 0.25
    assert share.layers[0].use.name == "(model)"
    assert any("(model) takes 0.25 vectors an image in the mean" in note for note in share.notes)
    assert quarter.layers[0].actions.conversion == 16 * 128 / 4


@given(st.integers(0, 1000))
def test_whole_vectors_stay_whole(vectors: int) -> None:
    assert use(vectors_per_image=vectors) == use(vectors_per_image=float(vectors))
    assert isinstance(use(vectors_per_image=float(vectors)).vectors_per_image, int)


@settings(max_examples=30)
@given(st.floats(0.01, 40), st.integers(1, 60))
def test_copies_of_a_share_are_those_of_the_next_whole_number(vectors: float, arrays: int) -> None:
    some, next_whole = (
        estimate([use(vectors_per_image=v)], ISAAC).workload(replication=arrays) for v in (vectors, math.ceil(vectors))
    )
    assert some.layers[0].use.copies == next_whole.layers[0].use.copies
    assert some.latency == next_whole.latency
    assert some.dynamic_energy == pytest.approx(next_whole.dynamic_energy * vectors / math.ceil(vectors), rel=1e-9)


@pytest.mark.parametrize("value", [-0.5, math.nan, math.inf, True, "1", None])
def test_impossible_vectors_are_refused(value: Any) -> None:
    with pytest.raises(InputError, match="layer: vectors_per_image must be"):
        use(vectors_per_image=value)
