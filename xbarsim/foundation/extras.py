"""What is said where torch is needed and not installed: matrices, ONNX files, devices and costs do without it."""

from __future__ import annotations

import importlib.util

from xbarsim.foundation.guide import see

__all__ = ["need_torch", "torch_installed", "torch_is_missing"]


def torch_installed() -> bool:
    """Whether torch can be imported; it is not."""
    return importlib.util.find_spec("torch") is not None


def torch_is_missing(what: str) -> ImportError:
    """The error for something that needs torch, where there is none."""
    return ImportError(f"{what} needs torch, which is not installed: pip install 'xbarsim[torch]'{see('install')}")


def need_torch(what: str) -> None:
    """Refuse what needs torch where it is not installed, before anything tries to load it.

    Parameters
    ----------
    what
        What needs it.

    Raises
    ------
    ImportError
        If torch is not installed, saying how to install it.
    """
    if not torch_installed():
        raise torch_is_missing(what)
