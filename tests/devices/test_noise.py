"""Read noise: closed forms, two-state signals counted out, and its way through the plans."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import nn

import xbarsim as xb
from tests.strategies import ALL_ENCODINGS, EngineCase, engine_cases
from xbarsim.devices import (
    Cell,
    FlickerNoise,
    NoiseModel,
    NoiseVariance,
    Polynomial,
    ReadNoise,
    ShotNoise,
    StuckFaults,
    SummedNoise,
    TelegraphNoise,
    ThermalNoise,
)
from xbarsim.engine import Noise
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.mapping import Encoding, Mapping, TwoColumn
from xbarsim.network import Chip, map_model

Array = npt.NDArray[Any]

ALARM = 1e-6  # two-sided false-alarm rate of each test of a variance; seeds are fixed

pytestmark = pytest.mark.usefixtures("one_thread")

MODELS: dict[str, NoiseModel] = {
    "measured": ReadNoise(spread=Polynomial(coefficients=(1e-8, 0.02), scale=1.0), valid_from=1e-7, valid_to=1e-4),
    "thermal": ThermalNoise(temperature=350.0, bandwidth=2e8),
    "shot": ShotNoise(bandwidth=3e8, fano=0.5),
    "flicker": FlickerNoise(coefficient=1e-4, low_frequency=1e-3, high_frequency=1e7),
    "telegraph": TelegraphNoise(saturation=0.4, corner=2e-5, probability=0.3),
    "frozen": TelegraphNoise(saturation=0.4, corner=2e-5, probability=0.3, frozen=True),
}
MODELS["flicker of phase change"] = FlickerNoise(
    coefficient=1e-4, low_frequency=1e-3, high_frequency=1e7, scale=1e-5, exponent=-1.3, largest=1e-3
)
MODELS["telegraph in a band"] = TelegraphNoise(
    saturation=0.4, corner=2e-5, probability=0.3, switching_time=1e-4, low_frequency=1.0, high_frequency=1e5
)
MODELS["sum"] = SummedNoise(mechanisms=tuple(MODELS[name] for name in ("thermal", "shot", "flicker", "telegraph")))


def cell(noise: NoiseModel | None, **changes: Any) -> Cell:
    given: dict[str, Any] = {"g_min": 1e-6, "g_max": 1.6e-5, "levels": 16, "read_voltage": 0.2, "read_noise": noise}
    return Cell(**{**given, **changes})


# --- closed forms


def test_thermal_noise_by_hand() -> None:
    """100 uS at 300 K in 1 MHz: sqrt(4 k T g B) = 1.287 nA; at 0.1 V that is 12.87 nS."""
    variance = ThermalNoise(bandwidth=1e6).variance([1e-4], 0.1)
    assert math.sqrt(float(variance.constant[0])) * 0.1 == pytest.approx(1.287e-9, rel=1e-3)
    assert variance.linear.tolist() == variance.quadratic.tolist() == [0.0]
    assert variance(0)[0] == variance(7)[0] == variance.constant[0]
    # a 1 kohm resistor has the textbook 4.07 nV / sqrt(Hz) at 300 K
    voltage = math.sqrt(float(ThermalNoise(bandwidth=1.0).variance(1e-3, 1.0).constant)) / 1e-3
    assert voltage == pytest.approx(4.07e-9, rel=1e-3)


def test_shot_noise_by_hand() -> None:
    """10 uA in 1 MHz: sqrt(2 q I B) = 1.790 nA, whatever share of the voltage one code is."""
    for codes in (1, 3, 255):
        unit = 0.1 / codes
        variance = ShotNoise(bandwidth=1e6).variance([1e-4], unit)
        assert math.sqrt(float(variance(codes)[0])) * unit == pytest.approx(1.790e-9, rel=1e-3)
        assert variance(0)[0] == 0.0
        assert variance(2 * codes)[0] == pytest.approx(2 * variance(codes)[0])
    third = ShotNoise(bandwidth=1e6, fano=1 / 3).variance([1e-4], 0.1)
    assert third.linear[0] == pytest.approx(float(ShotNoise(bandwidth=1e6).variance([1e-4], 0.1).linear[0]) / 3)


def test_flicker_noise_by_hand() -> None:
    """A relative density of 1e-6 / f from 1 Hz to e^4 Hz: 2e-3 of the conductance, at any voltage."""
    noise = FlickerNoise(coefficient=1e-6, low_frequency=1.0, high_frequency=math.exp(4.0))
    np.testing.assert_allclose(np.sqrt(noise.variance([1e-6, 1e-4], None).quadratic), [2e-9, 2e-7], rtol=1e-12)
    hooge = FlickerNoise.hooge(alpha=2e-3, carriers=2e3, low_frequency=1.0, high_frequency=math.exp(4.0))
    assert hooge.coefficient == pytest.approx(1e-6)
    assert hooge == dataclasses.replace(noise, coefficient=hooge.coefficient)


def test_telegraph_noise_by_hand() -> None:
    """Half the saturation at the corner; both states from the mean; variance p (1 - p) amplitude^2."""
    noise = TelegraphNoise(saturation=0.5, corner=1e-5, probability=0.2)
    np.testing.assert_allclose(noise.amplitude([0.0, 1e-5, 1e-3]), [0.0, 0.25e-5, 0.5e-3 / 101])
    np.testing.assert_allclose(noise.variance([1e-5], None).quadratic, [0.16 * 0.25e-5**2])
    states = dataclasses.replace(noise, frozen=True).settle(np.full(100_000, 1e-5), np.random.default_rng(1))
    low, high = 1e-5 - 0.8 * 0.25e-5, 1e-5 + 0.2 * 0.25e-5
    np.testing.assert_allclose(np.unique(states), [low, high])
    count = int((states < 1e-5).sum())
    assert abs(count - 20_000) < stats.norm.isf(ALARM / 2) * math.sqrt(100_000 * 0.16)


# --- variances as integrals of spectral densities over the band of a read-out


def over_band(density: Callable[[float], float], low: float, high: float) -> float:
    """The integral of a spectral density of one argument, by quadrature in the logarithm of frequency."""
    steps = np.linspace(math.log(low), math.log(high), 9)
    return math.fsum(
        float(integrate.quad(lambda u: density(math.exp(u)) * math.exp(u), a, b, epsabs=0, epsrel=1e-10)[0])
        for a, b in itertools.pairwise(steps)
    )


@settings(deadline=None, max_examples=15)
@given(st.floats(1e-8, 1e-3), st.floats(0.01, 1.0), st.floats(1.0, 1e9))
def test_white_noise_is_its_density_times_the_bandwidth(g: float, voltage: float, bandwidth: float) -> None:
    """Against the currents' densities 4 k T g and 2 q I, A^2/Hz, integrated from 0."""
    thermal = float(ThermalNoise(temperature=350.0, bandwidth=bandwidth).variance(g, voltage)(1))
    by_integral = integrate.quad(lambda f: 4 * 1.380649e-23 * 350.0 * g, 0.0, bandwidth)[0]
    assert thermal * voltage**2 == pytest.approx(by_integral, rel=1e-9)
    shot = float(ShotNoise(fano=0.5, bandwidth=bandwidth).variance(g, voltage)(1))
    by_integral = integrate.quad(lambda f: 2 * 1.602176634e-19 * 0.5 * g * voltage, 0.0, bandwidth)[0]
    assert shot * voltage**2 == pytest.approx(by_integral, rel=1e-9)


