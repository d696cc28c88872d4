"""The conformance suite: what comes with the project passes it, and each promise that is broken is named."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.strategies import ALL_ENCODINGS
from xbarsim.devices import (
    BetaBinomialFaults,
    ClusteredFaults,
    CombinedFaults,
    FaultKind,
    FaultMap,
    FaultModel,
    GradientFaults,
    LogNormalConductances,
    MeasuredFaults,
    RadialFaults,
    StuckAtFaults,
    StuckFaults,
    StuckLineFaults,
    WearOutFaults,
)
from xbarsim.devices.faults import OnOffFaults, Shape
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Encoding, MappedMatrix, Mapping, Offset, TwoColumn, map_matrix
from xbarsim.mapping.placement import _level_table
from xbarsim.testing import check_encoding, check_fault_model, check_mapping
from xbarsim.testing.fault_models import _may_have_mean

EVEN = StuckFaults(on=0.1, off=0.05)
MODELS: tuple[FaultModel, ...] = (
    EVEN,
    StuckFaults(on=0.02, off=0.1, count="exact"),
    ClusteredFaults(on=0.02, off=0.1, size=5.0, spread=1.5),
    ClusteredFaults(on=0.1, off=0.02, size=20.0, spread=3.0, alike=True),
    BetaBinomialFaults(on=0.02, off=0.1, correlation=0.2),
    StuckLineFaults(on=0.1, off=0.05, width=2, row_share=0.2),
    StuckLineFaults(on=0.1, off=0.05, partial=True),
    StuckLineFaults(on=0.1, off=0.05, correlation=0.1),
    GradientFaults(on=0.1, off=0.05, contrast=-0.8, across="rows"),
    RadialFaults(on=0.1, off=0.05, contrast=0.9),
    WearOutFaults(writes=1e6, endurance=5e6, weibull_shape=1.5, on_share=0.3),
    StuckAtFaults(where=EVEN, off_conductances=LogNormalConductances(median=1e-6, sigma=1.0)),
    CombinedFaults(models=(EVEN, StuckLineFaults(on=0.1, off=0.0, partial=True))),
)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: type(model).__name__)
def test_fault_models_conform(model: FaultModel) -> None:
    check_fault_model(model, dies=500)


def test_measured_faults_conform(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    path = tmp_path / "map.npz"
    FaultMap.from_dense(rng.choice([0, 1, 2], (2, 9, 7), p=[0.7, 0.2, 0.1])).save(path)
    check_fault_model(MeasuredFaults(path=str(path)), dies=500)


@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
def test_encodings_conform(encoding: Encoding) -> None:
    check_encoding(encoding)


@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
@pytest.mark.parametrize("pack", ["none", "matrix", "block"])
def test_mappings_conform(encoding: Encoding, pack: Any) -> None:
    check_mapping(Mapping(encoding=encoding, rows=5, columns=13, weight_bits=5, cell_bits=2, pack=pack), examples=15)


# ------------------------------------------------------------------------------- broken fault models


@dataclass(frozen=True, kw_only=True)
class Broken(OnOffFaults):
    """Even faults, spoiled by a subclass."""

    on: float = 0.1
    off: float = 0.05

    def good(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        return StuckFaults(on=self.on, off=self.off).sample(shape, rng)

    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        return self.good(shape, rng)


@dataclass(frozen=True, kw_only=True)
class TooFew(Broken):
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        return StuckFaults(on=0.9 * self.on, off=0.9 * self.off).sample(shape, rng)


@dataclass(frozen=True, kw_only=True)
class WrongKinds(Broken):
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        return self.good(shape, rng).complement()


@dataclass(frozen=True, kw_only=True)
class MissedCell(Broken):
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        faults = self.good(shape, rng)
        kept = faults.index % 48 != 47
        return FaultMap(shape=faults.shape, index=faults.index[kept], kind=faults.kind[kept])


@dataclass(frozen=True, kw_only=True)
class OwnSeed(Broken):
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        rng.random()
        return self.good(shape, np.random.default_rng())


@dataclass(frozen=True, kw_only=True)
class GlobalDraw(Broken):
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        np.random.rand()  # noqa: NPY002
        return self.good(shape, rng)


@dataclass(frozen=True, kw_only=True)
class OtherShape(Broken):
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        tiles, rows, columns = shape
        return self.good((tiles, columns, rows), rng)


@dataclass(frozen=True, kw_only=True)
class StuckTotal(Broken):
    def with_total(self, rate: float) -> StuckTotal:
        if not 0 <= rate <= 1:
            raise InputError(f"rate must be in [0, 1], got {rate}")
        return self


@dataclass(frozen=True, kw_only=True)
class AnyTotal(Broken):
    def with_total(self, rate: float) -> AnyTotal:
        return replace(self, on=min(rate, 1.0), off=0.0)


@dataclass(frozen=True, kw_only=True)
class WrongSum(Broken):
    @property
    def rates(self) -> dict[FaultKind, float]:
        return {FaultKind.STUCK_OFF: 0.1, FaultKind.STUCK_ON: 0.1, FaultKind.STUCK_AT: 0.0}


@dataclass(frozen=True, kw_only=True)
class Falls(Broken):
    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        return FaultMap(shape=shape, index=np.array([-1]), kind=np.array([1]))


@dataclass(kw_only=True, unsafe_hash=True)
class Changeable(OnOffFaults):
    on: float = 0.1
    off: float = 0.05

    def sample(self, shape: Shape, rng: np.random.Generator) -> FaultMap:
        return StuckFaults(on=self.on, off=self.off).sample(shape, rng)


@pytest.mark.parametrize(
    ("model", "promise"),
    [
        (TooFew(), "the share of broken cells must be the stated one in expectation"),
        (WrongKinds(), "the share of broken cells must be the stated one in expectation"),
        (MissedCell(), "every cell must be broken as often as|the share of broken cells must be"),
        (OwnSeed(), "the same generator must give the same map"),
        (GlobalDraw(), "sample must draw from the generator it is given alone"),
        (OtherShape(), "the map must be of the shape asked for"),
        (StuckTotal(), r"with_total\(rate\) must give a model whose total is rate"),
        (AnyTotal(), r"with_total\(1.5\) must be refused by InputError; it gave"),
        (WrongSum(), "total must be the sum of rates"),
        (Falls(), r"sample must not raise; it raised InputError: index must be"),
        (Changeable(), "Changeable must be a frozen dataclass"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, FaultModel) else "",
)
def test_broken_fault_models_are_found(model: FaultModel, promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_fault_model(model)


def test_a_bet_against_a_mean_is_fair_and_sees() -> None:
    rng = np.random.default_rng(2)
    for law, mean in ((lambda n: rng.random(n) < 0.03, 0.03), (lambda n: rng.beta(2, 5, n), 2 / 7)):
        wrong = sum(not _may_have_mean(np.asarray(law(1000), float), mean, 0.05) for _ in range(400))
        assert wrong <= 40  # 20 or fewer expected, 40 has a probability of 2e-5
        assert not _may_have_mean(np.asarray(law(20_000), float), 1.3 * mean, 1e-6)
        assert not _may_have_mean(np.asarray(law(20_000), float), 0.7 * mean, 1e-6)
    assert _may_have_mean(np.zeros(5), 0.0, 1e-6)
    assert not _may_have_mean(np.array([0.0, 1e-9]), 0.0, 1e-6)


# --------------------------------------------------------------------------------- broken encodings
#
# Built-in encodings are broken in place: a subclass would stay among the encodings that a design's file may name.

ENCODE, DECODE = TwoColumn.encode, TwoColumn.decode


def lossy(self: Encoding, codes: npt.ArrayLike, weight_bits: int, cell_bits: int) -> npt.NDArray[np.uint8]:
    levels = ENCODE(self, codes, weight_bits, cell_bits)  # type: ignore[arg-type]
    levels[..., 0, 0] &= 0xFE
    return levels


def too_high(self: Encoding, codes: npt.ArrayLike, weight_bits: int, cell_bits: int) -> npt.NDArray[np.uint8]:
    return ENCODE(self, codes, weight_bits, cell_bits) + np.uint8(1)  # type: ignore[arg-type]


def exchanged(self: Encoding, codes: npt.ArrayLike, weight_bits: int, cell_bits: int) -> npt.NDArray[np.uint8]:
    return ENCODE(self, codes, weight_bits, cell_bits)[..., ::-1]  # type: ignore[arg-type]


def exchanged_back(self: Encoding, levels: npt.NDArray[Any], weight_bits: int, cell_bits: int) -> npt.NDArray[Any]:
    return DECODE(self, levels[..., ::-1], weight_bits, cell_bits)  # type: ignore[arg-type]


def relative(self: Encoding, codes: npt.ArrayLike, weight_bits: int, cell_bits: int) -> npt.NDArray[np.uint8]:
    """In a matrix, both cells of the least slice are held one level higher if there is room."""
    levels = ENCODE(self, codes, weight_bits, cell_bits)  # type: ignore[arg-type]
    if np.ndim(codes) == 2 and levels[..., 0, :].max() < 2**cell_bits - 1:
        levels[..., 0, :] += np.uint8(1)
    return levels


def wraps(self: Encoding, codes: npt.ArrayLike, weight_bits: int, cell_bits: int) -> npt.NDArray[np.uint8]:
    largest = 2 ** (weight_bits - 1) - 1
    return ENCODE(self, np.clip(codes, -largest, largest), weight_bits, cell_bits)  # type: ignore[arg-type]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Replace methods of an encoding; what was computed with them is forgotten afterwards."""

    def replace_methods(kind: type[Encoding], **methods: Any) -> None:
        _level_table.cache_clear()
        for name, method in methods.items():
            monkeypatch.setattr(kind, name, method)

    yield replace_methods
    _level_table.cache_clear()


