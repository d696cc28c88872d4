"""Projections: exact shares, nearest of their structure by brute force, levels that the mapping recovers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn

from xbarsim.compress import (
    BlockColumnRow,
    Columns,
    Filters,
    KernelShapes,
    LayerRule,
    Recipe,
    Tiles,
    Unstructured,
    block_mask,
    column_mask,
    compression,
    filter_mask,
    kept_count,
    levels,
    nearest_codes,
    nearest_levels,
    tile_mask,
    unstructured_mask,
)
from xbarsim.compress.targets import blocks
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import quantise

MaskFunction = Callable[..., Tensor]
few = settings(deadline=None, max_examples=50)
shares = st.sampled_from([1e-6, 0.1, 0.25, 1 / 3, 0.5, 0.75, 0.99, 1.0]) | st.floats(1e-6, 1.0)


@st.composite
def matrices(draw: st.DrawFn, side: int = 4) -> Tensor:
    """Small matrices of multiples of 1/8, many of them equal or zero: all squares and sums of them are exact."""
    shape = draw(st.tuples(st.integers(1, side), st.integers(1, side)))
    values = draw(hnp.arrays(np.int64, shape, elements=st.integers(-4, 4) | st.integers(-40, 40)))
    return torch.from_numpy(values).to(draw(st.sampled_from([torch.float32, torch.float64]))) / 8


@st.composite
def some(draw: st.DrawFn, matrix: Tensor) -> Tensor | None:
    """Which weights may stay; None for all."""
    if draw(st.booleans()):
        return None
    return torch.from_numpy(draw(hnp.arrays(np.bool_, tuple(matrix.shape))))


def group_numbers(kind: str, shape: tuple[int, ...], size: tuple[int, int]) -> Tensor:
    """Which group each weight is in."""
    rows, columns = torch.meshgrid(torch.arange(shape[0]), torch.arange(shape[1]), indexing="ij")
    across = math.ceil(shape[1] / size[1])
    return {
        "unstructured": rows * shape[1] + columns,
        "filters": rows,
        "columns": columns,
        "tiles": rows // size[0] * across + columns // size[1],
    }[kind]


def call(kind: str, matrix: Tensor, keep: float, size: tuple[int, int], among: Tensor | None = None) -> Tensor:
    functions: dict[str, MaskFunction] = {
        "unstructured": unstructured_mask,
        "filters": filter_mask,
        "columns": column_mask,
        "tiles": tile_mask,
    }
    extra: dict[str, Any] = {"tile_filters": size[0], "tile_columns": size[1]} if kind == "tiles" else {}
    return functions[kind](matrix, keep, **extra, among=among)


kinds = st.sampled_from(["unstructured", "filters", "columns", "tiles"])
sizes = st.tuples(st.integers(1, 5), st.integers(1, 5))


# -------------------------------------------------------------------------------------------------- shares


@pytest.mark.parametrize(
    ("keep", "total", "count"),
    [(0.5, 5, 3), (0.5, 4, 2), (0.3, 5, 2), (0.145, 100, 15), (1e-9, 7, 1), (1.0, 7, 7), (0.07, 50, 4), (0.29, 50, 15)],
)
def test_kept_count_rounds_the_printed_share_halves_up(keep: float, total: int, count: int) -> None:
    assert kept_count(keep, total) == count


@few
@given(keep=shares, total=st.integers(1, 10**7))
def test_kept_count_is_nearest(keep: float, total: int) -> None:
    count = kept_count(keep, total)
    assert 1 <= count <= total
    assert count == 1 or abs(count - keep * total) <= 0.5 + 1e-6


# --------------------------------------------------------------------------------------------- group masks


@few
@given(data=st.data(), kind=kinds, matrix=matrices(), keep=shares, size=sizes)
def test_masks_are_nearest_of_their_structure(
    data: st.DataObject, kind: str, matrix: Tensor, keep: float, size: tuple[int, int]
) -> None:
    among = data.draw(some(matrix))
    before = matrix.clone()
    mask = call(kind, matrix, keep, size, among)
    assert torch.equal(matrix, before)
    assert mask.dtype == torch.bool
    assert mask.shape == matrix.shape
    groups = group_numbers(kind, tuple(matrix.shape), size)
    allowed = torch.ones_like(mask) if among is None else among
    assert not (mask & ~allowed).any()
    energy: dict[int, float] = {}
    for group in range(int(groups.max()) + 1):
        inside = groups == group
        if (inside & allowed).any():
            energy[group] = float(matrix.double()[inside & allowed].square().sum())
            kept = mask[inside & allowed]
            assert kept.all() or not kept.any()  # together or not at all
    count = min(kept_count(keep, int(groups.max()) + 1), len(energy))
    chosen = set(groups[mask].tolist())
    assert len(chosen) == count
    if math.comb(len(energy), count) <= 3000:
        best = max(sum(energy[group] for group in choice) for choice in itertools.combinations(energy, count))
        assert sum(energy[group] for group in chosen) == best
    assert chosen == set(sorted(energy, key=lambda group: (-energy[group], group))[:count])  # of equals, the first


@few
@given(kind=kinds, matrix=matrices(6), keep=shares, size=sizes, power=st.integers(-60, 60))
def test_masks_are_projections(kind: str, matrix: Tensor, keep: float, size: tuple[int, int], power: int) -> None:
    mask = call(kind, matrix, keep, size)
    projected = torch.where(mask, matrix, 0.0)
    again = torch.where(call(kind, projected, keep, size), projected, 0.0)
    assert torch.equal(again, projected)
    assert torch.equal(call(kind, matrix, keep, size, mask), mask)
    assert torch.equal(call(kind, matrix * 2.0**power, keep, size), mask)
    assert torch.equal(call(kind, -matrix, keep, size), mask)


@few
@given(kind=kinds, matrix=matrices(6), keeps=st.tuples(shares, shares), size=sizes)
def test_a_smaller_share_keeps_a_subset(
    kind: str, matrix: Tensor, keeps: tuple[float, float], size: tuple[int, int]
) -> None:
    less, more = (call(kind, matrix, keep, size) for keep in sorted(keeps))
    assert not (less & ~more).any()


@few
@given(seed=st.integers(0, 2**32 - 1), keep=shares)
def test_the_order_of_filters_does_not_matter(seed: int, keep: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(7, 5, generator=generator)
    order = torch.randperm(7, generator=generator)
    assert torch.equal(filter_mask(matrix[order], keep), filter_mask(matrix, keep)[order])
    assert torch.equal(column_mask(matrix[order], keep), column_mask(matrix, keep)[order])
    order = torch.randperm(5, generator=generator)
    assert torch.equal(column_mask(matrix[:, order], keep), column_mask(matrix, keep)[:, order])


@pytest.mark.parametrize("factor", [1e-320, 1e-200, 1e-30, 1e200, 1e307])
def test_no_square_overflows_or_vanishes(factor: float) -> None:
    matrix = torch.tensor([[1.0, 2.0], [4.0, 3.0]], dtype=torch.float64) * factor
    assert filter_mask(matrix, 0.5).tolist() == [[False, False], [True, True]]
    assert column_mask(matrix, 0.5).tolist() == [[True, False], [True, False]]
    kept = block_mask(matrix, block_filters=2, block_columns=2, keep_filters=0.5, keep_columns=0.5)
    assert kept.tolist() == [[False, False], [True, False]]


def test_tiles_at_the_edge_count_as_one() -> None:
    matrix = torch.ones(5, 5)
    matrix[4, 4] = 10.0  # alone in its tile
    mask = tile_mask(matrix, 0.25, tile_filters=2, tile_columns=2)  # 2 of 9 tiles
    expected = torch.zeros(5, 5, dtype=torch.bool)
    expected[4, 4] = True
    expected[:2, :2] = True
    assert torch.equal(mask, expected)
    assert tile_mask(matrix, 0.5, tile_filters=9, tile_columns=9).all()


# -------------------------------------------------------------------------------------------- block masks


def blocks_of(shape: tuple[int, ...], size: tuple[int, int]) -> Iterator[tuple[slice, slice]]:
    for top in range(0, shape[0], size[0]):
        for left in range(0, shape[1], size[1]):
            yield slice(top, min(top + size[0], shape[0])), slice(left, min(left + size[1], shape[1]))


def crossings(energies: Tensor, rows: int, columns: int) -> Iterator[float]:
    for chosen in itertools.combinations(range(energies.shape[0]), rows):
        for kept in itertools.combinations(range(energies.shape[1]), columns):
            yield float(energies[list(chosen)][:, list(kept)].sum())


@settings(deadline=None, max_examples=40)
@given(matrix=matrices(6), size=sizes, keep_filters=shares, keep_columns=shares)
def test_block_masks_are_nearest(
    matrix: Tensor, size: tuple[int, int], keep_filters: float, keep_columns: float
) -> None:
    mask = block_mask(
        matrix, block_filters=size[0], block_columns=size[1], keep_filters=keep_filters, keep_columns=keep_columns
    )
    for rows, columns in blocks_of(tuple(matrix.shape), size):
        block, kept = matrix[rows, columns].double().square(), mask[rows, columns]
        counts = kept_count(keep_filters, block.shape[0]), kept_count(keep_columns, block.shape[1])
        assert (int(kept.any(dim=1).sum()), int(kept.any(dim=0).sum())) == counts
        assert int(kept.sum()) == counts[0] * counts[1]  # all of where they cross
        assert float(block[kept].sum()) == max(crossings(block, *counts))
    again = block_mask(
        torch.where(mask, matrix, 0.0),
        block_filters=size[0], block_columns=size[1], keep_filters=keep_filters, keep_columns=keep_columns,
    )  # fmt: skip
    assert torch.equal(torch.where(again & mask, matrix, 0.0), torch.where(mask, matrix, 0.0))


@settings(deadline=None, max_examples=40)
@given(data=st.data(), matrix=matrices(6), size=sizes, keep_filters=shares, keep_columns=shares)
def test_block_masks_among_some_weights(
    data: st.DataObject, matrix: Tensor, size: tuple[int, int], keep_filters: float, keep_columns: float
) -> None:
    first = block_mask(matrix, block_filters=size[0], block_columns=size[1], keep_filters=1.0, keep_columns=0.6)
    settings_ = {
        "block_filters": size[0], "block_columns": size[1], "keep_filters": keep_filters,
        "keep_columns": min(keep_columns, 0.6),
    }  # fmt: skip
    second = block_mask(matrix, **settings_, among=first)  # type: ignore[arg-type]
    assert not (second & ~first).any()
    for rows, columns in blocks_of(tuple(matrix.shape), size):
        kept = second[rows, columns]
        counts = kept_count(keep_filters, kept.shape[0]), kept_count(min(keep_columns, 0.6), kept.shape[1])
        assert (int(kept.any(dim=1).sum()), int(kept.any(dim=0).sum())) == counts  # none lost to pruned columns


@pytest.mark.parametrize("rows", [1, 2])
def test_zeros_that_may_stay_go_before_zeros_that_may_not(rows: int) -> None:
    among = torch.tensor([[False, True, False, True]]).expand(rows, 4)
    mask = block_mask(
        torch.zeros(rows, 4), block_filters=2, block_columns=4, keep_filters=1.0, keep_columns=0.5, among=among
    )
    assert torch.equal(mask, among)


@pytest.mark.parametrize("shape", [(6, 6), (9, 4), (5, 12)])
def test_block_masks_too_large_to_try_all(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "_MOST_SUBSETS", 0)
    generator = torch.Generator().manual_seed(5)
    matrix = torch.randn(3 * shape[0], 2 * shape[1], generator=generator, dtype=torch.float64)
    sizes = {"block_filters": shape[0], "block_columns": shape[1], "keep_filters": 0.5, "keep_columns": 0.25}
    mask = block_mask(matrix, **sizes)  # type: ignore[arg-type]
    shares = []
    for rows, columns in blocks_of(tuple(matrix.shape), shape):
        block, kept = matrix[rows, columns].square(), mask[rows, columns]
        counts = kept_count(0.5, shape[0]), kept_count(0.25, shape[1])
        chosen, across = kept.any(dim=1), kept.any(dim=0)
        assert (int(chosen.sum()), int(across.sum()), int(kept.sum())) == (*counts, counts[0] * counts[1])
        held = float(block[kept].sum())
        best_rows = float(block[:, across].sum(dim=1).topk(counts[0]).values.sum())
        best_columns = float(block[chosen].sum(dim=0).topk(counts[1]).values.sum())
        assert held == pytest.approx(best_rows, rel=1e-12)  # no other filters alone, no other columns alone
        assert held == pytest.approx(best_columns, rel=1e-12)
        shares.append(held / max(crossings(block, *counts)))
    assert max(shares) <= 1 + 1e-12
    assert min(shares) > 0.99
    projected = torch.where(mask, matrix, 0.0)
    again = torch.where(block_mask(projected, **sizes), projected, 0.0)  # type: ignore[arg-type]
    assert torch.equal(again, projected)
    assert torch.equal(block_mask(matrix * 2**9, **sizes), mask)  # type: ignore[arg-type]


def test_large_blocks_are_chosen_in_turn() -> None:
    """Where filters and columns are planted, they are found, although trying all would take 10^8 attempts and more."""
    generator = torch.Generator().manual_seed(8)
    matrix = torch.randn(32, 128, generator=generator) * 0.1
    filters, columns = torch.randperm(32, generator=generator)[:16], torch.randperm(128, generator=generator)[:32]
    planted = torch.zeros(32, 128, dtype=torch.bool)
    planted[filters.unsqueeze(1), columns] = True
    matrix = matrix + planted * torch.randn(32, 128, generator=generator).sign()
    mask = block_mask(matrix, block_filters=32, block_columns=128, keep_filters=0.5, keep_columns=0.25)
    assert torch.equal(mask, planted)


def test_trying_all_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.randn(16, 40, generator=torch.Generator().manual_seed(6))
    sizes: dict[str, Any] = {"block_filters": 4, "block_columns": 6, "keep_filters": 0.5, "keep_columns": 0.5}
    mask = block_mask(matrix, **sizes)
    monkeypatch.setattr(blocks, "_CHUNK", 1)
    assert torch.equal(block_mask(matrix, **sizes), mask)


# ------------------------------------------------------------------------------------------------- levels


@st.composite
def weights(draw: st.DrawFn) -> Tensor:
    """Weights of one magnitude per filter; some on levels and half-way between them."""
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 6)))
    relative = draw(
        hnp.arrays(np.float64, shape, elements=st.floats(-1, 1) | st.integers(-30, 30).map(lambda number: number / 30))
    )
    scale = np.array(draw(st.lists(st.sampled_from([0.0, 1e-20, 0.3, 1.0, 1e6]), min_size=shape[0], max_size=shape[0])))
    dtype = draw(st.sampled_from([torch.float32, torch.float64]))
    matrix = torch.from_numpy(relative * scale[:, np.newaxis]).to(dtype)
    magnitude = matrix.abs().amax(dim=1)
    assume(bool(((magnitude == 0) | (magnitude > 1e-30)).all()))  # scales stay normal numbers of float32
    return matrix


def codes_of(matrix: Tensor, bits: int, per: Literal["tensor", "output"]) -> tuple[Tensor, Tensor]:
    quantised = quantise(matrix.T.numpy(), bits, per)
    return torch.from_numpy(quantised.codes.T.copy()), torch.from_numpy(quantised.scale)


pers = st.sampled_from(["tensor", "output"])
bit_counts = st.integers(2, 9) | st.just(16)


@few
@given(data=st.data(), matrix=weights(), bits=bit_counts, zero=st.booleans(), per=pers)
def test_levels(data: st.DataObject, matrix: Tensor, bits: int, zero: bool, per: Literal["tensor", "output"]) -> None:
    mask = data.draw(some(matrix))
    before = matrix.clone()
    levels = nearest_levels(matrix, bits, zero=zero, per=per, mask=mask)
    codes, scale = nearest_codes(matrix, bits, zero=zero, per=per, mask=mask)
    assert torch.equal(matrix, before)
    assert (levels.dtype, levels.shape, codes.dtype, scale.dtype) == (
        matrix.dtype, matrix.shape, torch.int32, torch.float64,
    )  # fmt: skip
    kept = torch.ones_like(matrix, dtype=torch.bool) if mask is None else mask
    masked = torch.where(kept, matrix, 0.0)

    # As quantise has it, code for code, where zero is a level.
    expected, expected_scale = codes_of(masked, bits, per)
    assert torch.equal(scale, expected_scale)
    if zero:
        assert torch.equal(codes, expected)
    assert not codes[~kept].any()
    assert not levels[~kept].any()

    # Nearest among all levels, by trying every one.
    largest = 2 ** (bits - 1) - 1
    steps = torch.arange(-largest, largest + 1, dtype=torch.float64)
    steps = steps if zero else steps[steps != 0]
    empty = (masked == 0).all() if per == "tensor" else (masked == 0).all(dim=1, keepdim=True)
    for row, column in itertools.product(range(matrix.shape[0]), range(matrix.shape[1])):
        if kept[row, column] and not empty.expand(matrix.shape[0], 1)[row, 0]:
            distance = (steps * scale[row] - matrix[row, column].double()).abs().min()
            here = abs(codes[row, column] * scale[row] - matrix[row, column].double())
            assert here <= distance + 1e-15 * largest * scale[row]  # half-way, up to rounding
            assert zero or codes[row, column] != 0
    decoded = (codes * scale.unsqueeze(1)).to(matrix.dtype)
    torch.testing.assert_close(levels, decoded, rtol=0 if matrix.dtype == torch.float32 else 3e-16, atol=0)

    # Again, and by the mapping: the same levels and codes.
    assert torch.equal(nearest_levels(levels, bits, zero=zero, per=per, mask=kept), levels)
    assert torch.equal(codes_of(levels, bits, per)[0], codes)


@few
@given(matrix=weights(), bits=bit_counts, seed=st.integers(0, 999))
def test_codes_survive_a_factor_for_each_filter(matrix: Tensor, bits: int, seed: int) -> None:
    """What folding a batch norm does, in float32."""
    generator = torch.Generator().manual_seed(seed)
    factor = torch.empty(len(matrix), 1).uniform_(0.1, 9.0, generator=generator)
    factor = factor * torch.randn(factor.shape, generator=generator).sign()
    levels = nearest_levels(matrix.float(), bits)
    assert torch.equal(
        codes_of(levels * factor, bits, "output")[0], codes_of(levels, bits, "output")[0] * factor.sign()
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_largest_weight_stays_to_the_last_bit(dtype: torch.dtype) -> None:
    matrix = torch.randn(500, 3, generator=torch.Generator().manual_seed(7), dtype=dtype)
    for bits in range(2, 17):
        levels = nearest_levels(matrix, bits)
        assert torch.equal(levels.abs().amax(dim=1), matrix.abs().amax(dim=1))
        assert torch.equal(nearest_levels(levels, bits), levels)


def test_known_levels() -> None:
    matrix = torch.tensor([[0.7, -0.24, 0.04, -0.04, 0.0]], dtype=torch.float64)
    scale = 0.7 / 7
    np.testing.assert_allclose(nearest_levels(matrix, 4), [[0.7, -2 * scale, 0.0, 0.0, 0.0]], rtol=1e-15)
    np.testing.assert_allclose(nearest_levels(matrix, 4, zero=False), [[0.7, -0.2, scale, -scale, scale]], rtol=1e-15)
    mask = torch.tensor([[False, True, True, True, False]])
    codes, scales = nearest_codes(matrix, 4, zero=False, mask=mask)
    assert codes.tolist() == [[0, -7, 1, -1, 0]]
    assert scales.tolist() == [0.24 / 7]
    assert not nearest_levels(torch.zeros(2, 3), 4, zero=False).any()  # zeros have no scale


def test_levels_in_parts_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.randn(30, 20, generator=torch.Generator().manual_seed(2))
    mask = torch.randn(30, 20, generator=torch.Generator().manual_seed(3)) > 0
    whole = nearest_levels(matrix, 6, zero=False, mask=mask)
    monkeypatch.setattr(levels, "_CHUNK", 70)
    assert torch.equal(nearest_levels(matrix, 6, zero=False, mask=mask), whole)


def test_gradients_are_cut() -> None:
    matrix = torch.randn(3, 4, requires_grad=True)
    assert not nearest_levels(matrix, 4).requires_grad
    assert not column_mask(matrix, 0.5).requires_grad


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_cuda_agrees() -> None:
    matrix = torch.randn(20, 30, generator=torch.Generator().manual_seed(2)).mul(8).round().div(8)
    for kind in ("unstructured", "filters", "columns", "tiles"):
        there = call(kind, matrix.cuda(), 0.3, (4, 7))
        assert there.is_cuda
        assert torch.equal(there.cpu(), call(kind, matrix, 0.3, (4, 7)))
    sizes: dict[str, Any] = {"block_filters": 8, "block_columns": 6, "keep_filters": 0.5, "keep_columns": 0.5}
    assert torch.equal(block_mask(matrix.cuda(), **sizes).cpu(), block_mask(matrix, **sizes))
    assert torch.equal(nearest_levels(matrix.cuda(), 5).cpu(), nearest_levels(matrix, 5))


# ------------------------------------------------------------------------------------------------- errors

GOOD = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda: filter_mask(torch.ones(3), 0.5), r"matrix must be a non-empty matrix .*, got shape \(3,\)"),
        (lambda: filter_mask(torch.ones(0, 3), 0.5), r"matrix must be a non-empty matrix .*, got shape \(0, 3\)"),
        (lambda: filter_mask(GOOD.half(), 0.5), r"matrix must be .* float32 or float64 .*, got type torch.float16"),
        (lambda: filter_mask([[1.0]], 0.5), r"matrix must be of type Tensor, got \[\[1.0\]\]"),  # type: ignore[arg-type]
        (lambda: column_mask(GOOD / 0, 0.5), r"matrix must be finite, got inf at index \(0, 0\)"),
        (lambda: unstructured_mask(GOOD, 0.0), r"keep must be a finite number > 0.0 and <= 1.0, got 0.0"),
        (lambda: unstructured_mask(GOOD, 1.1), r"keep must be a finite number > 0.0 and <= 1.0, got 1.1"),
        (lambda: tile_mask(GOOD, 1, tile_filters=0, tile_columns=1), "tile_filters must be an integer >= 1, got 0"),
        (lambda: tile_mask(GOOD, 1, tile_filters=1, tile_columns=0), "tile_columns must be an integer >= 1, got 0"),
        (lambda: column_mask(GOOD, 0.5, among=GOOD), r"among must be of type torch.bool .* got torch.float32"),
        (lambda: column_mask(GOOD, 0.5, among=GOOD.T > 0), r"among must be .* shape \(2, 3\), got .* \(3, 2\)"),
        (
            lambda: block_mask(GOOD, block_filters=1, block_columns=0, keep_filters=1, keep_columns=1),
            "block_columns must be an integer >= 1, got 0",
        ),
        (lambda: nearest_levels(GOOD, 1), "bits must be an integer >= 2 and <= 16, got 1"),
        (lambda: nearest_levels(GOOD, 4, per="row"), "per must be one of 'tensor', 'output', got 'row'"),  # type: ignore[arg-type]
        (lambda: nearest_levels(GOOD * math.nan, 4), "matrix must be finite, got nan in filter 0"),
        (lambda: nearest_levels(GOOD, 4, mask=GOOD), r"mask must be of type torch.bool"),
        (lambda: nearest_codes(GOOD[0], 4), r"matrix must be a non-empty matrix .*, got shape \(3,\)"),
        (lambda: kept_count(0.5, 0), "total must be an integer >= 1, got 0"),
    ],
)
def test_bad_input(function: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        function()


def test_bits_that_say_what_stays_are_counted_by_hand() -> None:
    shape = (10, 27)
    for target, bits in (
        (Unstructured(keep=0.5), 270),
        (Filters(keep=0.5), 10),
        (Columns(keep=0.5), 27),
        (Tiles(tile_filters=4, tile_columns=10, keep=0.5), 3 * 3),
        # three bands of 4, 4 and 2 filters by two of 16 and 11 columns
        (BlockColumnRow(block_filters=4, block_columns=16, keep_filters=0.5, keep_columns=0.5), 2 * 10 + 3 * 27),
        (BlockColumnRow(block_filters=4, block_columns=16, keep_columns=0.5), 3 * 27),
        (KernelShapes(kernel=9, group_filters=4, group_channels=2, keep=0.5), 3 * 2 * 9),
    ):
        assert target.index_bits(shape) == bits, target


def test_index_bits_of_a_network_beside_those_of_sparse_rows() -> None:
    model = nn.Sequential(nn.Conv2d(3, 10, 3), nn.Flatten(), nn.Linear(40, 5))
    recipe = Recipe(rules=(LayerRule(layers=("0",), targets=(Columns(keep=1 / 3), Filters(keep=0.5))),))
    first, second = compression(model, recipe.masks(model), recipe).layers
    assert (first.kept, first.index_bits) == (45, 27 + 10)
    assert first.csr_bits == 45 * 5 + 11 * 6  # columns below 27 take 5 bits, counts up to 45 take 6
    assert (second.index_bits, second.csr_bits) == (None, None)
    assert "index bits a weight" in str(compression(model, recipe.masks(model), recipe))
