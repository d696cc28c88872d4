"""Images as a network takes them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from xbarsim.foundation.validation import InputError

__all__ = ["as_images"]


def as_images(images: Any, *, name: str = "images", shape: tuple[int, ...] | None = None) -> Tensor:
    """Images as a float32 tensor, images first.

    Parameters
    ----------
    images
        Array or tensor of floating numbers.
    name
        For messages.
    shape
        Shape that one image must have, or ``None`` for any.

    Raises
    ------
    InputError
        If they are empty, not floating, not finite, or of another shape.
    """
    tensor: Any = images.detach().cpu() if isinstance(images, Tensor) else np.asarray(images)
    if tensor.ndim < 2 or 0 in tensor.shape:
        raise InputError(f"{name} must be a non-empty batch, images first, got shape {tuple(tensor.shape)}")
    floating = tensor.is_floating_point() if isinstance(tensor, Tensor) else tensor.dtype.kind == "f"
    if not floating:
        raise InputError(f"{name} must be floating numbers, scaled as the model was trained, got {tensor.dtype}")
    if shape is not None and tuple(tensor.shape[1:]) != tuple(shape):
        raise InputError(
            f"{name} must have shape (any number, {', '.join(map(str, shape))}), got {tuple(tensor.shape)}"
        )
    if not isinstance(tensor, Tensor):
        with np.errstate(over="ignore"):
            tensor = torch.from_numpy(np.array(tensor, dtype=np.float32, order="C"))
    tensor = tensor.to(torch.float32)
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"{name} must be finite, got NaN or infinity")
    result: Tensor = tensor
    return result
