"""Recipes: which layer gets what, TOML, masks of a network, and what is counted of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.utils import parametrize

from xbarsim.compress import (
    BlockColumnRow,
    Columns,
    Filters,
    LayerRule,
    Levels,
    Recipe,
    Target,
    Tiles,
    Unstructured,
    column_mask,
    compression,
    gemm_view,
    kept_count,
)
from xbarsim.foundation.validation import FileFormatError, FileWriteError, InputError
from xbarsim.mapping import Mapping, map_matrix, quantise


class Small(nn.Module):
    """Two convolutions, one linear layer, and what cannot be pruned."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            self.conv1 = nn.Conv2d(1, 8, 3)
            self.norm = nn.BatchNorm2d(8)
            self.conv2 = nn.Conv2d(8, 12, 3)
            self.fc = nn.Linear(12, 5)


def untyped(value: Any) -> Any:
    """To call with what the types forbid."""
    return value


shares = st.floats(0.01, 1.0)
small_sizes = st.integers(1, 6)
targets: st.SearchStrategy[Target] = st.one_of(
    st.builds(Unstructured, keep=shares),
    st.builds(Filters, keep=shares),
    st.builds(Columns, keep=shares),
    st.builds(
        BlockColumnRow,
        block_filters=small_sizes,
        block_columns=small_sizes,
        keep_filters=shares,
        keep_columns=shares,
    ),
    st.builds(Tiles, tile_filters=small_sizes, tile_columns=small_sizes, keep=shares),
)
levels = st.none() | st.builds(
    Levels, bits=st.integers(2, 16), zero=st.booleans(), per=st.sampled_from(["tensor", "output"])
)
rules = st.builds(
    LayerRule,
    layers=st.lists(st.text(min_size=1, max_size=5), min_size=1, max_size=2).map(tuple),
    targets=st.lists(targets, max_size=3).map(tuple),
    levels=levels,
)
few = settings(deadline=None, max_examples=30)


# --------------------------------------------------------------------------------------------------- TOML