@settings(deadline=None, max_examples=15)
@given(st.floats(1e-8, 1e-3), st.floats(-1.9, 1.0), st.floats(1e-3, 1.0), st.floats(10.0, 1e8))
def test_flicker_noise_is_its_density_over_the_band(g: float, exponent: float, low: float, high: float) -> None:
    noise = FlickerNoise(
        coefficient=1e-5, low_frequency=low, high_frequency=high, scale=2e-5, exponent=exponent, largest=1e-3
    )
    relative = min(1e-5 * (g / 2e-5) ** exponent, 1e-3)
    expected = over_band(lambda f: relative * g**2 / f, low, high)
    assert float(noise.variance(g, None).quadratic) == pytest.approx(expected, rel=1e-9)
    assert noise.variance([0.0], None).quadratic.tolist() == [0.0]


@settings(deadline=None, max_examples=15)
@given(st.floats(1e-8, 1e-3), st.floats(1e-6, 1e2), st.floats(1e-3, 1.0), st.floats(10.0, 1e7))
def test_telegraph_noise_is_its_lorentzian_over_the_band(g: float, time: float, low: float, high: float) -> None:
    """The Lorentzian of a two-state signal (Machlup 1954), integrated."""
    whole = TelegraphNoise(saturation=0.3, corner=1e-5, probability=0.2)
    noise = dataclasses.replace(whole, switching_time=time, low_frequency=low, high_frequency=high)
    variance = 0.16 * float(whole.amplitude(g)) ** 2
    expected = over_band(lambda f: 4 * variance * time / (1 + (2 * math.pi * f * time) ** 2), low, high)
    assert float(noise.variance(g, None).quadratic) == pytest.approx(expected, rel=1e-8)
    assert 0.0 < noise.share < 1.0 == whole.share
    everything = dataclasses.replace(noise, low_frequency=0.0, high_frequency=1e12 / time)
    assert everything.share == pytest.approx(1.0)


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.floats(1e-7, 1e-4), min_size=1, max_size=8),
    st.floats(0.0, 1.0),
    st.floats(0.0, 1.0),
    st.lists(st.integers(0, 3), min_size=8, max_size=8),
)
def test_a_sum_of_telegraph_signals_has_the_stated_mean_and_variance(
    conductances: list[float], saturation: float, probability: float, codes: list[int]
) -> None:
    """Counted out over all states of up to eight cells."""
    noise = TelegraphNoise(saturation=saturation, corner=1e-5, probability=probability)
    g, x = np.array(conductances), np.array(codes[: len(conductances)], dtype=float)
    amplitude = noise.amplitude(g)
    mean = second = 0.0
    for low in itertools.product((False, True), repeat=len(g)):
        chance = math.prod(probability if is_low else 1 - probability for is_low in low)
        held = g + np.where(low, probability - 1, probability) * amplitude
        assert (held >= 0).all()
        value = float(x @ held)
        mean += chance * value
        second += chance * (value - float(x @ g)) ** 2
    assert mean == pytest.approx(float(x @ g), rel=1e-9, abs=1e-18)
    assert second == pytest.approx(float(noise.variance(g, None)(x).sum()), rel=1e-9, abs=1e-24)


