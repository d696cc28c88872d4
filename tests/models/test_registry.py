"""What networks there are: known without opening a file, read when asked for, and once."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from xbarsim.foundation.validation import InputError
from xbarsim.models import (
    ARCHITECTURES,
    MODELS,
    ZOO,
    ModelCard,
    load_digits_net,
    load_zoo_file,
    register_architecture,
    register_model,
    untrained_model,
)

# Prints every file of weights that is opened, by its name.
OPENED = """
import sys
from pathlib import Path

def hook(event, arguments):
    if event == "open" and str(arguments[0]).endswith(".safetensors"):
        print(Path(arguments[0]).stem)

sys.addaudithook(hook)
"""


def opened(code: str) -> list[str]:
    answer = subprocess.run([sys.executable, "-c", OPENED + code], capture_output=True, text=True, check=True)
    return answer.stdout.split()


def test_importing_and_listing_opens_no_file() -> None:
    assert opened("from xbarsim.models import MODELS; assert len(list(MODELS)) > 20 and 'vgg16' not in MODELS") == []


def test_a_card_opens_its_own_file_and_only_once() -> None:
    name = "convnet-2.4x-5bit"
    assert opened(f"from xbarsim.models import MODELS; MODELS[{name!r}]; MODELS[{name!r}].accuracy") == [name]


def test_a_zoo_file_is_read_once() -> None:
    name = "convnet-2.4x-5bit"
    assert opened(f"from xbarsim.models import ZOO, load_zoo_file; load_zoo_file(ZOO / '{name}.safetensors')") == [name]


def test_names_are_those_of_the_files() -> None:
    stored = sorted(path.stem for path in ZOO.glob("*.safetensors"))
    assert list(MODELS) == ["digits", "resnet20", *stored]
    assert len(MODELS) == len(stored) + 2
    assert all(MODELS[name].name == name and name in MODELS for name in MODELS)
    assert "nonsense" not in MODELS
    with pytest.raises(KeyError):
        MODELS["nonsense"]
    assert repr(MODELS).startswith("<networks with trained weights: digits, resnet20, ")


def test_cards_agree_with_their_files() -> None:
    for path in ZOO.glob("lenet5-18x-*.safetensors"):
        model, about = load_zoo_file(path)
        card = MODELS[path.stem]
        assert card.details == about
        assert card.parameters == sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.usefixtures("forgotten_networks")
def test_a_name_stands_for_one_network() -> None:
    with pytest.raises(InputError, match="name must be new, got 'vgg16', which is registered: VGG-16 for 32 x 32"):
        register_architecture(replace(ARCHITECTURES["vgg16"], description="another"))
    assert register_architecture(replace(ARCHITECTURES["vgg16"])) == ARCHITECTURES["vgg16"]  # a module loaded again
    with pytest.raises(InputError, match="name must be new, got 'digits'"):
        register_model(replace(MODELS["digits"], accuracy=0.5))
    with pytest.raises(InputError, match=r"architecture must be registered before its weights: .* got 'alexnet'"):
        register_model(replace(MODELS["digits"], architecture="alexnet"))
    with pytest.raises(InputError, match="architecture must be"):
        register_architecture(nn.Linear(1, 1))  # type: ignore[arg-type]


@pytest.mark.usefixtures("forgotten_networks")
def test_random_weights_are_refused_where_none_are_defined() -> None:
    register_architecture(replace(ARCHITECTURES["vgg16"], name="recurrent", build=lambda: nn.Sequential(nn.LSTM(3, 2))))
    with pytest.raises(InputError, match=r"model must have its weights in convolutions, .* got LSTM in 'recurrent'"):
        untrained_model("recurrent")


@pytest.mark.usefixtures("forgotten_networks")
def test_weights_of_ones_own_are_loaded_by_name(tmp_path: Path) -> None:
    mine: ModelCard = replace(MODELS["digits"], name="mine", load=load_digits_net)
    register_model(mine)
    assert MODELS["mine"] is mine
    assert list(MODELS)[2] == "mine"  # before the zoo
