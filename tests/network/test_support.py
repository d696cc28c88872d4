"""What becomes of torch's own layers: the list is complete, true, and the page in the documentation."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from xbarsim.foundation.validation import InputError
from xbarsim.network import LayerSupport, layer_page, layer_support
from xbarsim.network.support import try_layer

pytestmark = pytest.mark.usefixtures("one_thread")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "layers.md"


@pytest.fixture(scope="module")
def support() -> dict[str, LayerSupport]:
    return {each.name: each for each in layer_support()}


def test_every_module_of_torch_is_in_the_list(support: dict[str, LayerSupport]) -> None:
    for name in dir(nn):
        kind = getattr(nn, name)
        if inspect.isclass(kind) and issubclass(kind, nn.Module):
            assert name in support


def test_none_is_refused_but_those_without_values(support: dict[str, LayerSupport]) -> None:
    refused = {name for name, each in support.items() if each.status == "refused"}
    assert refused == {name for name in support if name.startswith("Lazy")}
    assert all("must have values" in support[name].remark for name in refused)


def test_some_that_must_be_what_they_are(support: dict[str, LayerSupport]) -> None:
    for name in ("Linear", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d"):
        assert (support[name].status, support[name].products, support[name].remark) == ("mapped", 1, "")
    for name in ("BatchNorm1d", "BatchNorm2d", "BatchNorm3d"):
        assert (support[name].status, support[name].remark) == ("folded", "")
    assert support["Embedding"].remark == "Embedding: no product with a matrix (embedding)"
    assert support["LayerNorm"].remark == "LayerNorm: no product with a matrix (layer_norm)"
    assert support["ReLU"].status == "digital"
    assert support["MSELoss"].status == "loss"


def test_what_holds_weights_is_mapped_or_named(support: dict[str, LayerSupport]) -> None:
    for name, each in support.items():
        if each.status in ("digital", "digital and named"):
            host, _, network = try_layer(name)
            held = next(host.get_submodule("layer").parameters(), None) is not None
            assert held == (each.status == "digital and named")
            assert held == any(item.name.startswith("layer") for item in network.not_mapped)


@pytest.mark.filterwarnings("ignore::xbarsim.network.ClippingWarning")  # rounding may exceed a range by a step
def test_mapped_and_lowered_types_compute_what_they_are(support: dict[str, LayerSupport]) -> None:
    checked = 0
    for name, each in support.items():
        if each.status not in ("mapped", "lowered", "folded"):
            continue
        host, inputs, network = try_layer(name)
        with torch.no_grad():
            wanted = host(*inputs)
        ideal, answers = network.digital(*inputs), network.fabricate(seed=0)(*inputs)
        assert len(wanted) == len(ideal) == len(answers)
        for one, digital, chip in zip(wanted, ideal, answers, strict=True):
            assert isinstance(digital, Tensor)
            assert torch.equal(digital, chip), name
            assert float((digital - one).norm()) <= 2e-3 * float(one.norm()), name
        checked += 1
    assert checked >= 9


def test_the_page_says_what_the_code_does(support: dict[str, LayerSupport]) -> None:
    kept = {line.split(" | ")[0]: line for line in PAGE.read_text(encoding="utf-8").splitlines()}
    for line in layer_page(tuple(support.values())).splitlines():
        known = kept.get(line.split(" | ")[0])
        # Another version of torch may have other types, or other names of functions in a remark.
        assert known is not None or not line.startswith("| "), f"docs/layers.md must be made anew: {line}"
        if known is not None:
            assert known.split(" | ")[:3] == line.split(" | ")[:3], "docs/layers.md must be made anew"


def test_a_type_that_cannot_be_tried() -> None:
    with pytest.raises(InputError, match="type of layer that can be tried, got 'Module'"):
        try_layer("Module")