def test_a_measured_law_holds_its_ends() -> None:
    law = MODELS["measured"]
    np.testing.assert_allclose(law.variance([0.0, 1e-7], None).quadratic, 2 * [(1e-8 + 0.02 * 1e-7) ** 2])
    np.testing.assert_allclose(law.variance([1e-3], None).quadratic, [(1e-8 + 0.02 * 1e-4) ** 2])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0.0, 1e-3), min_size=1, max_size=5), st.floats(1e-3, 1.0), st.integers(0, 255))
def test_variances_add_in_quadrature(conductances: list[float], voltage: float, code: int) -> None:
    total = MODELS["sum"].variance(conductances, voltage)(code)
    parts = [MODELS[name].variance(conductances, voltage)(code) for name in ("thermal", "shot", "flicker", "telegraph")]
    np.testing.assert_allclose(total, np.sum(parts, axis=0), rtol=1e-12)
    assert (np.asarray(parts) >= 0).all()


def test_a_sum_knows_its_parts() -> None:
    nested = SummedNoise(mechanisms=(MODELS["sum"], MODELS["frozen"], MODELS["measured"]))
    assert [type(term).__name__ for term in nested.terms] == [
        "ThermalNoise",
        "ShotNoise",
        "FlickerNoise",
        "TelegraphNoise",
        "TelegraphNoise",
        "ReadNoise",
    ]
    assert (nested.per_read, nested.per_die) == (True, True)
    assert (MODELS["frozen"].per_read, MODELS["frozen"].per_die) == (False, True)
    assert (MODELS["sum"].per_read, MODELS["sum"].per_die) == (True, False)
    assert nested.valid_range() == (1e-7, 1e-4)
    g = np.full(1000, 1e-5)
    both = SummedNoise(mechanisms=(MODELS["frozen"], MODELS["frozen"])).settle(g, np.random.default_rng(1))
    rng = np.random.default_rng(1)
    one, two = (MODELS["frozen"].settle(g, rng) for _ in range(2))
    np.testing.assert_allclose(both, one + two - g)


