"""Networks as files of integer codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import Tensor, nn

from xbarsim.compress import Levels
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.models import DigitsNet, load_coded, load_digits_net, load_zoo_file, read_card, save_coded
from xbarsim.models.coded import _pack, _unpack
from xbarsim.models.weights import read_weights, write_safetensors


def on_levels(bits: int, seed: int = 0) -> DigitsNet:
    """The digits network with a third of its filters and positions gone, the rest on levels."""
    generator = torch.Generator().manual_seed(seed)
    model = load_digits_net()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                matrix = module.weight.flatten(1)
                mask = (torch.rand((matrix.shape[0], 1), generator=generator) > 0.3) & (
                    torch.rand((1, matrix.shape[1]), generator=generator) > 0.3
                )
                module.weight.copy_(Levels(bits=bits).project(matrix, mask).reshape(module.weight.shape))
    return model


@given(bits=st.integers(2, 16), data=st.data())
def test_packing_is_exact(bits: int, data: st.DataObject) -> None:
    largest = 2 ** (bits - 1) - 1
    shape = hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9)
    codes = data.draw(hnp.arrays(np.int32, shape, elements=st.integers(-largest, largest)))
    packed = _pack(codes, bits)
    assert packed.size == -(-codes.size * bits // 8)
    np.testing.assert_array_equal(_unpack(packed, bits, codes.shape), codes)


@pytest.mark.parametrize("bits", [2, 5, 8, 9, 16])
def test_what_goes_in_comes_out(bits: int, tmp_path: Path) -> None:
    model = on_levels(bits)
    card = {"network": "digits", "bits": bits, "note": "é"}
    count = save_coded(tmp_path / "n.safetensors", model, bits=bits, about=card)
    assert count == sum(
        int(torch.count_nonzero(m.weight)) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)
    )
    found, about = load_zoo_file(tmp_path / "n.safetensors")
    assert about == read_card(tmp_path / "n.safetensors") == card
    assert not found.training
    for name, tensor in model.state_dict().items():
        if name.endswith(".num_batches_tracked"):  # only of use for training, and not in the file
            continue
        torch.testing.assert_close(found.state_dict()[name], tensor, rtol=3e-7, atol=0.0)
    images = torch.rand((4, 1, 8, 8), generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(found(images), model(images), rtol=1e-5, atol=1e-5)
    save_coded(tmp_path / "again.safetensors", found, bits=bits, about=card)
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "n.safetensors").read_bytes()
    if bits == 5:  # 5 bits a kept weight instead of 32 a weight
        assert (tmp_path / "n.safetensors").stat().st_size < 13_156 * 4 / 4


def test_layers_may_differ_in_bits(tmp_path: Path) -> None:
    model = on_levels(5)
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        last = model.get_submodule(names[-1]).weight
        assert isinstance(last, torch.Tensor)
        last.copy_(Levels(bits=9).project(load_digits_net().get_submodule(names[-1]).weight))  # type: ignore[arg-type]
    bits = {name: 5 for name in names[:-1]} | {names[-1]: 9}
    save_coded(tmp_path / "n.safetensors", model, bits=bits, about={"network": "digits"})
    found = DigitsNet()
    load_coded(tmp_path / "n.safetensors", found)
    torch.testing.assert_close(found.state_dict()[f"{names[-1]}.weight"], last.detach(), rtol=3e-7, atol=0.0)
    with pytest.raises(InputError, match=r"bits must name every layer, got none for 'features\.0'"):
        save_coded(tmp_path / "n.safetensors", model, bits={names[-1]: 9}, about={})


def test_weights_off_the_levels_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "n.safetensors"
    with pytest.raises(InputError, match=r"bits of layer 'features.0' must be those its weights stand on, got 5"):
        save_coded(path, load_digits_net(), bits=5, about={})
    with pytest.raises(InputError, match="bits must be an integer >= 2 and <= 16, got 1"):
        save_coded(path, on_levels(5), bits=1, about={})
    assert not path.exists()


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "n.safetensors"
    save_coded(path, on_levels(5), bits=5, about={"network": "digits"})
    whole = path.read_bytes()
    for broken in (whole[:50], whole[:-3], whole[:-200] + bytes(200)):
        path.write_bytes(broken)
        with pytest.raises(FileFormatError):
            load_zoo_file(path)
    path.write_bytes(whole)
    with pytest.raises(FileFormatError, match="does not fit"):
        load_coded(path, nn.Sequential(nn.Linear(3, 2)))
    save_coded(path, on_levels(5), bits=5, about={"network": "unheard of"})
    with pytest.raises(FileFormatError, match=r"must hold one of .*, got 'unheard of'"):
        load_zoo_file(path)
    plain = Path(__file__).parents[2] / "xbarsim" / "models" / "digits_net.safetensors"
    with pytest.raises(FileFormatError, match="has no card of a network"):
        read_card(plain)
    with pytest.raises(FileFormatError, match="does not hold a network in codes"):
        load_coded(plain, DigitsNet())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("shapes", "[]"),
        ("shapes", '{"features.0": [1000000000000, 1000000000000]}'),
        ("shapes", '{"features.0": "large"}'),
        ("shapes", "[" * 10_000),
        ("bits", '{"features.0": 1099511627776}'),
        ("bits", "3"),
        ("card", "[1]"),
        ("card", '{"network": ["digits"]}'),
    ],
)
def test_a_network_that_lies_is_refused(tmp_path: Path, key: str, value: str) -> None:
    path = tmp_path / "n.safetensors"
    save_coded(path, on_levels(5), bits=5, about={"network": "digits"})
    tensors, about = read_weights(path)
    write_safetensors(path, tensors, about={**about, key: value})
    with pytest.raises(FileFormatError, match=r"n\.safetensors"):
        load_zoo_file(path)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("filters", lambda tensor: tensor - 1),
        ("filters", lambda tensor: tensor.flip(0)),
        ("positions", lambda tensor: tensor + 1),
        ("scale", lambda tensor: -tensor),
        ("scale", lambda tensor: tensor[:1]),
        ("codes", lambda tensor: tensor[:3]),
    ],
)
def test_codes_that_lie_are_refused(tmp_path: Path, part: str, change: Callable[[Tensor], Tensor]) -> None:
    path = tmp_path / "n.safetensors"
    save_coded(path, on_levels(5), bits=5, about={"network": "digits"})
    tensors, about = read_weights(path)
    name = f"features.0.{part}"
    write_safetensors(path, {**tensors, name: change(tensors[name])}, about=about)
    with pytest.raises(FileFormatError, match="does not hold a network in codes"):
        load_zoo_file(path)
