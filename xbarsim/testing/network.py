"""Conformance tests for lowerings of module types and for layer adapters of your own.

Examples
--------
>>> import torch
>>> from xbarsim.network.lowering import LowerLinear
>>> from xbarsim.testing.network import check_lowering
>>> check_lowering(LowerLinear(), torch.nn.Linear(6, 3), torch.randn(4, 6))
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xbarsim.design import Design, Periphery
from xbarsim.devices import Cell
from xbarsim.foundation.validation import check_instance
from xbarsim.mapping import Mapping
from xbarsim.network.layers import LayerAdapter
from xbarsim.network.lowering import Lowering, Product, register
from xbarsim.network.pipeline import map_model
from xbarsim.testing.promises import call, promise

__all__ = ["check_layer_adapter", "check_lowering"]

_BITS = 15  # of weights and inputs where a product is compared with its module


def check_layer_adapter(adapter: LayerAdapter, activations: Tensor) -> None:
    """Check that an adapter keeps the promises of :class:`xbarsim.network.LayerAdapter`.

    It must be a frozen dataclass with a kind and a text for messages; fit its activations, and none without features;
    make feature maps of numbers of the batch and zeros, image by image; and lay results out image by image, every value
    once.

    Parameters
    ----------
    adapter
        The adapter, with the geometry that it shall be tested with.
    activations
        A batch of two or more images that fit it, floating.

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
    batch = activations.detach().to("cpu", torch.float32)
    shape = tuple(batch.shape)
    promise(len(shape) >= 2 and len(batch) >= 2, "activations must be two images or more", f"got shape {shape}")
    promise(call("fits", adapter.fits, shape), "the activations must fit the adapter", f"{shape} does not")
    for other in ((), shape[:1]):
        promise(not call("fits", adapter.fits, other), "activations without features must not fit", f"{other} does")

    before = batch.clone()
    maps = call("to_maps", adapter.to_maps, batch)
    promise(
        isinstance(maps, Tensor) and maps.ndim == 4 and maps.dtype == torch.float32,
        "to_maps must give float32 feature maps (maps, channels, height, width)",
        f"it gave {tuple(maps.shape)} of {maps.dtype}",
    )
    promise(torch.equal(batch, before), "to_maps must leave the activations as they are", "it changed them")
    promise(len(maps) % len(batch) == 0, "every image must make the same number of maps", f"{len(maps)} in all")
    known = set(batch.reshape(-1).tolist()) | {0.0}
    promise(
        set(maps.reshape(-1).tolist()) <= known,
        "feature maps must hold activations and zeros alone",
        "they hold other numbers",
    )
    each = len(maps) // len(batch)
    for image in range(len(batch)):
        alone = call("to_maps of one image", adapter.to_maps, batch[image : image + 1])
        promise(
            torch.equal(alone, maps[image * each : (image + 1) * each]),
            "the maps of an image must follow one another, and not depend on its batch",
            f"those of image {image} do not",
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
    for image in range(len(batch)):
        part = results[image * each : (image + 1) * each]
        alone = np.asarray(call("from_maps of one image", adapter.from_maps, part, (1, *shape[1:])))
        promise(
            np.array_equal(alone[0], answer[image]),
            "the results of an image must come from its own maps",
            f"those of image {image} do not",
        )


def check_lowering(lowering: Lowering, module: nn.Module, images: Tensor) -> None:
    """Check that a lowering keeps the promises of :class:`xbarsim.network.Lowering`.

    The product must have a geometry without contradictions; the module must be left as it was; the quantised digital
    network must equal the module within the steps of its quantisation, and an ideal chip must equal that bit for bit.
    Where :meth:`xbarsim.network.Lowering.fold` folds batch norms, the folded module must give what the norm gives.

    Parameters
    ----------
    lowering
        The lowering.
    module
        A module of its type, in float32 and evaluation mode.
    images
        Inputs of the module, of both signs, two images or more, floating.

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
    promise(isinstance(module, lowering.handles), "the module must be of the type", f"it is {type(module).__name__}")
    module.eval()
    batch = images.detach().to("cpu", torch.float32)
    reason = call("misfit", lowering.misfit, module)
    promise(reason is None, "the module must be one that is lowered", f"misfit says: {reason}")
    before = copy.deepcopy(module.state_dict())
    product = call("lower", lowering.lower, module)
    _check_product(product, batch)
    with torch.no_grad():
        expected = module(batch)
    with register(lowering):
        fine = _exact_design(_BITS)
        network = call("mapping the module", _map, module, fine, batch)
        promise(list(network.layers) == [""], "the module must become one layer", f"{list(network.layers)}")
        with torch.no_grad():
            digital = network.digital(batch)
            coarse = call("mapping the module", _map, module, _exact_design(8), batch)
            ideal, chip = coarse.digital(batch), coarse.fabricate(seed=0)(batch)
    state = module.state_dict()
    promise(
        state.keys() == before.keys() and all(torch.equal(before[key], state[key]) for key in before),
        "the module must be left as it was",
        "its parameters or buffers changed",
    )
    promise(
        digital.shape == expected.shape,
        "the digital network's answer must have the shape of the module's",
        f"{tuple(digital.shape)} instead of {tuple(expected.shape)}",
    )
    bound = _largest_error(product, batch) + 1e-5 * float(expected.abs().max())
    error = float((digital - expected).abs().max())
    promise(
        error <= bound,
        "the digital network must equal the module within the steps of its quantisation",
        f"they differ by up to {error:.3g}, and the steps make up {bound:.3g}",
    )
    promise(
        torch.equal(ideal, chip),
        "an ideal chip must equal the digital network bit for bit",
        f"they differ by up to {float((ideal - chip).abs().max()):.3g}",
    )
    _check_fold(lowering, module, batch, expected)


def _map(module: nn.Module, design: Design, images: Tensor) -> Any:
    return map_model(module, design, calibration=images)


def _exact_design(bits: int) -> Design:
    """A design whose reads are exact, with as many bits for weights and for inputs."""
    return Design(
        cell=Cell(g_min=1e-6, g_max=1.6e-5, levels=16),
        mapping=Mapping(rows=32, columns=32, weight_bits=bits),
        periphery=Periphery(input_bits=bits),
    )


def _check_product(product: Product, batch: Tensor) -> None:
    promise(isinstance(product, Product), "lower must give a Product", f"it gave {type(product).__name__}")
    weights = product.weights
    promise(
        weights.ndim == 2 and np.issubdtype(weights.dtype, np.floating) and np.isfinite(weights).all(),
        "weights must be a finite, floating matrix (inputs, outputs)",
        f"they are {weights.dtype} of shape {weights.shape}",
    )
    inputs, outputs = weights.shape
    promise(product.bias.shape == (outputs,), "bias must have one number an output", f"shape {product.bias.shape}")
    promise(
        call("fits", product.adapter.fits, tuple(batch.shape)), "inputs of the module must fit the adapter", batch.shape
    )
    maps = call("to_maps", product.adapter.to_maps, batch)
    rows, columns = product.window.kernel
    promise(
        inputs == maps.shape[1] * rows * columns,
        "the weights must have a row for each channel and place of the window",
        f"{inputs} rows, {maps.shape[1]} channels and a window of {rows} x {columns}",
    )
    groups = product.groups
    promise(
        groups >= 1 and maps.shape[1] % groups == 0 and outputs % groups == 0,
        "groups must divide channels and outputs",
        f"{groups} groups of {maps.shape[1]} channels and {outputs} outputs",
    )
    blocks = weights.reshape(groups, inputs // groups, groups, outputs // groups)
    off_diagonal = [blocks[i, :, j].any() for i in range(groups) for j in range(groups) if i != j]
    promise(not any(off_diagonal), "weights between different groups must be 0", f"{sum(off_diagonal)} blocks are not")


def _largest_error(product: Product, batch: Tensor) -> float:
    """What rounding inputs and weights to the nearest code can add up to, for any output at any position."""
    weights: npt.NDArray[np.float64] = np.abs(product.weights).astype(np.float64)
    largest, steps = float(batch.abs().max()), 2 ** (_BITS - 1) - 1
    inputs = 0.5 * largest / steps
    codes = 0.5 * weights.max(axis=0) / steps
    return float((inputs * weights.sum(axis=0) + len(weights) * codes * (largest + inputs)).max())


def _check_fold(lowering: Lowering, module: nn.Module, batch: Tensor, expected: Tensor) -> None:
    outputs = expected.shape[1]
    kind = nn.BatchNorm2d if expected.ndim == 4 else nn.BatchNorm1d
    if expected.ndim not in (2, 3, 4) or (lowering.channels_last and expected.ndim != 2):
        return
    norm: Any = kind(outputs).eval()
    generator = torch.Generator().manual_seed(0)
    for tensor in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
        nn.init.uniform_(tensor, 0.5, 1.5, generator=generator)
    folded = call("fold", lowering.fold, module, norm)
    if folded is None:
        return
    promise(isinstance(folded, lowering.handles), "a folded module must be of the type", type(folded).__name__)
    with torch.no_grad():
        wanted, answer = norm(expected), folded(batch)
    error = float((answer - wanted).abs().max())
    promise(
        answer.shape == wanted.shape and error <= 1e-4 * float(wanted.abs().max()),
        "the folded module must give what the norm makes of the module's outputs",
        f"they differ by up to {error:.3g}",
    )