@few
@given(recipe=st.builds(Recipe, rules=st.lists(rules, min_size=1, max_size=3).map(tuple)))
def test_toml_is_exact(recipe: Recipe) -> None:
    assert Recipe.from_toml(recipe.to_toml()) == recipe


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(
        """
        [[rules]]
        layers = ["conv2", "fc"]
        levels = {bits = 5, zero = false}

        [[rules.targets]]
        type = "Filters"
        keep = 0.5

        [[rules.targets]]
        type = "BlockColumnRow"
        block_filters = 8
        block_columns = 4
        keep_columns = 1

        [[rules]]
        layers = ["*"]
        """
    )
    recipe = Recipe.load(path)
    assert recipe == Recipe(
        rules=(
            LayerRule(
                layers=("conv2", "fc"),
                targets=(Filters(keep=0.5), BlockColumnRow(block_filters=8, block_columns=4)),
                levels=Levels(bits=5, zero=False),
            ),
            LayerRule(layers=("*",)),
        )
    )
    recipe.save(tmp_path / "again.toml")
    assert Recipe.load(tmp_path / "again.toml") == recipe
    with pytest.raises(FileWriteError):
        recipe.save(tmp_path / "nowhere" / "recipe.toml")
    assert sorted(item.name for item in tmp_path.iterdir()) == ["again.toml", "recipe.toml"]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("rules = 3", FileFormatError, "rules must be an array of a table"),
        ("[[rules]]\nlayers = ['a']\nkeep = 1", FileFormatError, "has no key 'keep'"),
        ("[[rules]]\ntargets = []", FileFormatError, "layers is missing"),
        (
            "[[rules]]\nlayers = ['a']\n[[rules.targets]]\ntype = 'Rows'\nkeep = 0.5",
            FileFormatError,
            r"rules\[0\].targets\[0\].type must be one of 'BlockColumnRow', 'Columns', 'Filters'.*, got 'Rows'",
        ),
        (
            "[[rules]]\nlayers = ['a']\n[[rules.targets]]\ntype = 'Filters'\nkeep = 0.0",
            InputError,
            "keep must be a finite number > 0.0 and <= 1.0, got 0.0",
        ),
        ("[[rules]]\nlayers = ['a']\nlevels = {bits = 1}", InputError, "bits must be an integer >= 2 and <= 16, got 1"),
        ("[[rules", FileFormatError, "not valid TOML"),
    ],
)
def test_bad_files(text: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Recipe.from_toml(text)


# ------------------------------------------------------------------------------------------------- targets


@few
@given(target=targets, seed=st.integers(0, 999))
def test_norms_are_of_the_groups(target: Target, seed: int) -> None:
    matrix = torch.randn(7, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64, requires_grad=True)
    kinds = target.norms(matrix)
    for norms in kinds:
        # Groups of one kind share no weight and leave none out.
        torch.testing.assert_close(norms.square().sum(), matrix.square().sum())
        (gradient,) = torch.autograd.grad(norms.square().sum() / 2, matrix)
        torch.testing.assert_close(gradient, matrix.detach())
    expected: dict[type, list[int]] = {Unstructured: [63], Filters: [7], Columns: [9]}
    if type(target) in expected:
        assert [norms.numel() for norms in kinds] == expected[type(target)]
    if isinstance(target, Tiles):
        tile = matrix[: target.tile_filters, : target.tile_columns]
        torch.testing.assert_close(kinds[0][0, 0], tile.square().sum().sqrt())
    if isinstance(target, BlockColumnRow):
        assert len(kinds) == (target.keep_filters < 1) + (target.keep_columns < 1)
        block = matrix[: target.block_filters, : target.block_columns]
        if target.keep_filters < 1:
            torch.testing.assert_close(kinds[0][0, :, 0], block.square().sum(dim=1).sqrt())
        if target.keep_columns < 1:
            torch.testing.assert_close(kinds[-1][0, 0], block.square().sum(dim=0).sqrt())


@few
@given(target=targets)
def test_norms_of_zeros_have_finite_gradients(target: Target) -> None:
    matrix = torch.zeros(4, 6, requires_grad=True)
    for norms in target.norms(matrix):
        (gradient,) = torch.autograd.grad(norms.sum(), matrix, retain_graph=True)
        assert not gradient.any()  # and none is nan


@few
@given(target=targets, progress=st.floats(0.0, 1.0))
def test_part_way_is_geometric(target: Target, progress: float) -> None:
    part = target.part_way(progress)
    assert type(part) is type(target)
    for name, value in vars(target).items():
        assert getattr(part, name) == (value**progress if name.startswith("keep") else value)
    assert target.part_way(1.0) == target


def test_targets_combine_in_order() -> None:
    matrix = torch.randn(8, 10, generator=torch.Generator().manual_seed(3))
    matrix[:4] += 5 * torch.randn(4, 10, generator=torch.Generator().manual_seed(4))  # these stay
    rule = LayerRule(layers=("*",), targets=(Filters(keep=0.5), Columns(keep=0.3)))
    mask = rule.mask(matrix)
    expected = torch.zeros(8, 10, dtype=torch.bool)
    expected[:4] = column_mask(matrix[:4], 0.3)  # 3 of 10 columns, by what they hold in the filters that stay
    assert torch.equal(mask, expected)
    reverse = LayerRule(layers=("*",), targets=(Columns(keep=0.3), Filters(keep=0.5))).mask(matrix)
    assert int(reverse.sum()) == int(mask.sum()) == 12
    # Shares refer to the whole matrix: 16 of 80 weights, from the 40 that the filters leave.
    both = LayerRule(layers=("*",), targets=(Filters(keep=0.5), Unstructured(keep=0.2))).mask(matrix)
    assert int(both.sum()) == 16
    assert not both[4:].any()
    # ... and where fewer are left than should stay, they all stay.
    assert int(LayerRule(layers=("*",), targets=(Filters(keep=0.5), Unstructured(keep=0.9))).mask(matrix).sum()) == 40
    assert LayerRule(layers=("*",)).mask(matrix).all()
    assert torch.equal(LayerRule(layers=("*",)).mask(matrix, among=mask), mask)


@few
@given(rule=rules, seed=st.integers(0, 999), steps=st.integers(1, 4))
def test_step_by_step_ends_at_the_same_shares(rule: LayerRule, seed: int, steps: int) -> None:
    matrix = torch.randn(9, 8, generator=torch.Generator().manual_seed(seed))
    mask = torch.ones(9, 8, dtype=torch.bool)
    for step in range(1, steps + 1):
        smaller = rule.mask(matrix, among=mask, progress=step / steps)
        assert not (smaller & ~mask).any()
        mask = smaller
    for target in rule.targets[:1] if len(rule.targets) == 1 else ():
        once = rule.mask(matrix)
        groups: dict[type, Callable[[torch.Tensor], int]] = {
            Unstructured: lambda found: int(found.sum()),
            Filters: lambda found: int(found.any(dim=1).sum()),
            Columns: lambda found: int(found.any(dim=0).sum()),
            BlockColumnRow: lambda found: int(found.sum()),
        }
        if type(target) in groups:
            assert groups[type(target)](mask) == groups[type(target)](once)


# -------------------------------------------------------------------------------------------------- layers


def test_the_first_rule_counts() -> None:
    first = LayerRule(layers=("conv1",), levels=Levels(bits=8))
    second = LayerRule(layers=("conv?",), targets=(Columns(keep=0.25),))
    assert Recipe(rules=(first, second)).layers(Small()) == {"conv1": first, "conv2": second}


def test_masks_of_a_model() -> None:
    model = Small()
    recipe = Recipe(
        rules=(
            LayerRule(layers=("conv2",), targets=(Filters(keep=0.5), Columns(keep=0.25)), levels=Levels(bits=5)),
            LayerRule(layers=("conv*",), levels=Levels(bits=8)),
        )
    )
    masks = recipe.masks(model)
    assert list(masks) == ["conv2"]  # conv1 has only levels
    assert masks["conv2"].shape == model.conv2.weight.shape
    matrix = gemm_view(masks["conv2"])
    assert (int(matrix.any(dim=1).sum()), int(matrix.any(dim=0).sum()), int(matrix.sum())) == (6, 18, 6 * 18)
    assert torch.equal(matrix, recipe.rules[0].mask(model.conv2.weight.detach().flatten(1)))
    # Where the weights lie in memory changes nothing.
    assert torch.equal(recipe.masks(untyped(model).to(memory_format=torch.channels_last))["conv2"], masks["conv2"])


def test_masks_are_of_the_weight_that_is_trained() -> None:
    class Negate(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return torch.where(weight > 0, weight, 0.0)

    model = Small()
    recipe = Recipe(rules=(LayerRule(layers=("fc",), targets=(Unstructured(keep=0.5),)),))
    masks = recipe.masks(model)
    parametrize.register_parametrization(model.fc, "weight", Negate())
    assert torch.equal(recipe.masks(model)["fc"], masks["fc"])


@pytest.mark.parametrize(
    ("rule_list", "message"),
    [
        (
            [LayerRule(layers=("conv1", "cnv2"))],
            r"rules\[0\].layers\[1\] must match a Linear, Conv1d or Conv2d layer, .* of Small \(conv1, conv2, fc\), "
            "got 'cnv2'",
        ),
        ([LayerRule(layers=("norm",))], r"rules\[0\].layers\[0\] must match .*, got 'norm'"),
        ([LayerRule(layers=("Conv1",))], r"rules\[0\].layers\[0\] must match .*, got 'Conv1'"),
        (
            [LayerRule(layers=("conv*",)), LayerRule(layers=("conv2",))],
            r"rules\[1\].layers must match a layer that no rule before it takes, got \('conv2',\)",
        ),
    ],
)
def test_rules_that_match_nothing(rule_list: list[LayerRule], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Recipe(rules=tuple(rule_list)).layers(Small())


def test_shared_weights_are_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    with pytest.raises(InputError, match="layers '0' and '1' of model must not share one weight"):
        Recipe(rules=(LayerRule(layers=("0",)),)).layers(model)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Recipe(rules=()), r"rules must hold at least one rule, got \(\)"),
        (lambda: untyped(Recipe)(rules=[]), "rules must be of type tuple"),
        (lambda: untyped(Recipe)(rules=(3,)), r"rules\[0\] must be of type LayerRule, got 3"),
        (lambda: LayerRule(layers=()), "layers must name at least one layer"),
        (lambda: untyped(LayerRule)(layers="conv1"), "layers must be of type tuple, got 'conv1'"),
        (lambda: untyped(LayerRule)(layers=(1,)), r"layers\[0\] must be of type str, got 1"),
        (lambda: untyped(LayerRule)(layers=("a",), targets=(0.5,)), r"targets\[0\] must be of type Target, got 0.5"),
        (lambda: untyped(LayerRule)(layers=("a",), levels=5), "levels must be of type Levels or NoneType, got 5"),
        (lambda: Levels(bits=17), "bits must be an integer >= 2 and <= 16, got 17"),
        (lambda: untyped(Levels)(bits=5, zero=0), "zero must be of type bool, got 0"),
        (lambda: untyped(Levels)(bits=5, per="row"), "per must be one of 'tensor', 'output', got 'row'"),
        (lambda: Unstructured(keep=math.nan), "keep must be a finite number > 0.0 and <= 1.0, got nan"),
        (lambda: Columns(keep=0), "keep must be a finite number > 0.0 and <= 1.0, got 0.0"),
        (
            lambda: BlockColumnRow(block_filters=2, block_columns=2, keep_columns=1.5),
            "keep_columns must be a finite number > 0.0 and <= 1.0, got 1.5",
        ),
        (lambda: BlockColumnRow(block_filters=0, block_columns=2), "block_filters must be an integer >= 1, got 0"),
        (
            lambda: untyped(Tiles)(tile_filters=1, tile_columns=2.0, keep=1),
            "tile_columns must be an integer >= 1, got 2.0",
        ),
        (lambda: gemm_view(torch.zeros(3)), r"weight must have at least 2 dimensions, got shape \(3,\)"),
    ],
)
def test_bad_values(build: Callable[[], Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


# -------------------------------------------------------------------------------------------------- report


def test_compression_counts() -> None:
    model = Small()
    recipe = Recipe(
        rules=(
            LayerRule(layers=("conv2",), targets=(Filters(keep=0.5), Columns(keep=0.25)), levels=Levels(bits=5)),
            LayerRule(layers=("fc",), targets=(Unstructured(keep=0.5),)),
        )
    )
    found = compression(model, recipe.masks(model), recipe)
    conv1, conv2, fc = found.layers
    assert (conv1.name, conv1.pruned, conv1.weights, conv1.kept, conv1.bits) == ("conv1", False, 72, 72, None)
    assert (conv2.weights, conv2.kept, conv2.bits) == (12 * 72, 6 * 18, 5)
    assert (conv2.filters, conv2.filters_kept, conv2.columns, conv2.columns_kept) == (12, 6, 72, 18)
    assert (fc.weights, fc.kept, fc.bits) == (60, 30, None)
    assert found.ratio == (864 + 60) / (108 + 30)
    assert found.overall_ratio == (72 + 864 + 60) / (72 + 108 + 30)
    last = str(found).splitlines()[-1]
    assert last == f"pruned layers {found.ratio:.2f}x, all layers {found.overall_ratio:.2f}x"
    assert "6 / 12" in str(found)
    assert compression(model, {}).ratio == compression(model, {}).overall_ratio == 1.0


def test_what_is_counted_is_what_the_mapping_places() -> None:
    """Rows and columns that the report calls kept are those that take cells."""
    model = Small()
    rule = LayerRule(
        layers=("conv2",), targets=(Filters(keep=0.3), Columns(keep=0.2)), levels=Levels(bits=5, zero=False)
    )
    recipe = Recipe(rules=(rule,))
    mask = recipe.masks(model)["conv2"]
    layer = next(item for item in compression(model, {"conv2": mask}, recipe).layers if item.name == "conv2")
    assert rule.levels is not None
    weights = rule.levels.project(gemm_view(model.conv2.weight.detach()), gemm_view(mask))
    codes = quantise(weights.T.numpy(), 5).codes
    assert int((codes != 0).sum()) == layer.kept  # no weight that stays is zero
    mapped = map_matrix(codes, Mapping(rows=64, columns=64, weight_bits=5, cell_bits=4))
    assert mapped.cells_used == layer.filters_kept * layer.columns_kept * 2
    assert (layer.filters_kept, layer.columns_kept) == (kept_count(0.3, 12), kept_count(0.2, 72))


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"conv3": torch.ones(2, 2, dtype=torch.bool)}, "masks must be of the layers conv1, conv2, fc, got 'conv3'"),
        ({"fc": torch.ones(5, 12)}, r"masks\['fc'\] must be of type torch.bool .* got torch.float32"),
        (
            {"fc": torch.ones(12, 5, dtype=torch.bool)},
            r"masks\['fc'\] must be .* shape \(5, 12\), got torch.bool and \(12, 5\)",
        ),
    ],
)
def test_bad_masks(masks: dict[str, torch.Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        compression(Small(), masks)
