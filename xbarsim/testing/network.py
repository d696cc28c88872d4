"""Conformance tests for lowerings of module types and for layer adapters of your own.

Examples
--------
>>> import torch
>>> from torch import nn
>>> from xbarsim.network.lowering import Lowering
>>> from xbarsim.testing.network import check_lowering
>>> class LowerFlatten(Lowering):
...     handles = nn.Flatten
...     def lower(self, module):
...         return nn.Flatten(module.start_dim, module.end_dim)
>>> check_lowering(LowerFlatten(), nn.Flatten(), torch.randn(4, 2, 3), products=0)
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from xbarsim.design import Design, Periphery
from xbarsim.devices import Cell
from xbarsim.foundation.validation import check_instance
from xbarsim.mapping import Mapping
from xbarsim.network.layers import LayerAdapter
from xbarsim.network.lowering import Lowering, register
from xbarsim.network.lowering.skeleton import as_tensors
from xbarsim.network.mapped import NotMappedWarning
from xbarsim.network.pipeline import map_model
from xbarsim.network.samples import Samples
from xbarsim.testing.promises import call, promise

__all__ = ["check_layer_adapter", "check_lowering"]

_BITS = 15  # of weights and inputs where a product is compared with its module


def check_layer_adapter(adapter: LayerAdapter, activations: Any) -> None:
    """Check that an adapter keeps the promises of :class:`xbarsim.network.LayerAdapter`.

    It must be a frozen dataclass with a kind and a text for messages; fit its activations, and none without features;
    make feature maps of numbers of the batch and zeros, element by element; and lay results out element by element,
    every value once.

    Parameters
    ----------
    adapter
        The adapter, with the geometry that it shall be tested with.
    activations
        A batch of two elements or more that fit it, floating: an array or tensor.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    """
    check_instance("adapter", adapter, LayerAdapter)
    name = type(adapter).__name__
    settings = getattr(type(adapter), "__dataclass_params__", None)
    promise(settings is not None and settings.frozen, f"{name} must be a frozen dataclass", "it is not")
    for field in ("kind", "wanted"):
        text = call(f"{name}.{field}", getattr, adapter, field)
        promise(isinstance(text, str) and text.strip(), f"{field} must be a text", f"it is {text!r}")
    batch = np.asarray(activations, dtype=np.float32)
    shape = tuple(batch.shape)
    promise(len(shape) >= 2 and len(batch) >= 2, "activations must be two elements or more", f"got shape {shape}")
    promise(call("fits", adapter.fits, shape), "the activations must fit the adapter", f"{shape} does not")
    for other in ((), shape[:1]):
        promise(not call("fits", adapter.fits, other), "activations without features must not fit", f"{other} does")

    before = batch.copy()
    maps = call("to_maps", adapter.to_maps, batch)
    promise(
        isinstance(maps, np.ndarray) and maps.ndim == 4 and maps.dtype == np.float32,
        "to_maps must give float32 feature maps (maps, channels, height, width)",
        f"it gave {np.shape(maps)} of {getattr(maps, 'dtype', type(maps).__name__)}",
    )
    promise(np.array_equal(batch, before), "to_maps must leave the activations as they are", "it changed them")
    promise(len(maps) % len(batch) == 0, "every element must make the same number of maps", f"{len(maps)} in all")
    known = set(batch.reshape(-1).tolist()) | {0.0}
    promise(
        set(maps.reshape(-1).tolist()) <= known,
        "feature maps must hold activations and zeros alone",
        "they hold other numbers",
    )
    each = len(maps) // len(batch)
    for index in range(len(batch)):
        alone = call("to_maps of one element", adapter.to_maps, batch[index : index + 1])
        promise(
            np.array_equal(alone, maps[index * each : (index + 1) * each]),
            "the maps of an element must follow one another, and not depend on its batch",
            f"those of element {index} do not",
        )

    # results as a kernel of one map value gives them, three outputs at each position
    size = len(maps), 3, *maps.shape[2:]
    results = np.arange(int(np.prod(size)), dtype=np.float32).reshape(size)
    answer = np.asarray(call("from_maps", adapter.from_maps, results, shape))
    promise(
        answer.size == results.size and set(answer.reshape(-1).tolist()) == set(results.reshape(-1).tolist()),
        "from_maps must lay out every result once",
        f"{results.size} results became {answer.size}",
    )
    promise(len(answer) == len(batch), "the first dimension must be the batch", f"it is {len(answer)}")
    for index in range(len(batch)):
        part = results[index * each : (index + 1) * each]
        alone = np.asarray(call("from_maps of one element", adapter.from_maps, part, (1, *shape[1:])))
        promise(
            np.array_equal(alone[0], answer[index]),
            "the results of an element must come from its own maps",
            f"those of element {index} do not",
        )


def check_lowering(lowering: Lowering, module: nn.Module, samples: Any, *, products: int | None = None) -> None:
    """Check that a lowering keeps the promises of :class:`xbarsim.network.Lowering`.

    What it makes of the module must compute the same, and leave the module as it was. Where it holds products, the
    quantised digital network must be close to the module, and an ideal chip must equal that bit for bit.

    Parameters
    ----------
    lowering
        The lowering.
    module
        A module of its type, in float32 and evaluation mode.
    samples
        Inputs of the module, as :func:`xbarsim.map_model` takes them, two samples or more.
    products
        How many products it must hold; ``None`` for any number.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    """
    check_instance("lowering", lowering, Lowering)
    promise(
        isinstance(lowering.handles, type) and issubclass(lowering.handles, nn.Module),
        "handles must be a type of module",
        f"it is {lowering.handles!r}",
    )
    promise(
        type(module) is lowering.handles, "the module must be of the type exactly", f"it is {type(module).__name__}"
    )
    module.eval()
    batch = Samples.of(samples)
    reason = call("misfit", lowering.misfit, module)
    promise(reason is None, "the module must be one that is lowered", f"misfit says: {reason}")
    before = copy.deepcopy(module.state_dict())
    lowered = call("lower", lowering.lower, module)
    promise(isinstance(lowered, nn.Module), "lower must give a module", f"it gave {type(lowered).__name__}")
    expected, answers = _outputs(module, batch), _outputs(lowered.eval(), batch)
    _check_close(expected, answers, 1e-5, "the lowered module must give what the module gives")
    state = module.state_dict()
    promise(
        state.keys() == before.keys() and all(torch.equal(before[key], state[key]) for key in before),
        "the module must be left as it was",
        "its parameters or buffers changed",
    )
    if products == 0:
        return
    with register(lowering):
        fine = call("mapping the module", _map, module, _exact_design(_BITS), batch)
        coarse = call("mapping the module", _map, module, _exact_design(8), batch)
    if products is not None:
        promise(len(fine.layers) == products, f"it must hold {products} products", f"it holds {list(fine.layers)}")
    _check_close(expected, _leaves(fine.digital.run(batch)), 2e-2, "the digital network must be close to the module")
    ideal, chip = _leaves(coarse.digital.run(batch)), _leaves(coarse.fabricate(seed=0).run(batch))
    promise(
        all(torch.equal(one, other) for one, other in zip(ideal, chip, strict=True)),
        "an ideal chip must equal the digital network bit for bit",
        "they differ",
    )


def _leaves(answer: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(answer) if isinstance(leaf, Tensor)]


def _outputs(module: nn.Module, samples: Samples) -> list[Tensor]:
    arguments, keywords = as_tensors(samples)
    with torch.no_grad():
        return _leaves(module(*arguments, **keywords))


def _check_close(expected: list[Tensor], answers: list[Tensor], bound: float, what: str) -> None:
    shapes = [[tuple(each.shape) for each in side] for side in (expected, answers)]
    promise(shapes[0] == shapes[1], what, f"its outputs have shapes {shapes[1]} instead of {shapes[0]}")
    for one, other in zip(expected, answers, strict=True):
        scale = float(one.abs().max()) if one.numel() else 0.0
        error = float((one.double() - other.double()).abs().max()) if one.numel() else 0.0
        promise(error <= bound * max(scale, 1e-30), what, f"they differ by up to {error:.3g}, of {scale:.3g}")


def _map(module: nn.Module, design: Design, samples: Samples) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotMappedWarning)
        return map_model(module, design, calibration=samples)


def _exact_design(bits: int) -> Design:
    """A design whose reads are exact, with as many bits for weights and for inputs."""
    return Design(
        cell=Cell(g_min=1e-6, g_max=1.6e-5, levels=16),
        mapping=Mapping(rows=32, columns=32, weight_bits=bits),
        periphery=Periphery(input_bits=bits),
    )
