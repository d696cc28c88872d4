"""Transformer layers never take torch's fused paths: those read weights, and pass the layers that hold them by.

In evaluation mode torch has two (torch 2.13, ``nn/modules/transformer.py``). A ``TransformerEncoderLayer`` computes
itself in one function, ``torch._transformer_encoder_layer_fwd``, unless, among other things, its activation is neither
a rectifier nor a GELU. A ``TransformerEncoder`` with a mask of padded positions turns its input into a nested tensor of
the positions that are not padded, and its output back with zeros in the others.

The first path gives the same numbers as the plain one, to rounding. The second does not where the input is padded: the
plain path computes something there. A model that takes the mean over positions sees the difference, so the zeros are
kept: a hook on the encoder's last layer writes them.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import nn

__all__ = ["prepare_transformers"]


def prepare_transformers(model: nn.Module) -> None:
    """Switch the fused paths off in a model, in place, without changing what it computes in evaluation mode.

    Parameters
    ----------
    model
        In evaluation mode; a copy that may be changed. Attentions may have been replaced in it or not. What is kept is
        what the model computes with gradients disabled: with them enabled torch takes no fused path, and padded
        positions are not zero.
    """
    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0
        if isinstance(module, nn.TransformerEncoder) and module.use_nested_tensor:
            module.use_nested_tensor = False
            # Layers are called with keywords, and get the encoder's masks as numbers.
            hook = partial(_zero_padding, left_aligned=getattr(module, "mask_check", True))
            module.layers[-1].register_forward_hook(hook, with_kwargs=True)


def _zero_padding(
    layer: nn.Module, inputs: tuple[Any, ...], keywords: dict[str, Any], outputs: torch.Tensor, *, left_aligned: bool
) -> torch.Tensor:
    """Zeros in the padded positions of a layer's outputs, shape ``(samples, positions, features)``.

    Only where torch would make a nested tensor: with a mask of padding alone, whose padding stands behind the rest if
    `left_aligned` says that this was checked.
    """
    mask = keywords.get("src_key_padding_mask")
    if mask is None or keywords.get("src_mask") is not None or outputs.dim() != 3:
        return outputs
    kept = mask.logical_not()  # as torch does: any number but 0 in the mask is padding
    if left_aligned and not bool((kept[:, 1:] <= kept[:, :-1]).all()):
        return outputs
    return outputs.masked_fill(kept.logical_not()[..., None], 0.0)
