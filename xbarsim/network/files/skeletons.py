"""The digital parts of networks made again from files: one function a kind, which is what `Skeleton.stored` says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy.typing as npt

from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.network.lowered import Product
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Skeleton

__all__ = ["restore"]

Stored = Mapping[str, npt.NDArray[Any]]
Restored = tuple[Skeleton, Mapping[str, Product]]


def _restore_torch(stored: Stored, probe: Samples, model: Any) -> Restored:
    if model is None:
        raise InputError(
            "model must be given for a network from torch: a module of the same architecture, with any weights; the "
            "code of a model is in no file"
        )
    from xbarsim.network.lowering.restore import restore_torch

    return restore_torch(stored, probe, model)


_KINDS: dict[str, Callable[[Stored, Samples, Any], Restored]] = {"torch": _restore_torch}


def restore(kind: str, stored: Stored, probe: Samples, model: Any) -> Restored:
    """Make the digital part of a network again.

    Parameters
    ----------
    kind, stored
        From :meth:`xbarsim.network.Skeleton.stored`.
    probe
        Samples that reach every product.
    model
        What a user gives, or ``None``.

    Returns
    -------
    tuple
        The skeleton, and its products by name.

    Raises
    ------
    FileFormatError
        If the kind is not known.
    InputError
        If `model` is needed and not given, or does not fit.
    """
    if kind not in _KINDS:
        raise FileFormatError(f"skeleton must be one of {', '.join(map(repr, _KINDS))}, got {kind!r}")
    return _KINDS[kind](stored, probe, model)