@pytest.mark.parametrize(
    ("encoding", "methods", "promise"),
    [
        (
            TwoColumn(),
            {"encode": lossy},
            "decode must give back every weight .*; weight .* came back",
        ),
        (TwoColumn(), {"encode": too_high}, r"levels must be at most 2\*\*cell_bits - 1"),
        (
            TwoColumn(),
            {"encode": exchanged, "decode": exchanged_back},
            "the shifted sum of the slices, as the engine reads them, must be the weight",
        ),
        (TwoColumn(), {"encode": relative}, "a weight's levels must not depend on the weights beside it"),
        (
            TwoColumn(),
            {"encode": wraps},
            "a weight of 2 at 2 weight bits and 1 cell bits must be refused",
        ),
        (
            Offset(),
            {"reference_level": lambda self, weight_bits, cell_bits: 1},
            "a reference cell, read with the weight of the top slice, must take off",
        ),
        (TwoColumn(), {"name": "Threefold"}, "name must be that of the class; it is 'Threefold'"),
    ],
    ids=["lossy", "too high", "exchanged", "relative", "wraps", "wrong reference", "misnamed"],
)
def test_broken_encodings_are_found(
    encoding: Encoding, methods: dict[str, Any], promise: str, broken: Callable[..., None]
) -> None:
    broken(type(encoding), **methods)
    with pytest.raises(AssertionError, match=promise):
        check_encoding(encoding)