# --- cells


@pytest.mark.parametrize("name", MODELS)
def test_a_noisy_cell_survives_toml(name: str) -> None:
    made = cell(MODELS[name])
    assert tomlio.loads(Cell, tomlio.dumps(made)) == made
    design = xb.Design(cell=made)
    assert xb.Design.from_toml(design.to_toml()) == design
    assert type(MODELS[name]).__name__ in str(MODELS[name]) or name == "sum"
    assert "None" not in str(MODELS[name])


def test_a_field_that_is_not_given_leaves_no_trace_in_a_file() -> None:
    """So that designs of before, and what is named after them, stay what they are."""
    assert set(tomlio.to_table(MODELS["flicker"])) == {"type", "coefficient", "low_frequency", "high_frequency"}
    assert set(tomlio.to_table(MODELS["telegraph"])) == {"type", "saturation", "corner", "probability", "frozen"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'type = "ThermalNoise"',
            'type = "PinkNoise"',
            r"read_noise.type must be one of .*'ThermalNoise'.*'PinkNoise'",
        ),
        ('type = "ThermalNoise"', "", r"read_noise.type must be one of"),
        ("bandwidth", "band", r"no key 'band'"),
        ("temperature = 350.0", 'temperature = "warm"', r"read_noise.temperature must be float"),
    ],
)
def test_noise_in_toml_is_read_strictly(old: str, new: str, message: str) -> None:
    text = tomlio.dumps(cell(MODELS["thermal"]))
    assert old in text
    with pytest.raises(FileFormatError, match=message):
        tomlio.loads(Cell, text.replace(old, new))


def test_a_cell_counts_in_its_own_levels_and_codes() -> None:
    """Level step 1 uS, 0.2 V at code 3: thermal noise over (0.2 / 3 V)^2, all of it over (1 uS)^2."""
    made = cell(MODELS["sum"])
    variance = made.read_variance(np.array([0.0, 15.0]), 4, 3)
    expected = MODELS["sum"].variance([1e-6, 1.6e-5], 0.2 / 3)
    for name in ("constant", "linear", "quadratic"):
        np.testing.assert_allclose(getattr(variance, name), getattr(expected, name) / 1e-12, rtol=1e-9)
    assert made.noisy
    assert made.exact
    assert not cell(MODELS["frozen"]).exact
    assert not cell(MODELS["frozen"]).noisy
    assert not made.without_errors().noisy
    with pytest.raises(InputError, match=r"read_noise must be given, got None for cell 'custom'"):
        cell(None).read_variance([0.0], 4, 1)


