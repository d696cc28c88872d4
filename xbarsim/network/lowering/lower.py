"""From a torch model to its products: copy, take apart, fold, and watch it run."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from xbarsim.foundation.validation import InputError
from xbarsim.network.lowered import Lowered, NotMapped
from xbarsim.network.lowering.batch_norm import fold_batch_norm
from xbarsim.network.lowering.prepare import copy_model, lower_modules, sharing_copy
from xbarsim.network.lowering.skeleton import TorchSkeleton, as_tensors
from xbarsim.network.lowering.watching import Discovery, ProductTable
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import check_fit

__all__ = ["lower"]

_BATCH = 64  # samples run at a time; changes no result
_COMPARED = 4  # samples on which a model that was taken apart must give what it gave before
_TOLERANCE = 1e-3  # relative; what another order of float32 sums may change


def lower(model: nn.Module, samples: Samples) -> Lowered:
    """Find the products with trained weights in a model, and name the weights that are not in one.

    Parameters
    ----------
    model
        Any model; it is not changed.
    samples
        Calibration samples: products are those that they reach.

    Raises
    ------
    InputError
        If there is no product; if the samples do not fit the model; or if the model cannot be taken apart without
        changing what it computes.
    """
    original = copy_model(model)
    prepared, norms, notes, kept = _prepare(original, samples)
    table = ProductTable()
    discovery = Discovery(prepared, table)
    with torch.no_grad(), discovery.names():
        for start in range(0, len(samples), _BATCH):
            part = samples.part(start, start + _BATCH)
            arguments, keywords = as_tensors(part)
            for tensor in (*arguments, *keywords.values()):
                discovery.mark(tensor)

            def run(arguments: Any = arguments, keywords: Any = keywords) -> None:
                with discovery:
                    prepared(*arguments, **keywords)

            check_fit(run, samples, name="calibration")
    if not table.products:
        raise InputError(
            "model must multiply its inputs with weights (linear layers, convolutions, matrix products) to be mapped, "
            f"got {type(model).__name__} without one that the calibration reaches"
        )
    if norms:
        notes.insert(0, f"{len(norms)} batch norms folded into the layers before them")
    return Lowered(
        skeleton=TorchSkeleton(prepared, table),
        products=table.products,
        not_mapped=tuple(_not_mapped(prepared, discovery, kept)),
        notes=tuple(notes),
    )


def _prepare(original: nn.Module, samples: Samples) -> tuple[nn.Module, tuple[str, ...], list[str], dict[str, str]]:
    """The model taken apart, its norms folded; checked to compute what it did.

    Returns
    -------
    Module, tuple, list, dict
        The model, names of folded norms, notes, and why modules were left as they are.
    """
    few = samples.part(0, _COMPARED)
    expected = check_fit(lambda: _outputs(sharing_copy(original), few), samples, name="calibration")

    def run(model: nn.Module) -> Any:
        return _outputs(model, samples.part(0, _BATCH))

    for fold in (True, False):
        prepared, kept = lower_modules(copy_model(original))
        norms, note = fold_batch_norm(prepared, run) if fold else ((), "batch norms stay digital: folding changes more")
        answers = check_fit(partial(_outputs, sharing_copy(prepared), few), samples, name="calibration")
        if _alike(expected, answers):
            return prepared, norms, [note] if note else [], kept
        if not norms:
            break
    raise InputError(
        f"model must compute the same when its modules are taken apart, got {type(original).__name__}, which does not: "
        "a registered lowering computes something else, or the model looks at the types of its modules"
    )


def _outputs(model: nn.Module, samples: Samples) -> list[Tensor]:
    arguments, keywords = as_tensors(samples)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return [leaf for leaf in tree_leaves(model(*arguments, **keywords)) if isinstance(leaf, Tensor)]


def _alike(expected: list[Tensor], answers: list[Tensor]) -> bool:
    """Whether the outputs are the same but for the rounding of sums."""
    if [tuple(each.shape) for each in expected] != [tuple(each.shape) for each in answers]:
        return False
    for one, other in zip(expected, answers, strict=True):
        wanted, given = one.double(), other.double()
        finite = wanted[torch.isfinite(wanted)]
        scale = float(finite.abs().max()) if finite.numel() else 0.0
        if not torch.allclose(given, wanted, rtol=_TOLERANCE, atol=_TOLERANCE * scale, equal_nan=True):
            return False
    return True


def _not_mapped(model: nn.Module, discovery: Discovery, kept: dict[str, str]) -> list[NotMapped]:
    """Modules with weights that are in no product, with the reason."""
    used = set().union(*discovery.used.values()) if discovery.used else set()
    items: list[NotMapped] = []
    shared: set[int] = set()
    for name, module in model.named_modules():
        own = {
            f"{name}.{key}" if name else key: value
            for key, value in module.named_parameters(recurse=False)
            if id(value) not in shared
        }
        shared |= {id(value) for value in own.values()}
        left = {key: value for key, value in own.items() if key not in used}
        if not left:
            continue
        items.append(
            NotMapped(
                name=name or "(model)",
                kind=type(module).__name__,
                parameters=sum(value.numel() for value in left.values()),
                reason=kept.get(name) or _reason(module, list(left), discovery),
            )
        )
    return items


def _reason(module: nn.Module, parameters: list[str], discovery: Discovery) -> str:
    functions = [function for name in parameters for function in discovery.digital.get(name, ())]
    if isinstance(module, torch.jit.ScriptModule):
        return "a script, whose products cannot be seen"
    if "Norm" in type(module).__name__:
        return "not directly behind a layer it could be folded into"
    if functions:
        return f"no product with a matrix ({', '.join(dict.fromkeys(functions))})"
    if discovery.reached & set(parameters):
        return "the same for every sample: computed beforehand"
    return "not used by the model's forward pass on the calibration samples"
