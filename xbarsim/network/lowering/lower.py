"""From a torch model to its products: copy, take apart, fold, and watch it run."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from xbarsim.foundation.guide import see
from xbarsim.foundation.validation import InputError
from xbarsim.network.lowered import Lowered, NotMapped
from xbarsim.network.lowering.attention import Attention, settle_attention
from xbarsim.network.lowering.batch_norm import fold_batch_norm
from xbarsim.network.lowering.counting import DigitalWork
from xbarsim.network.lowering.prepare import copy_model, lower_modules, sharing_copy
from xbarsim.network.lowering.skeleton import TorchSkeleton, as_tensors
from xbarsim.network.lowering.watching import Discovery, ProductTable
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import check_fit

__all__ = ["discover", "lower", "settle"]

_BATCH = 64  # samples run at a time; changes no result
_COMPARED = 4  # samples on which a model that was taken apart must give what it gave before
_MODEL = "(model)"  # what the model itself is called in lists
_UNUSED = "not used by the model's forward pass"
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
    with torch.random.fork_rng(devices=[]):  # modules that are made draw weights
        prepared, norms, notes, kept = _prepare(original, samples)
    running = sharing_copy(prepared)
    work = DigitalWork(running)
    table, discovery, drawn = discover(running, samples, name="calibration", count=work.add)
    notes += drawn
    if not table.products:
        raise InputError(
            "model must multiply its inputs with weights (linear layers, convolutions, matrix products) to be mapped, "
            f"got {type(model).__name__} without one that the calibration reaches{see('layers')}"
        )
    if norms:
        notes.insert(0, f"{len(norms)} batch norms folded into the layers before them")
    for parameter in sorted(set().union(*discovery.used.values()) & discovery.digital.keys()):
        functions = ", ".join(discovery.digital[parameter])
        notes.append(f"{parameter} is on crossbars, and is kept digitally as well for {functions}")
    if work.unknown:
        notes.append(f"operations that are not counted: {', '.join(sorted(work.unknown))}")
    left = _not_mapped(prepared, discovery, kept)
    held = {
        "" if item.name == _MODEL else item.name: (item.kind, item.parameters)
        for item in left
        if not item.reason.startswith(_UNUSED)
    }
    return Lowered(
        skeleton=TorchSkeleton(prepared, table),
        products=table.products,
        not_mapped=tuple(left),
        notes=tuple(notes),
        digital_work=work.uses(len(samples), held),
    )


def discover(
    model: nn.Module, samples: Samples, *, name: str, count: Callable[..., None] | None = None
) -> tuple[ProductTable, Discovery, list[str]]:
    """Run a model, and see its products.

    Parameters
    ----------
    model
        From :func:`xbarsim.network.lowering.prepare.lower_modules`; it runs itself, with all that it remembers.
    samples, name
        What it is run on, and what messages call it.
    count
        As for :class:`Discovery`.

    Returns
    -------
    ProductTable, Discovery, list
        Its products, what became of its parameters, and notes.
    """
    table = ProductTable()
    discovery = Discovery(model, table, count)
    notes: list[str] = []

    def run(start: int, stop: int) -> None:
        arguments, keywords = as_tensors(samples.part(start, stop))
        for tensor in (*arguments, *keywords.values()):
            discovery.mark(tensor)
        with discovery:
            model(*arguments, **keywords)

    def check(start: int, stop: int) -> None:
        check_fit(lambda: run(start, stop), samples, name=name)

    with torch.no_grad(), torch.random.fork_rng(devices=[]), discovery.names():
        before = torch.get_rng_state()
        for start in range(0, len(samples), _BATCH):
            check(start, start + _BATCH)
        if not torch.equal(before, torch.get_rng_state()):
            notes.append("the model draws random numbers as it runs, such as those of a dropout: so do its dies")
        if discovery.doubtful:
            half = min(len(samples), _BATCH) // 2
            discovery.count = None
            discovery.confirm(partial(check, 0, half) if half else None)
    return table, discovery, notes


def _prepare(original: nn.Module, samples: Samples) -> tuple[nn.Module, tuple[str, ...], list[str], dict[str, str]]:
    """The model taken apart, its norms folded; checked to compute what it did.

    Returns
    -------
    Module, tuple, list, dict
        The model, names of folded norms, notes, and why modules were left as they are.
    """
    few, state = samples.part(0, _COMPARED), torch.get_rng_state()
    expected = check_fit(lambda: _outputs(sharing_copy(original), few, state), samples, name="calibration")

    if not expected:
        raise InputError(f"model must give a tensor, got an answer of {type(original).__name__} without one")

    def run(model: nn.Module) -> Any:
        return _outputs(model, samples.part(0, _BATCH), state)

    for fold in (True, False):
        prepared, kept = lower_modules(copy_model(original))
        check_fit(partial(settle, prepared, run), samples, name="calibration")
        norms, note = fold_batch_norm(prepared, run) if fold else ((), "batch norms stay digital: folding changes more")
        try:
            answers = check_fit(partial(_outputs, sharing_copy(prepared), few, state), samples, name="calibration")
        except InputError:  # the model uses what is not there any more
            answers = None
        if answers is not None and _alike(expected, answers):
            return prepared, norms, [note] if note else [], kept
        if not norms:
            break
    raise InputError(
        f"model must compute the same when its modules are taken apart, got {type(original).__name__}, which does not: "
        "a registered lowering computes something else, or the model looks at the types of its modules"
    )


def settle(model: nn.Module, run: Callable[[nn.Module], Any]) -> None:
    """Leave each attention the projections that it uses: one for three inputs that are the same, or three."""
    called: set[str] = set()
    handles = [
        module.register_forward_pre_hook(lambda module, arguments, name=name: called.add(name))
        for name, module in model.named_modules()
        if isinstance(module, nn.Linear)
    ]
    if any(isinstance(module, Attention) for module in model.modules()):
        run(model)
    for handle in handles:
        handle.remove()
    settle_attention(model, called)


def _outputs(model: nn.Module, samples: Samples, state: Tensor) -> list[Tensor]:
    """What a model gives, with random numbers from this state on."""
    arguments, keywords = as_tensors(samples)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.set_rng_state(state)
        return _tensors_of(model(*arguments, **keywords))


def _tensors_of(answer: Any) -> list[Tensor]:
    """All tensors of an answer, also those of objects that hold some."""
    found: list[Tensor] = []
    for leaf in tree_leaves(answer):
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif hasattr(leaf, "__dict__"):
            found += [each for each in tree_leaves(vars(leaf)) if isinstance(each, Tensor)]
    return found


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
        if hasattr(module, "_packed_params") and callable(getattr(module, "weight", None)):
            packed: Any = module
            items.append(
                NotMapped(
                    name=name or _MODEL,
                    kind=type(module).__name__,
                    parameters=packed.weight().numel(),
                    reason="holds its weights in a packed form of torch's own",
                )
            )
        if not left:
            continue
        items.append(
            NotMapped(
                name=name or _MODEL,
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
    if "BatchNorm" in type(module).__name__:
        return "not directly behind a layer it could be folded into"
    if functions:
        return f"no product with a matrix ({', '.join(dict.fromkeys(functions))})"
    if discovery.reached & set(parameters):
        return "the same for every sample: computed beforehand"
    return f"{_UNUSED} on the calibration samples"
