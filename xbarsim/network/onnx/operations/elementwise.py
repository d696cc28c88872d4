"""Operations that work on each number on its own, and those that compare or combine two."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np
from scipy import special

from xbarsim.network.onnx.operations.call import Array, Call, Operation, Work
from xbarsim.network.onnx.types import NUMPY_TYPES, type_name

__all__ = ["ELEMENTWISE"]


def _relu(call: Call) -> Array:
    return np.asarray(np.maximum(call[0], call[0].dtype.type(0)))


def _leaky(call: Call) -> Array:
    x = call[0]
    return np.where(x < 0, x * x.dtype.type(call.attribute("alpha", 0.01)), x)


def _parametric(call: Call) -> Array:
    x, slope = call[0], call[1]
    return np.where(x < 0, x * slope, x)


def _elu(call: Call) -> Array:
    x = call[0]
    return np.where(x > 0, x, x.dtype.type(call.attribute("alpha", 1.0)) * np.expm1(np.minimum(x, 0)))


def _selu(call: Call) -> Array:
    x = call[0]
    alpha = x.dtype.type(call.attribute("alpha", 1.67326319217681884765625))
    gamma = x.dtype.type(call.attribute("gamma", 1.05070102214813232421875))
    return np.asarray(np.where(x > 0, gamma * x, gamma * (alpha * np.expm1(np.minimum(x, 0)))))


def _celu(call: Call) -> Array:
    x = call[0]
    alpha = x.dtype.type(call.attribute("alpha", 1.0))
    return np.asarray(np.maximum(x, 0) + np.minimum(alpha * np.expm1(np.minimum(x, 0) / alpha), 0))


def _thresholded(call: Call) -> Array:
    x = call[0]
    return np.where(x > x.dtype.type(call.attribute("alpha", 1.0)), x, x.dtype.type(0))


def _clip(call: Call) -> Array:
    x, low, high = call[0], call.optional(1), call.optional(2)
    if low is not None:
        x = np.maximum(x, low.reshape(()).astype(x.dtype))
    return x if high is None else np.minimum(x, high.reshape(()).astype(x.dtype))


def _sigmoid(call: Call) -> Array:
    return np.asarray(special.expit(call[0]))


def _hard_sigmoid(call: Call) -> Array:
    kind = call[0].dtype.type
    alpha, beta = kind(call.attribute("alpha", 0.2)), kind(call.attribute("beta", 0.5))
    return np.asarray(np.clip(alpha * call[0] + beta, kind(0), kind(1)))


def _hard_swish(call: Call) -> Array:
    x = call[0]
    kind = x.dtype.type
    return np.asarray(x * np.clip(x * kind(1 / 6) + kind(0.5), kind(0), kind(1)))


def _gelu(call: Call) -> Array:
    x = call[0]
    kind = x.dtype.type
    approximate = call.attribute("approximate", "none")
    if approximate == "none":
        return np.asarray(kind(0.5) * x * (kind(1) + special.erf(x * kind(np.sqrt(0.5)))))
    if approximate == "tanh":
        inner = kind(np.sqrt(2 / np.pi)) * (x + kind(0.044715) * x * x * x)
        return np.asarray(kind(0.5) * x * (kind(1) + np.tanh(inner)))
    raise call.refuse("approximate must be 'none' or 'tanh'", approximate)


def _softplus(x: Array) -> Array:
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def _divide(call: Call) -> Array:
    a, b = call[0], call[1]
    if a.dtype.kind not in "iu":
        return np.divide(a, b)
    if not b.all():
        raise call.refuse("integers must not be divided by 0", 0)
    quotient = np.abs(a) // np.abs(b)  # towards zero, as in C
    return np.asarray(np.where((a < 0) != (b < 0), -quotient, quotient), dtype=a.dtype)


def _modulo(call: Call) -> Array:
    if call.attribute("fmod", 0) or call[0].dtype.kind == "f":
        return np.fmod(call[0], call[1])
    return np.mod(call[0], call[1])


def _power(call: Call) -> Array:
    base, exponent = call[0], call[1]
    if base.dtype.kind == "f":
        exponent = exponent.astype(base.dtype)
    return np.asarray(np.power(base, exponent), dtype=base.dtype)


def _cast_to(call: Call, number: int, array: Array) -> Array:
    if number not in NUMPY_TYPES:
        raise call.refuse("only ordinary types of numbers are supported", type_name(number))
    return array.astype(call.floating(NUMPY_TYPES[number]))


def _cast(call: Call) -> Array:
    return _cast_to(call, call.attribute("to"), call[0])


def _dropout(call: Call) -> tuple[Array, Array]:
    training = call.optional(2)
    if training is not None and bool(training):
        raise call.refuse("a network must be exported for inference, training_mode must be false", True)
    return call[0], np.ones(call[0].shape, np.bool_)


def _where(call: Call) -> Array:
    return np.where(call[0], call[1], call[2])


def _one(function: Callable[[Array], Any]) -> Callable[[Call], Array]:
    return lambda call: np.asarray(function(call[0]))


def _two(function: Callable[[Array, Array], Any]) -> Callable[[Call], Array]:
    return lambda call: np.asarray(function(call[0], call[1]))


def _many(function: Callable[[Array, Array], Any]) -> Callable[[Call], Array]:
    return lambda call: np.asarray(reduce(function, [call[index] for index in range(len(call.inputs))]))


def _mean(call: Call) -> Array:
    total = _many(np.add)(call)
    return np.asarray(total / total.dtype.type(len(call.inputs)))


def _table(work: Work, operations: dict[str, Callable[[Call], Any]]) -> dict[str, Operation]:
    return {name: Operation(run, work) for name, run in operations.items()}


ELEMENTWISE: dict[str, Operation] = {
    **_table(
        "none",
        {
            "Cast": _cast,
            "CastLike": lambda call: call[0].astype(call[1].dtype),
            "Dropout": _dropout,
            "Identity": lambda call: call[0],
        },
    ),
    **_table(
        "elementwise",
        {
            "Abs": _one(np.abs),
            "Add": _two(np.add),
            "And": _two(np.logical_and),
            "Ceil": _one(np.ceil),
            "Div": _divide,
            "Floor": _one(np.floor),
            "HardSigmoid": _hard_sigmoid,
            "HardSwish": _hard_swish,
            "IsInf": _one(np.isinf),
            "IsNaN": _one(np.isnan),
            "Mean": _mean,
            "Mod": _modulo,
            "Mul": _two(np.multiply),
            "Neg": _one(np.negative),
            "Not": _one(np.logical_not),
            "Or": _two(np.logical_or),
            "Reciprocal": lambda call: call[0].dtype.type(1) / call[0],
            "Round": _one(np.rint),
            "Sign": _one(np.sign),
            "Softsign": lambda call: call[0] / (call[0].dtype.type(1) + np.abs(call[0])),
            "Sub": _two(np.subtract),
            "Sum": _many(np.add),
            "Xor": _two(np.logical_xor),
        },
    ),
    **_table(
        "comparison",
        {
            "Clip": _clip,
            "Equal": _two(np.equal),
            "Greater": _two(np.greater),
            "GreaterOrEqual": _two(np.greater_equal),
            "LeakyRelu": _leaky,
            "Less": _two(np.less),
            "LessOrEqual": _two(np.less_equal),
            "Max": _many(np.maximum),
            "Min": _many(np.minimum),
            "PRelu": _parametric,
            "Relu": _relu,
            "ThresholdedRelu": _thresholded,
            "Where": _where,
        },
    ),
    **_table(
        "nonlinear",
        {
            "Celu": _celu,
            "Cos": _one(np.cos),
            "Elu": _elu,
            "Erf": _one(special.erf),
            "Exp": _one(np.exp),
            "Gelu": _gelu,
            "Log": _one(np.log),
            "Mish": lambda call: call[0] * np.tanh(_softplus(call[0])),
            "Pow": _power,
            "Selu": _selu,
            "Sigmoid": _sigmoid,
            "Sin": _one(np.sin),
            "Softplus": lambda call: _softplus(call[0]),
            "Sqrt": _one(np.sqrt),
            "Tanh": _one(np.tanh),
        },
    ),
}
