"""How to add the lowering of a type of module: one file like this one. No other file knows of it."""

from __future__ import annotations

from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from xbarsim import Design
from xbarsim.devices import Cell
from xbarsim.foundation.validation import InputError
from xbarsim.network import Lowering, NotMappedWarning, map_model, register
from xbarsim.testing.network import check_lowering


class BilinearOfProducts(nn.Module):
    """``first W second`` for each output: the matrices side by side times the second input, and then sums of products.

    torch computes a bilinear layer in one function that no product can be seen in.
    """

    def __init__(self, module: nn.Bilinear) -> None:
        super().__init__()
        self.sizes = module.out_features, module.in1_features
        self.second = nn.Linear(module.in2_features, module.out_features * module.in1_features, bias=False)
        self.second.weight = nn.Parameter(module.weight.detach().reshape(-1, module.in2_features).clone())
        self.bias = None if module.bias is None else nn.Parameter(module.bias.detach().clone())

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        parts = self.second(second).unflatten(-1, self.sizes)
        answer: Tensor = (parts * first.unsqueeze(-2)).sum(-1)
        return answer if self.bias is None else answer + self.bias


class LowerBilinear(Lowering):
    """What the crossbars hold are the matrices of a bilinear layer, side by side."""

    handles: ClassVar[type[nn.Module]] = nn.Bilinear

    def misfit(self, module: nn.Bilinear) -> str | None:
        return "one input has nothing to add up" if module.in1_features < 2 else None

    def lower(self, module: nn.Bilinear) -> nn.Module:
        return BilinearOfProducts(module)


class Related(nn.Module):
    """How much two halves of the input have to do with each other."""

    def __init__(self, first: int = 4) -> None:
        super().__init__()
        self.first = first
        self.relation = nn.Bilinear(first, 8 - first, 5)
        self.last = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.last(self.relation(x[:, : self.first], x[:, self.first :]).relu())
        return answer


DESIGN = Design(cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=16))


def seeded(first: int = 4) -> Related:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return Related(first).eval()


def samples(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("keywords", [{}, {"bias": False}])
def test_it_conforms(keywords: dict[str, Any]) -> None:
    check_lowering(LowerBilinear(), nn.Bilinear(4, 3, 5, **keywords), (samples(6, 4), samples(6, 3)), products=1)


def test_a_network_with_it_is_mapped() -> None:
    model, batch = seeded(), samples(9, 8)
    with pytest.warns(NotMappedWarning, match=r"relation \(Bilinear: no product with a matrix \(bilinear\)\)"):
        assert list(map_model(model, DESIGN, calibration=batch).layers) == ["last"]
    with register(LowerBilinear()), pytest.warns(NotMappedWarning, match=r"relation \(BilinearOfProducts"):  # the bias
        network = map_model(model, DESIGN, calibration=batch)
    assert list(network.layers) == ["relation.second", "last"]
    with torch.no_grad():
        wanted, digital = model(batch), network.digital(batch)
    assert torch.equal(network.fabricate(seed=1)(batch), digital)
    assert float((digital - wanted).norm() / wanted.norm()) < 0.03


def test_what_it_refuses_stays_digital_and_is_named() -> None:
    with register(LowerBilinear()), pytest.warns(NotMappedWarning, match="one input has nothing to add up"):
        network = map_model(seeded(1), DESIGN, calibration=samples(9, 8))
    assert [(item.name, item.reason) for item in network.not_mapped] == [
        ("relation", "one input has nothing to add up")
    ]


class Forgets(LowerBilinear):
    """A mistake: no bias."""

    def lower(self, module: nn.Bilinear) -> nn.Module:
        made = BilinearOfProducts(module)
        made.bias = None  # type: ignore[assignment]
        return made


class Changes(LowerBilinear):
    """A mistake: the module is changed."""

    def lower(self, module: nn.Bilinear) -> nn.Module:
        made = BilinearOfProducts(module)
        nn.init.zeros_(module.weight)
        return made


def test_mistakes_are_named() -> None:
    for lowering, message in (
        (Forgets(), "the lowered module must give what the module gives"),
        (Changes(), "the lowered module must give what the module gives"),
    ):
        with pytest.raises(AssertionError, match=message):
            check_lowering(lowering, nn.Bilinear(4, 3, 5), (samples(6, 4), samples(6, 3)))
    with register(Forgets()), pytest.raises(InputError, match="model must compute the same when its modules are taken"):
        map_model(seeded(), DESIGN, calibration=samples(9, 8))
    with pytest.raises(InputError, match="entry must be of type"):
        register(LowerBilinear)  # type: ignore[arg-type]
