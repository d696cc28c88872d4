"""Counting what stays digital: the operations of a call of a torch function, by kind.

Counts are those of the textbook definition of each function, whatever a library makes of it: a softmax over n values is
n exponentials, n additions and n divisions. Moving data counts nothing. What is not known is not guessed:
:func:`count_operations` says so, and the network names it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from xbarsim.cost import DigitalUse
from xbarsim.network.samples import per_sample
from xbarsim.network.states import keep_state

__all__ = ["DigitalWork", "Operations", "count_operations"]

Operations = dict[str, float]
"""Counts by kind, as :class:`xbarsim.cost.DigitalUse` names them."""


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_MOVING = _names(
    "alpha_dropout arange array array_wrap as_strided as_tensor asarray atleast_1d atleast_2d bfloat16 bool "
    "broadcast_tensors broadcast_to cat channel_shuffle chunk clone col2im complex concat concatenate constant_pad_nd "
    "contains contiguous copy cpu data data_ptr deepcopy detach device diag diag_embed diagonal dim double dropout "
    "dropout1d dropout2d dropout3d dsplit dstack dtype element_size empty empty_like expand expand_as eye "
    "feature_alpha_dropout feature_dropout fill fill_diagonal flatten flip float fold format from_numpy full "
    "full_like gather get get_default_dtype get_device getitem grad_fn half hash hsplit hstack identity im2col imag "
    "index index_copy index_fill index_put index_select int is_complex is_conj is_contiguous is_cuda "
    "is_floating_point is_leaf is_neg is_nested is_same_size is_sparse item iter layout len linspace long masked_fill "
    "masked_scatter masked_select meshgrid moveaxis movedim narrow native_channel_shuffle ndim ndimension nelement "
    "nested_tensor_from_mask new_empty new_full new_ones new_tensor new_zeros nonzero nonzero_static numel numpy "
    "one_hot ones ones_like pack_padded_sequence pad pad_packed_sequence permute pixel_shuffle pixel_unshuffle put "
    "ravel real reduce_ex repeat repeat_interleave repr requires_grad reshape reshape_as resize resolve_conj "
    "resolve_neg result_type roll rot90 scatter select set setitem shape size split split_with_sizes squeeze stack "
    "storage_offset stride swapaxes swapdims t take take_along_dim tensor tensor_split tile to to_dense tolist "
    "transpose tril triu type type_as unbind unflatten unfold unsqueeze untyped_storage view view_as view_as_complex "
    "view_as_real vsplit vstack where zero zeros zeros_like"
)
_ELEMENTWISE = _names(
    "abs absolute add and bitwise_and bitwise_not bitwise_or bitwise_xor ceil conj cumprod cumsum div divide floor "
    "floor_divide floordiv fmod frac iadd imul invert isub itruediv logical_and logical_not logical_or "
    "logical_xor mod mul multiply neg negative or outer positive radd rdiv reciprocal remainder rmul round rsub "
    "rtruediv sgn sign square sub subtract true_divide truediv trunc xor"
)
_NONLINEAR = _names(
    "acos acosh asin asinh atan atan2 atanh celu cos cosh digamma elu erf erfc erfinv exp exp2 expm1 gelu glu "
    "hypot lgamma log log10 log1p log2 logaddexp logit logsigmoid log_sigmoid mish rsqrt selu sigmoid silu sin sinc "
    "sinh softplus softsign special_erf special_expit sqrt tan tanh tanhshrink xlogy rpow"
)
_COMPARING = _names(
    "eq equal fmax fmin ge greater greater_equal gt heaviside isfinite isinf isnan le less less_equal lt maximum "
    "minimum ne not_equal relu threshold isclose"
)
_PRODUCTS = _names("matmul rmatmul mm bmm linalg_matmul mv dot vdot linear addmm addbmm baddbmm addmv cdist")


def _product(name: str, given: tuple[Any, ...], keywords: Mapping[str, Any], result: Tensor) -> Operations:
    tensors = [each for each in (*given, *keywords.values()) if isinstance(each, Tensor)]
    if name in ("addmm", "addbmm", "baddbmm", "addmv"):
        batches = len(tensors[1]) if name == "addbmm" else 1  # whose products are added up
        return {
            "multiply_accumulates": batches * result.numel() * tensors[1].shape[-1],
            "elementwise": result.numel(),
        }
    added = {"elementwise": result.numel()} if name == "linear" and len(tensors) > 2 else {}
    inner = tensors[1].shape[-1] if name == "rmatmul" else tensors[0].shape[-1]
    return {"multiply_accumulates": result.numel() * inner, **added}


def _einsum(given: tuple[Any, ...], result: Tensor) -> Operations:
    if not isinstance(given[0], str):
        return {}
    operands = [each for each in tree_leaves(given[1:]) if isinstance(each, Tensor)]
    terms = given[0].replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    dots = 1
    for term, operand in zip(terms, operands, strict=True):
        before, point, after = term.partition("...")
        shape = list(operand.shape)
        sizes |= dict(zip(before, shape, strict=False))
        if after:
            sizes |= dict(zip(after, shape[-len(after) :], strict=True))
        if point:
            dots = max(dots, math.prod(shape[len(before) : len(shape) - len(after)]))
    return {"multiply_accumulates": dots * math.prod(sizes.values()) * max(1, len(operands) - 1)}


def _softmax(values: Tensor) -> Operations:
    return {"nonlinear": values.numel(), "elementwise": 2 * values.numel()}


def _attention(given: tuple[Any, ...], keywords: Mapping[str, Any]) -> Operations:
    values = dict(zip(("query", "key", "value", "attn_mask"), given, strict=False)) | dict(keywords)
    query, key, value = values["query"], values["key"], values["value"]
    scores = math.prod(query.shape[:-1]) * key.shape[-2]
    masked = 0 if values.get("attn_mask") is None else scores
    return {
        "multiply_accumulates": scores * (query.shape[-1] + value.shape[-1]),
        "nonlinear": scores,  # the softmax
        "elementwise": 3 * scores + masked,  # two of the softmax, one of the scale
    }


def _multi_head_attention(given: tuple[Any, ...]) -> Operations:
    """The projections of all three inputs and of the outputs, and the attention of all heads."""
    query, key, value, width = given[:4]
    batch = 1 if query.ndim == 2 else query.shape[1]
    scores = given[4] * batch * query.shape[0] * key.shape[0]
    projected = (2 * query.numel() + key.numel() + value.numel()) * width
    return {
        "multiply_accumulates": projected + 2 * scores * (width // given[4]),
        "nonlinear": scores,
        "elementwise": 3 * scores,
    }


def _recurrent(name: str, given: tuple[Any, ...]) -> Operations:
    """All steps of a recurrent layer or cell: its products, and the gates by their formulas."""
    kind = name.split("_")[0]
    vectors = given[0].numel() / given[0].shape[-1]
    matrices = [each for each in tree_leaves(given[2:]) if isinstance(each, Tensor) and each.ndim == 2]
    biases = [each for each in tree_leaves(given[2:]) if isinstance(each, Tensor) and each.ndim == 1]
    gates = {"lstm": 4, "gru": 3, "rnn": 1}[kind]
    # of a layer and direction: from the inputs, from the hidden state, and perhaps a projection, which has fewer rows
    of_hidden = [each for each in matrices if len(each) == len(matrices[0])][1::2]
    states = sum(len(each) // gates for each in of_hidden) * vectors
    kept = sum(each.shape[1] for each in of_hidden) * vectors + (states if kind == "lstm" else 0)  # hidden, and cells
    own = {"lstm": (5, 4), "gru": (3, 5), "rnn": (1, 0)}[kind]  # nonlinear, elementwise for each state
    sums = states * gates  # inputs' and states' products are added
    return {
        "multiply_accumulates": sum(each.numel() for each in matrices) * vectors,
        "nonlinear": 0 if "relu" in name else own[0] * states,
        "comparisons": states if "relu" in name else 0,
        "elementwise": own[1] * states + sums + sum(each.numel() for each in biases) * vectors,
        "state_accesses": 2 * kept,  # each is read and written once a step
    }


def _norm(name: str, given: tuple[Any, ...], keywords: Mapping[str, Any], result: Tensor) -> Operations:
    count = result.numel()
    if name == "batch_norm":  # of running statistics: one factor and one shift
        return {"elementwise": 2 * count}
    if name in ("layer_norm", "rms_norm"):
        shape = given[1] if len(given) > 1 else keywords["normalized_shape"]
        groups = count // max(1, math.prod(shape))
        affine = [each for each in (*given[2:4], keywords.get("weight"), keywords.get("bias"))]
    else:
        parts = given[1] if name == "group_norm" else result.shape[1]
        groups = result.shape[0] * int(parts)
        affine = [*given[2 if name == "group_norm" else 3 :][:2], keywords.get("weight"), keywords.get("bias")]
    scaled = sum(isinstance(each, Tensor) for each in affine)
    each = 3 if name == "rms_norm" else 5  # squares, their sum, and the factor; and the mean, taken off
    return {"elementwise": (each + scaled) * count, "nonlinear": groups}


def _window(given: tuple[Any, ...], keywords: Mapping[str, Any], dimensions: int) -> int:
    kernel = given[1] if len(given) > 1 else keywords["kernel_size"]
    sizes = (kernel,) if isinstance(kernel, int) else tuple(int(each) for each in kernel)
    return math.prod(sizes * dimensions if len(sizes) == 1 else sizes)


def _pool(name: str, given: tuple[Any, ...], keywords: Mapping[str, Any], result: Tensor) -> Operations:
    dimensions = int(next(character for character in name if character in "123"))
    if name.startswith("adaptive"):
        sizes = zip(given[0].shape[-dimensions:], result.shape[-dimensions:], strict=True)
        window = math.prod(math.ceil(size / out) for size, out in sizes)
    else:
        window = _window(given, keywords, dimensions)
    if "max" in name:
        return {"comparisons": result.numel() * (window - 1)}
    return {"elementwise": result.numel() * window}  # additions and one division


def _reduction(name: str, values: Tensor, result: Tensor) -> Operations:
    whole, kept = values.numel(), result.numel()
    if name in ("max", "min", "amax", "amin", "argmax", "argmin", "all", "any", "median"):
        return {"comparisons": whole - kept}
    if name in ("sum", "prod"):
        return {"elementwise": whole - kept}
    if name == "mean":
        return {"elementwise": whole}
    if name in ("norm", "linalg_norm", "linalg_vector_norm"):
        return {"elementwise": 2 * whole - kept, "nonlinear": kept}
    if name == "logsumexp":
        return {"nonlinear": whole + kept, "elementwise": whole - kept}
    return {"elementwise": 4 * whole, "nonlinear": kept if name.startswith("std") else 0}  # mean, squares, their mean


_REDUCTIONS = _names(
    "sum mean prod max min amax amin argmax argmin all any median std var norm linalg_norm linalg_vector_norm logsumexp"
)
_NORMS = _names("batch_norm layer_norm rms_norm group_norm instance_norm")
_POINTS = {"nearest": 0, "nearest-exact": 0, "area": 1, "linear": 2, "bilinear": 4, "bicubic": 16, "trilinear": 8}
_SEVERAL: dict[str, tuple[int, int]] = {  # comparisons and elementwise operations a value
    "relu6": (2, 0),
    "hardtanh": (2, 0),
    "clamp": (2, 0),
    "clip": (2, 0),
    "clamp_min": (1, 0),
    "clamp_max": (1, 0),
    "leaky_relu": (1, 1),
    "prelu": (1, 1),
    "rrelu": (1, 1),
    "hardsigmoid": (2, 2),
    "hardswish": (2, 3),
    "softshrink": (2, 1),
    "hardshrink": (2, 0),
    "addcmul": (0, 2),
    "addcdiv": (0, 2),
    "lerp": (0, 3),
    "index_add": (0, 1),
    "scatter_add": (0, 1),
    "nan_to_num": (3, 0),
    "fake_quantize_per_tensor_affine": (2, 3),
    "fake_quantize_per_channel_affine": (2, 3),
}


def count_operations(
    function: Callable[..., Any], arguments: tuple[Any, ...], keywords: Mapping[str, Any], result: Any
) -> Operations | None:
    """Operations of one call of a torch function.

    Parameters
    ----------
    function, arguments, keywords
        The call, as a torch function mode sees it.
    result
        What it gave.

    Returns
    -------
    dict or None
        Counts by kind; empty where data are only moved; ``None`` for a function that is not known.
    """
    name = getattr(function, "__name__", str(function)).strip("_")
    tensor = next((each for each in tree_leaves(result) if isinstance(each, Tensor)), None)
    inputs = next((each for each in tree_leaves((arguments, dict(keywords))) if isinstance(each, Tensor)), None)
    if name in _MOVING or tensor is None or inputs is None:
        return {}
    count = tensor.numel()
    if function is keep_state:
        return {"state_accesses": 2 * count}
    if name in _NONLINEAR:
        return {"nonlinear": count}
    if name in _COMPARING:
        return {"comparisons": count}
    if name in _SEVERAL:
        comparisons, elementwise = _SEVERAL[name]
        return {"comparisons": comparisons * count, "elementwise": elementwise * count}
    if name == "pow":
        exponent = arguments[1] if len(arguments) > 1 else keywords.get("exponent")
        return {"elementwise": count} if exponent in (1, 2) else {"nonlinear": count}
    if name in ("softmax", "softmin"):
        return _softmax(tensor)
    if name == "log_softmax":
        dimension = keywords.get("dim", arguments[1] if len(arguments) > 1 else -1)
        size = tensor.shape[dimension if isinstance(dimension, int) else -1]
        return {"nonlinear": count + count // max(1, size), "elementwise": 2 * count}
    if name in _PRODUCTS:
        return _product(name, arguments, keywords, tensor)
    if name in ("inner", "tensordot"):
        first, second = arguments[:2]
        return {"multiply_accumulates": round(math.sqrt(first.numel() * second.numel() * count))}
    if name == "einsum":
        return _einsum(arguments, tensor)
    if name == "bilinear":
        width = inputs.shape[-1]
        return {"multiply_accumulates": count * (width + 1) * arguments[1].shape[-1]}
    if name in ("conv1d", "conv2d", "conv3d"):
        weight = arguments[1] if len(arguments) > 1 else keywords["weight"]
        return {"multiply_accumulates": count * (weight.numel() // len(weight))}
    if name in ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"):
        weight = arguments[1] if len(arguments) > 1 else keywords["weight"]
        return {"multiply_accumulates": inputs.numel() * (weight.numel() // len(weight))}
    if name == "scaled_dot_product_attention":
        return _attention(arguments, keywords)
    if name == "multi_head_attention_forward":
        return _multi_head_attention(arguments)
    if name in ("lstm", "gru", "rnn_tanh", "rnn_relu", "lstm_cell", "gru_cell", "rnn_tanh_cell", "rnn_relu_cell"):
        return _recurrent(name, arguments)
    if name in _NORMS:
        return _norm(name, arguments, keywords, tensor)
    if "pool" in name and any(character in name for character in "123") and "lp" not in name and "un" not in name:
        return _pool(name, arguments, keywords, tensor)
    if name in ("maximum", "minimum") or (name in ("max", "min") and _is_pair(arguments, keywords)):
        return {"comparisons": count}
    if name in _REDUCTIONS:
        return _reduction(name, inputs, tensor)
    if name in ("embedding", "embedding_bag"):
        values = next(each for each in arguments if isinstance(each, Tensor) and not each.is_floating_point())
        read = values.numel() * tensor.shape[-1]
        return {"lookups": read, "elementwise": 0 if name == "embedding" else read - count}
    if name == "interpolate":
        points = _POINTS.get(str(keywords.get("mode", arguments[3] if len(arguments) > 3 else "nearest")))
        return None if points is None else {"multiply_accumulates": points * count}
    if name in ("sort", "argsort", "topk", "kthvalue"):
        return {"comparisons": inputs.numel() * max(1, math.ceil(math.log2(max(2, inputs.shape[-1]))))}
    if name in _ELEMENTWISE or (name[:1] in "ri" and name[1:] in _ELEMENTWISE):
        return {"elementwise": count}
    return None


def _is_pair(arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> bool:
    return isinstance(keywords.get("other", arguments[1] if len(arguments) > 1 else None), Tensor)


class DigitalWork:
    """Operations of runs of a model, by the module that runs and what it does.

    Parameters
    ----------
    model
        The model: tells what its modules are.

    Attributes
    ----------
    counts
        By name of the module and kind of work, operations of all runs so far.
    unknown
        Names of functions that could not be counted.
    """

    def __init__(self, model: nn.Module) -> None:
        self._modules = dict(model.named_modules())
        self.counts: dict[tuple[str, str], Operations] = {}
        self.unknown: set[str] = set()

    def add(
        self,
        function: Callable[..., Any],
        arguments: tuple[Any, ...],
        keywords: Mapping[str, Any],
        result: Any,
        owner: str,
    ) -> None:
        """Count a call in a module of this name."""
        operations = count_operations(function, arguments, keywords, result)
        name = getattr(function, "__name__", str(function)).strip("_")
        if operations is None:
            self.unknown.add(name)
        elif any(operations.values()):
            module = self._modules[owner]
            kind = name
            if owner and next(module.children(), None) is None:
                kind = type(module).__name__
                if operations.get("multiply_accumulates"):
                    kind += ", not mapped"
            total = self.counts.setdefault((owner, kind), {})
            for operation, count in operations.items():
                total[operation] = total.get(operation, 0) + count

    def uses(self, samples: int, held: Mapping[str, tuple[str, int]]) -> tuple[DigitalUse, ...]:
        """What was counted, for one sample.

        Parameters
        ----------
        samples
            How many were run in all.
        held
            Kind of each module that holds weights that are in no product, and how many, by name.
        """
        left = dict(held)
        uses = []
        for (owner, kind), operations in self.counts.items():
            _, parameters = left.pop(owner, ("", 0))
            each = {name: per_sample(count, samples) for name, count in operations.items()}
            uses.append(DigitalUse(name=owner, kind=kind, parameters=parameters, **each))
        uses += [DigitalUse(name=owner, kind=kind, parameters=count) for owner, (kind, count) in left.items()]
        return tuple(uses)