def test_frozen_states_lie_on_the_grid_and_come_from_the_generator() -> None:
    made, levels = cell(MODELS["frozen"]), np.repeat(np.arange(16, dtype=np.float32), 500)
    held = made.settle(levels, 4, np.random.default_rng(1))
    np.testing.assert_array_equal(held, made.settle(levels, 4, np.random.default_rng(1)))
    np.testing.assert_array_equal(held * 2.0**16, np.rint(held * 2.0**16))
    assert held.dtype == np.float32
    assert all(len(np.unique(held[levels == level])) == 2 for level in range(16))
    np.testing.assert_array_equal(cell(MODELS["sum"]).settle(levels, 4, np.random.default_rng(1)), levels)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ThermalNoise(bandwidth=0.0), r"bandwidth must be a finite number > 0.0, got 0.0"),
        (lambda: ThermalNoise(bandwidth=math.nan), r"bandwidth must be .*got nan"),
        (lambda: ThermalNoise(temperature=-1.0, bandwidth=1.0), r"temperature must be .*> 0.0, got -1.0"),
        (lambda: ShotNoise(bandwidth=-1.0), r"bandwidth must be .*> 0.0, got -1.0"),
        (lambda: ShotNoise(bandwidth=1.0, fano=1.5), r"fano must be .*<= 1.0, got 1.5"),
        (lambda: FlickerNoise(coefficient=-1.0, low_frequency=1.0, high_frequency=2.0), r"coefficient must be .*>= 0"),
        (lambda: FlickerNoise(coefficient=1.0, low_frequency=0.0, high_frequency=2.0), r"low_frequency must be .*> 0"),
        (
            lambda: FlickerNoise(coefficient=1.0, low_frequency=2.0, high_frequency=2.0),
            r"high_frequency must be .*> 2.0, got 2.0",
        ),
        (
            lambda: FlickerNoise.hooge(alpha=1.0, carriers=0.0, low_frequency=1.0, high_frequency=2.0),
            r"carriers must be .*> 0.0, got 0.0",
        ),
        (lambda: TelegraphNoise(saturation=1.1, corner=1e-5), r"saturation must be .*<= 1.0, got 1.1"),
        (lambda: TelegraphNoise(saturation=0.1, corner=0.0), r"corner must be .*> 0.0, got 0.0"),
        (lambda: TelegraphNoise(saturation=0.1, corner=1e-5, probability=-0.1), r"probability must be .*got -0.1"),
        (
            lambda: FlickerNoise(coefficient=1.0, low_frequency=1.0, high_frequency=2.0, scale=1e-5),
            r"scale and exponent must be given together, got 1e-05 and None",
        ),
        (
            lambda: FlickerNoise(coefficient=1.0, low_frequency=1.0, high_frequency=2.0, scale=1e-5, exponent=-2.0),
            r"exponent must be .*> -2.0 and <= 2.0, got -2.0",
        ),
        (
            lambda: FlickerNoise(coefficient=1.0, low_frequency=1.0, high_frequency=2.0, largest=1.0),
            r"largest must be None where the coefficient is the same for all, got 1.0",
        ),
        (
            lambda: TelegraphNoise(saturation=0.1, corner=1e-5, switching_time=1.0),
            r"switching_time, low_frequency and high_frequency must be given together, got 1.0, None and None",
        ),
        (
            lambda: TelegraphNoise(
                saturation=0.1, corner=1e-5, frozen=True, switching_time=1.0, low_frequency=0.0, high_frequency=1.0
            ),
            r"switching_time must be None for a frozen state, got 1.0",
        ),
        (
            lambda: TelegraphNoise(
                saturation=0.1, corner=1e-5, switching_time=1.0, low_frequency=2.0, high_frequency=1.0
            ),
            r"high_frequency must be .*> 2.0, got 1.0",
        ),
        (lambda: TelegraphNoise(saturation=0.1, corner=1e-5, frozen=1), r"frozen must be of type bool"),  # type: ignore[arg-type]
        (lambda: SummedNoise(mechanisms=()), r"mechanisms must hold at least one model, got \(\)"),
        (lambda: SummedNoise(mechanisms=[]), r"mechanisms must be of type tuple"),  # type: ignore[arg-type]
        (lambda: SummedNoise(mechanisms=(1,)), r"mechanisms\[0\] must be of type NoiseModel"),  # type: ignore[arg-type]
        (
            lambda: cell(MODELS["thermal"], read_voltage=None),
            r"read_voltage must be given for ThermalNoise, got None",
        ),
        (
            lambda: cell(MODELS["sum"], read_voltage=None),
            r"read_voltage must be given for ThermalNoise and ShotNoise, got None",
        ),
        (lambda: cell(MODELS["measured"], g_max=2e-4), r"where read_noise is valid"),
        (lambda: cell(0.1), r"read_noise must be of type NoiseModel"),  # type: ignore[arg-type]
        (lambda: MODELS["shot"].variance([1e-5], None), r"code_voltage must be given for ShotNoise, got None"),
        (lambda: MODELS["shot"].variance([1e-5], 0.0), r"code_voltage must be .*> 0.0, got 0.0"),
        (lambda: cell(MODELS["sum"]).read_variance([0.0], 4, 0), r"max_code must be an integer >= 1, got 0"),
        (lambda: cell(MODELS["frozen"]).settle([0.0], 4, 7), r"rng must be of type Generator"),  # type: ignore[arg-type]
    ],
)
def test_bad_noise_is_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


# --- through the plans


def polynomials(shape: tuple[int, ...], seed: int) -> Noise:
    """Noise with all three terms, exact on any grid: no rounding decides a converter's code."""
    rng = np.random.default_rng(seed)
    spread = (rng.integers(0, 60, size=shape) * 2.0**-8).astype(np.float32)
    linear, constant = (rng.integers(0, 60, size=shape) * 2.0**-12 for _ in range(2))
    return Noise(spread=spread, key=seed, linear=linear, constant=constant)


