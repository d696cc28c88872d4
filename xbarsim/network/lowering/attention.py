"""``MultiheadAttention``: the projections are products with weights; Q K^T, the softmax and its product with V are not.

In self-attention one product ``in_proj`` makes queries, keys and values of the one input; elsewhere ``q_proj``,
``k_proj`` and ``v_proj`` do. Which of the two a module needs shows when it is called, so it has both until
:func:`settle_attention` is told which were used. The parameters are those of ``in_proj``; the three others hold views
of them as buffers, so that none is counted twice.

Products of two activations, and the softmax, are plain ``torch.matmul`` and ``torch.softmax``, so that they can be
counted. Activations of the projections are ``(samples, positions, features)`` whatever the module's own layout.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from xbarsim.foundation.validation import InputError
from xbarsim.network.lowering.base import Lowering
from xbarsim.network.lowering.replacement import Replacement, current_weight, linear, own_forward

__all__ = ["LOWERINGS", "Attention", "LowerMultiheadAttention", "settle_attention"]

_SEPARATE = ("q_proj", "k_proj", "v_proj")
_ROLES = ("query", "key", "value")  # of the blocks of in_proj's outputs, and of the separate products
_WEIGHTS = (
    "in_proj_weight",
    "in_proj_bias",
    "q_proj_weight",
    "k_proj_weight",
    "v_proj_weight",
    "bias_k",
    "bias_v",
)


class Attention(Replacement):
    """In the place of a ``MultiheadAttention``.

    A transformer layer that holds it never takes torch's fused path, which would pass the products by:
    ``_qkv_same_embed_dim`` is false here. Joined and separate weights are both answered by their names, so that whoever
    computes with them as torch does gets what the original would give.

    Parameters
    ----------
    module
        The original, whose attributes this one answers with.
    """

    embed_dim: int
    num_heads: int
    head_dim: int
    batch_first: bool
    add_zero_attn: bool

    def __init__(self, module: nn.MultiheadAttention) -> None:
        super().__init__(module, _WEIGHTS)
        self._qkv_same_embed_dim = False
        given = {name: current_weight(module, name) for name in _WEIGHTS}
        joined, bias = given["in_proj_weight"], given["in_proj_bias"]
        if joined is not None:
            self.in_proj = linear(joined, bias, _ROLES)
        rows = [given[f"{name}_weight"] for name in _SEPARATE] if joined is None else joined.chunk(3)
        biases = (None, None, None) if bias is None else bias.chunk(3)
        for name, role, weight, part in zip(_SEPARATE, _ROLES, rows, biases, strict=True):
            assert weight is not None
            projection = linear(weight, part, (role,))
            if joined is not None:
                _hold_as_buffers(projection)
            self.add_module(name, projection)
        weight = current_weight(module.out_proj, "weight")
        assert weight is not None
        self.out_proj = linear(weight, current_weight(module.out_proj, "bias"), ("output",))
        for name in ("bias_k", "bias_v"):
            value = given[name]
            self.register_parameter(name, None if value is None else nn.Parameter(value, requires_grad=False))

    def weight(self, name: str) -> torch.Tensor | None:
        """A weight by torch's name, joined or separate, made of what this module holds."""
        product, _, kind = name.rpartition("_")
        if product in self._modules:
            held: torch.Tensor | None = getattr(self.get_submodule(product), kind)
            return held
        if product in _SEPARATE:
            return self.in_proj.weight.chunk(3)[_SEPARATE.index(product)]
        parts = [getattr(self.get_submodule(part), kind) for part in _SEPARATE]
        together = parts[0] is not None and len({part.shape for part in parts}) == 1
        # Biases are joined in torch even where the weights, of different widths, are not.
        return torch.cat(parts) if together else None

    def settle(self, used: Collection[str]) -> None:
        """Keep, of ``in_proj`` and the three separate products, those that are used.

        Parameters
        ----------
        used
            Names of this module's products that calls have used. Where both forms or neither are among them, both
            stay.
        """
        separate = any(name in used for name in _SEPARATE)
        if "in_proj" not in self._modules or separate == ("in_proj" in used):
            return
        if separate:
            del self.in_proj
            for name in _SEPARATE:
                _hold_as_parameters(self.get_submodule(name))
        else:
            for name in _SEPARATE:
                delattr(self, name)

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        key_padding_mask: torch.Tensor | None = None,
        need_weights: bool = True,
        attn_mask: torch.Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """As torch's.

        Raises
        ------
        InputError
            If inputs or masks are of other shapes or types than torch takes, or the products that a call needs were
            not among those that the module was settled on.
        """
        if query.dim() not in (2, 3) or key.dim() != query.dim() or value.dim() != query.dim():
            raise InputError(
                "query, key and value must all have 2 or all have 3 dimensions, "
                f"got {query.dim()}, {key.dim()} and {value.dim()}"
            )
        if query.is_nested:
            raise InputError("query must be a padded tensor, got a nested one")
        whole = query.dim() == 3
        if not whole and key_padding_mask is not None:
            key_padding_mask = key_padding_mask[None]
        queries, keys, values = self._project(query, key, value)
        if keys.shape[:2] != values.shape[:2]:
            raise InputError(f"value must have the shape of key, {tuple(key.shape)}, got {tuple(value.shape)}")
        positions = keys.shape[1]
        if self.bias_k is not None and self.bias_v is not None:
            samples = len(queries)
            keys = torch.cat([keys, self.bias_k.expand(samples, -1, -1)], dim=1)
            values = torch.cat([values, self.bias_v.expand(samples, -1, -1)], dim=1)
        queries, keys, values = self._heads(queries), self._heads(keys), self._heads(values)
        if self.add_zero_attn:
            keys, values = functional.pad(keys, (0, 0, 0, 1)), functional.pad(values, (0, 0, 0, 1))

        if is_causal and attn_mask is None:
            raise InputError("attn_mask must be given with is_causal, which only says that it is causal; got None")
        if is_causal and key_padding_mask is None and not need_weights:
            # Here torch makes a mask of its own, which hides what was appended to the keys as well.
            seen = torch.ones(queries.shape[2], keys.shape[2], dtype=torch.bool, device=query.device).tril()
            mask: torch.Tensor | None = _additive("attn_mask", seen.logical_not(), queries.dtype)
        else:
            mask = self._mask(attn_mask, key_padding_mask, queries, positions, keys.shape[2] - positions)

        scores = torch.matmul(queries * math.sqrt(1.0 / self.head_dim), keys.transpose(-2, -1))
        if mask is not None:
            scores = scores + mask
        weights = torch.softmax(scores, dim=-1)
        if mask is not None and not need_weights:
            # Where nothing may be attended to, torch gives zeros if weights are not asked for, else not a number.
            weights = weights.masked_fill(torch.isneginf(scores).all(dim=-1, keepdim=True), 0.0)
        heads = torch.matmul(weights, values)
        outputs = self.out_proj(heads.transpose(1, 2).flatten(2))
        outputs = outputs[0] if not whole else outputs if self.batch_first else outputs.transpose(0, 1).contiguous()
        if not need_weights:
            return outputs, None
        shown = weights.mean(dim=1) if average_attn_weights else weights
        return outputs, shown if whole else shown[0]

    def _project(
        self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries, keys and values, each of shape ``(samples, positions, embed_dim)``."""

        def arrange(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.dim() == 2:
                return tensor[None]
            return tensor if self.batch_first else tensor.transpose(0, 1)

        if query is key and key is value and "in_proj" in self._modules:
            queries, keys, values = self.in_proj(arrange(query)).chunk(3, dim=-1)
            return queries, keys, values
        if "q_proj" not in self._modules:
            raise InputError(
                "query, key and value must be one tensor, as they were in every call that this attention was mapped for"
            )
        return self.q_proj(arrange(query)), self.k_proj(arrange(key)), self.v_proj(arrange(value))

    def _heads(self, tensor: torch.Tensor) -> torch.Tensor:
        """From ``(samples, positions, embed_dim)`` to ``(samples, heads, positions, head_dim)``."""
        return tensor.reshape(*tensor.shape[:2], self.num_heads, self.head_dim).transpose(1, 2)

    def _mask(
        self,
        attn_mask: torch.Tensor | None,
        key_padding_mask: torch.Tensor | None,
        queries: torch.Tensor,
        positions: int,
        appended: int,
    ) -> torch.Tensor | None:
        """What is added to the scores: both masks, and zeros for what was appended to the keys.

        Parameters
        ----------
        attn_mask, key_padding_mask
            As torch takes them, the second with a dimension of samples.
        queries
            Shape ``(samples, heads, positions, head_dim)``.
        positions
            Of the keys, without what was appended.
        appended
            How many were.
        """
        samples, heads, length, _ = queries.shape
        masks = []
        if attn_mask is not None:
            expected = (length, positions) if attn_mask.dim() == 2 else (samples * heads, length, positions)
            if tuple(attn_mask.shape) != expected:
                raise InputError(f"attn_mask must be of shape {expected}, got {tuple(attn_mask.shape)}")
            mask = _additive("attn_mask", attn_mask, queries.dtype)
            masks.append(mask if mask.dim() == 2 else mask.reshape(samples, heads, length, positions))
        if key_padding_mask is not None:
            if tuple(key_padding_mask.shape) != (samples, positions):
                raise InputError(
                    f"key_padding_mask must be of shape {(samples, positions)}, got {tuple(key_padding_mask.shape)}"
                )
            masks.append(_additive("key_padding_mask", key_padding_mask, queries.dtype)[:, None, None, :])
        return functional.pad(sum(masks[1:], masks[0]), (0, appended)) if masks else None


def _additive(name: str, mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """A mask as numbers to be added: minus infinity where a boolean one is true."""
    if mask.dtype == torch.bool:
        return torch.zeros(mask.shape, dtype=dtype, device=mask.device).masked_fill(mask, -torch.inf)
    if not mask.is_floating_point():
        raise InputError(f"{name} must be boolean or floating, got {mask.dtype}")
    return mask


def _hold_as_buffers(layer: nn.Module) -> None:
    """Turn a layer's parameters into buffers that are not saved."""
    for name, parameter in list(layer.named_parameters(recurse=False)):
        delattr(layer, name)
        layer.register_buffer(name, parameter.data, persistent=False)


def _hold_as_parameters(layer: nn.Module) -> None:
    """Undo :func:`_hold_as_buffers`, on copies of the buffers."""
    for name, buffer in list(layer.named_buffers(recurse=False)):
        delattr(layer, name)
        layer.register_parameter(name, nn.Parameter(buffer.clone(), requires_grad=False))


def settle_attention(model: nn.Module, used: Collection[str]) -> None:
    """Remove the projections that no call has used from each :class:`Attention`, in place.

    Parameters
    ----------
    model
        With attentions in it.
    used
        Names of the products that calls have used, as ``encoder.self_attn.in_proj``.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, Attention):
            prefix = f"{name}." if name else ""
            module.settle({part for part, _ in module.named_children() if prefix + part in used})


class LowerMultiheadAttention(Lowering):
    """``MultiheadAttention``, in every layout and with every option; dropout does nothing in evaluation mode."""

    handles: ClassVar[type[nn.Module]] = nn.MultiheadAttention

    def misfit(self, module: nn.Module) -> str | None:
        """As :meth:`Lowering.misfit`: a type derived from this one may compute something else."""
        return own_forward(module, nn.MultiheadAttention)

    def lower(self, module: Any) -> nn.Module:
        """As :meth:`Lowering.lower`."""
        return Attention(module)


LOWERINGS: tuple[Lowering, ...] = (LowerMultiheadAttention(),)
