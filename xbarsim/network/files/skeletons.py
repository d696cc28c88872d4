"""The digital parts of networks made again from files: one function a kind, which is what `Skeleton.stored` says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from xbarsim.design import Design
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.network.lowered import Product
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Skeleton

__all__ = ["check_model", "needs_model", "restore"]

Stored = Mapping[str, npt.NDArray[Any]]
Restored = tuple[Skeleton, Mapping[str, Product]]


def _restore_torch(stored: Stored, probe: Samples, design: Design, model: Any) -> Restored:
    from xbarsim.network.lowering.restore import restore_torch

    return restore_torch(stored, probe, model)


def _restore_onnx(stored: Stored, probe: Samples, design: Design, model: None) -> Restored:
    from xbarsim.network.onnx.restore import restore_onnx

    return restore_onnx(stored, design)


_KINDS: dict[str, Callable[[Stored, Samples, Design, Any], Restored]] = {
    "onnx": _restore_onnx,
    "torch": _restore_torch,
}
_NEED_MODEL = ("torch",)


def needs_model(kind: str) -> bool:
    """Whether a digital part is made from a model of the user's, because its file does not hold it whole.

    Parameters
    ----------
    kind
        From :meth:`xbarsim.network.Skeleton.stored`.

    Raises
    ------
    FileFormatError
        If the kind is not known.
    """
    if kind not in _KINDS:
        raise FileFormatError(f"skeleton must be one of {', '.join(map(repr, _KINDS))}, got {kind!r}")
    return kind in _NEED_MODEL


def check_model(model: Any, *, needed: bool) -> None:
    """Refuse a model where none is needed, and none where one is.

    Raises
    ------
    InputError
        If `model` is needed and not given, or given and not needed.
    """
    if needed and model is None:
        raise InputError(
            "model must be given for a network from torch: a module of the same architecture, with any weights; the "
            "code of a model is in no file"
        )
    if not needed and model is not None:
        raise InputError(f"model must be None for a network that is whole in its file, got {type(model).__name__}")


def restore(kind: str, stored: Stored, probe: Samples, design: Design, model: Any) -> Restored:
    """Make the digital part of a network again.

    Parameters
    ----------
    kind, stored
        From :meth:`xbarsim.network.Skeleton.stored`.
    probe
        Samples that reach every product.
    design
        What the network was mapped for.
    model
        What a user gives, checked by :func:`check_model`.

    Returns
    -------
    tuple
        The skeleton, and its products by name.

    Raises
    ------
    FileFormatError, InputError
        If what is stored is damaged, or `model` does not fit it.
    """
    return _KINDS[kind](stored, probe, design, model)