def by_reference(case: EngineCase, noise: Noise) -> Array:
    mapped, drive = case.mapped, case.drive
    reads = mapped.mapping.columns // 2 if case.design.subtraction == "analog" else mapped.mapping.columns
    shape = (drive.passes, drive.planes, mapped.tiles, reads * drive.row_group_count(mapped.mapping.rows))
    images, positions, _ = case.codes.shape
    flat = case.product(
        case.vectors,
        case.cells,
        noise_spread=noise.spread,
        noise_linear=noise.linear,
        noise_constant=noise.constant,
        normals=np.concatenate([noise.normals(image, (positions, *shape)) for image in range(images)]),
    )
    return flat.reshape(images, positions, -1)


@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
def test_plans_with_converters_equal_the_reference(encoding: Encoding) -> None:
    @settings(deadline=None, max_examples=5)
    @given(
        case=engine_cases(encoding=encoding, converters=("coarse", "full", "clipping", "lossless")),
        seed=st.integers(0, 99),
    )
    def check(case: EngineCase, seed: int) -> None:
        noise = polynomials(case.cells.shape, seed)
        plan = case.plan(case.cells, noise, precision="double")
        expected = by_reference(case, noise)
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(plan.multiply(case.codes), expected, rtol=0, atol=1e-6 * scale)

    check()