# ---------------------------------------------------------------------------------- broken mappings

SMALL = Mapping(rows=5, columns=9, weight_bits=5, cell_bits=2)


def swapped_rows(codes: npt.NDArray[np.int64], mapping: Mapping) -> MappedMatrix:
    mapped = map_matrix(codes, mapping)
    return replace(mapped, tile_rows=mapped.tile_rows[:, ::-1].copy())


def left_over(codes: npt.NDArray[np.int64], mapping: Mapping) -> MappedMatrix:
    mapped = map_matrix(codes, mapping)
    levels = mapped.levels.copy()
    levels[:, :, -1] = 1  # of nine columns, pairs use eight
    return replace(mapped, levels=levels)


def forgotten_tile(codes: npt.NDArray[np.int64], mapping: Mapping) -> MappedMatrix:
    mapped = map_matrix(codes, mapping)
    return replace(
        mapped, tile_rows=mapped.tile_rows[1:], tile_outputs=mapped.tile_outputs[1:], levels=mapped.levels[1:]
    )


def falls_over(codes: npt.NDArray[np.int64], mapping: Mapping) -> MappedMatrix:
    raise ZeroDivisionError("no tiles")


@pytest.mark.parametrize(
    ("place", "promise"),
    [
        (swapped_rows, "the target levels must stand for the weights|unused cells must hold level 0"),
        (left_over, "unused cells must hold level 0"),
        (forgotten_tile, "the target levels must stand for the weights"),
        (falls_over, "placing a matrix must not raise; it raised ZeroDivisionError: no tiles"),
    ],
)
def test_broken_placements_are_found(place: Any, promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_mapping(SMALL, place=place)


@pytest.mark.parametrize(
    ("methods", "promise"),
    [
        ({"encode": lossy}, "the target levels must stand for the weights"),
        (
            {"encode": exchanged, "decode": exchanged_back},
            "ideal reads of the tiles must give the product with the matrix",
        ),
    ],
    ids=["lossy", "exchanged"],
)
def test_a_mapping_with_a_broken_encoding_is_found(
    methods: dict[str, Any], promise: str, broken: Callable[..., None]
) -> None:
    broken(TwoColumn, **methods)
    with pytest.raises(AssertionError, match=promise):
        check_mapping(SMALL)


def test_a_placement_with_rows_in_another_order_conforms() -> None:
    def reversed_rows(codes: npt.NDArray[np.int64], mapping: Mapping) -> MappedMatrix:
        mapped = map_matrix(codes, mapping)
        return replace(mapped, tile_rows=mapped.tile_rows[:, ::-1].copy(), levels=mapped.levels[:, ::-1].copy())

    check_mapping(SMALL, place=reversed_rows)


# ------------------------------------------------------------------------------------------- the rest


@pytest.mark.parametrize("check", [check_encoding, check_fault_model, check_mapping])
def test_what_cannot_be_checked_is_refused(check: Any) -> None:
    with pytest.raises(InputError, match="must be of type"):
        check("TwoColumn")


def test_hypothesis_is_loaded_late_and_asked_for() -> None:
    code = (
        "import sys, xbarsim.testing as t\n"
        "from xbarsim.mapping import TwoColumn\n"
        "assert 'hypothesis' not in sys.modules and 'torch' not in sys.modules\n"
        "sys.modules['hypothesis'] = None\n"
        "try:\n    t.check_encoding(TwoColumn())\nexcept ImportError as error:\n    print(error)\n"
    )
    answer = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert answer.stdout.strip() == "xbarsim.testing needs the package hypothesis: pip install hypothesis"