class Line(nn.Module):
    """One linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(12, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        answer: torch.Tensor = self.layer(x)
        return answer


def chip(noise: NoiseModel | None, seed: int = 3, faults: StuckFaults | None = None, **periphery: Any) -> Chip:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = Line()
    design = xb.Design(
        cell=cell(noise),
        mapping=Mapping(encoding=TwoColumn(), rows=12, columns=16, weight_bits=5, cell_bits=2),
        periphery=xb.Periphery(input_bits=4, dac_bits=2, **periphery),
        faults=faults,
    )
    calibration = torch.rand(20, 12, generator=torch.Generator().manual_seed(2))
    return map_model(model, design, calibration=calibration).fabricate(seed=seed)


# Each as loud as the others in these cells: no real read-out is that fast.
LOUD = (
    ThermalNoise(temperature=350.0, bandwidth=5e10),
    ShotNoise(bandwidth=1.6e11, fano=0.5),
    FlickerNoise(coefficient=1e-3, low_frequency=1e-3, high_frequency=1e7),
    TelegraphNoise(saturation=0.4, corner=2e-5, probability=0.3),
)


def in_amperes(one: Chip, codes: Array, trials: int, rng: np.random.Generator) -> Array:
    """Sums of a layer on one tile of pairs, from the noisy current of every cell, shape (trials, outputs)."""
    layer = one.layers["layer"]
    held, bits = layer.design.cell, layer.design.mapping.cell_bits
    g = held.conductance(layer.cells()[0], bits)
    assert layer.matrix.tiles == 1
    thermal, shot, flicker, telegraph = LOUD
    assert isinstance(thermal, ThermalNoise)
    assert isinstance(shot, ShotNoise)
    assert isinstance(flicker, FlickerNoise)
    assert isinstance(telegraph, TelegraphNoise)
    unit = 0.2 / 3
    outputs, slices = 3, 2
    total = np.zeros((trials, outputs))
    for plane in range(2):
        x = ((codes >> (2 * plane)) & 3).astype(float)[:, np.newaxis]
        shape = (trials, *g.shape)
        relative = flicker.coefficient * math.log(flicker.high_frequency / flicker.low_frequency)
        low = rng.random(shape) < telegraph.probability
        fluctuating = g * (1 + math.sqrt(relative) * rng.standard_normal(shape))
        fluctuating += np.where(low, telegraph.probability - 1, telegraph.probability) * telegraph.amplitude(g)
        current = x * unit * fluctuating
        current += np.sqrt(4 * 1.380649e-23 * thermal.temperature * g * thermal.bandwidth) * rng.standard_normal(shape)
        mean_current = x * unit * g
        spread = np.sqrt(2 * 1.602176634e-19 * shot.fano * mean_current * shot.bandwidth)
        current += spread * rng.standard_normal(shape)
        columns = current.sum(axis=1) / (unit * held.level_step(bits))
        pairs = (columns[:, 0::2] - columns[:, 1::2])[:, : outputs * slices].reshape(trials, outputs, slices)
        total += 4**plane * (pairs[:, :, 0] + 4 * pairs[:, :, 1])
    return total


def test_the_spread_of_outputs_is_that_of_noisy_currents() -> None:
    """A plan's draws, and every cell's current drawn by itself, against one another; every term matters here."""
    one = chip(SummedNoise(mechanisms=LOUD))
    layer = one.layers["layer"]
    plan = layer.plan()
    assert plan.name == "folded"
    codes = np.array([0, 15, 1, 2, 0, 7, 9, 0, 12, 3, 0, 5], dtype=np.int32)
    trials = 3000
    many = np.broadcast_to(codes, (30, trials // 30, 12)).copy()
    by_plan = plan.multiply(many).reshape(trials, 3)
    quiet = chip(None).layers["layer"].plan().multiply(codes[None, None])[0, 0]
    by_cell = in_amperes(one, codes, trials, np.random.default_rng(5))
    ratio = by_plan.var(axis=0, ddof=1) / by_cell.var(axis=0, ddof=1)
    low, high = stats.f.ppf([ALARM / 2, 1 - ALARM / 2], trials - 1, trials - 1)
    assert ((low < ratio) & (ratio < high)).all()
    bound = stats.norm.isf(ALARM / 2) * by_plan.std(axis=0) / math.sqrt(trials)
    assert (np.abs(by_plan.mean(axis=0) - quiet) < bound).all()
    assert (np.abs(by_cell.mean(axis=0) - quiet) < bound).all()
    # without any one of the mechanisms the spread would be another
    for left_out in range(4):
        rest = SummedNoise(mechanisms=LOUD[:left_out] + LOUD[left_out + 1 :])
        less = chip(rest).layers["layer"].plan().multiply(many).reshape(trials, 3)
        assert (less.var(axis=0, ddof=1) / by_cell.var(axis=0, ddof=1)).min() < low


def test_thermal_noise_stays_without_inputs_and_the_others_go() -> None:
    codes = np.zeros((2, 100, 12), np.int32)
    for name in ("shot", "flicker", "telegraph", "measured"):
        assert (chip(MODELS[name]).layers["layer"].plan().multiply(codes) == 0).all()
    answers = chip(MODELS["thermal"]).layers["layer"].plan().multiply(codes).reshape(200, 3)
    layer = chip(MODELS["thermal"]).layers["layer"]
    variance = layer.design.cell.read_variance(layer.cells()[0], 2, 3).constant.sum(axis=0)  # of each column
    pairs = (variance[0::2] + variance[1::2])[:6].reshape(3, 2)
    expected = (1 + 16) * (pairs[:, 0] + 16 * pairs[:, 1])
    low, high = stats.chi2.ppf([ALARM / 2, 1 - ALARM / 2], answers.size)
    assert low < float((answers**2 / expected).sum()) < high


def test_a_frozen_die_reads_the_same_for_ever() -> None:
    inputs = torch.rand(1, 12, generator=torch.Generator().manual_seed(4)).expand(5, -1).contiguous()
    one, other = chip(MODELS["frozen"]), chip(MODELS["frozen"], seed=4)
    answers = one(inputs)
    assert len({tuple(row.tolist()) for row in answers}) == 1
    assert torch.equal(answers, chip(MODELS["frozen"])(inputs))
    assert not torch.equal(answers, other(inputs))
    assert not torch.equal(answers, chip(None)(inputs))
    assert one.layers["layer"].noise(one.layers["layer"].cells()) is None
    assert {row[1] for row in one.network.plan().rows} == {row[1] for row in one.plan().rows} == {"folded"}
    # stuck cells have no states
    stuck = chip(MODELS["frozen"], faults=StuckFaults(on=0.5, off=0.5)).layers["layer"]
    assert set(np.unique(stuck.cells())) <= {0.0, 3.0}


def test_noise_variances_broadcast() -> None:
    variance = NoiseVariance.of((2, 3), linear=1.0, quadratic=np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(variance(2.0), np.broadcast_to([6.0, 10.0, 14.0], (2, 3)))
