"""Activations that take a few values, with a gradient all the same."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_integer, check_real

__all__ = ["DiscreteActivation"]

_MOST = 8  # exponent: 257 states


class DiscreteActivation(nn.Module):
    """A staircase of 2**N + 1 values between -H and H (for N = 0 the two values -H and H).

    For N = 0 it is the sign: H where x >= 0, else -H. For N >= 1 it is 0 from -r to r; above, it rises by H /
    2**(N - 1) at r + k (H - r) / 2**(N - 1) for k = 0, 1, ..., 2**(N - 1) - 1, and falls likewise on the other side.

    Its gradient is that of the staircase smoothed by a box of half-width a: each jump counts jump / (2 a) where x is
    nearer to it than a. For N = 1 and a = 0.5 that is 1 where the
    magnitude of x is within 0.5 of r, else 0.

    Parameters
    ----------
    exponent
        N, 0 to 8: 0 is binary, 1 ternary.
    limit
        H, the largest value, > 0.
    window
        r, half the width of the interval that gives 0, >= 0, and below `limit` where N is 2 or more. Behind a batch
        norm the share of activations that are not 0 follows from it: 0.62 for 0.5, 0.32 for 1.0 of normal numbers.
    width
        a, half the width of the box, > 0.

    Raises
    ------
    InputError
        If a value is out of its bound.

    References
    ----------
    L. Deng, P. Jiao, J. Pei, Z. Wu, G. Li, GXNOR-Net, Neural Networks 100, 2018, doi:10.1016/j.neunet.2018.01.010. The
    code of its authors has r = 1.0 for ternary activations.

    Examples
    --------
    >>> import torch
    >>> DiscreteActivation()(torch.tensor([-1.2, -0.5, 0.1, 0.6])).tolist()
    [-1.0, 0.0, 0.0, 1.0]
    """

    @entrance
    def __init__(self, *, exponent: int = 1, limit: float = 1.0, window: float = 0.5, width: float = 0.5) -> None:
        super().__init__()
        self.exponent = check_integer("exponent", exponent, at_least=0, at_most=_MOST)
        self.limit = check_real("limit", limit, above=0.0)
        self.window = check_real("window", window, at_least=0.0)
        self.width = check_real("width", width, above=0.0)
        if self.exponent >= 2 and self.window >= self.limit:
            raise InputError(f"window must be < {self.limit:g} (limit) for exponent {exponent}, got {self.window:g}")

    @property
    def thresholds(self) -> tuple[float, ...]:
        """Where the values rise, ascending, on the side of positive numbers; for N = 0 at 0."""
        if self.exponent == 0:
            return (0.0,)
        steps = 2 ** (self.exponent - 1)
        return tuple(self.window + number * (self.limit - self.window) / steps for number in range(steps))

    @property
    def jump(self) -> float:
        """By how much they rise at each threshold."""
        return 2 * self.limit if self.exponent == 0 else self.limit / 2 ** (self.exponent - 1)

    def forward(self, x: Tensor) -> Tensor:
        """Values of the staircase, same shape."""
        if isinstance(x, Tensor) and torch.is_grad_enabled() and x.requires_grad:  # no tensor while it is traced
            result: Tensor = _Staircase.apply(x, self)  # type: ignore[no-untyped-call]  # torch has no types for it
            return result
        return self.values(x)

    def values(self, x: Tensor) -> Tensor:
        """As :meth:`forward`, without a gradient."""
        if self.exponent == 0:
            return torch.where(x >= 0, self.limit, -self.limit).to(x.dtype)
        counts = torch.zeros_like(x)
        for threshold in self.thresholds:
            counts = counts + (x > threshold).to(x.dtype) - (x < -threshold).to(x.dtype)
        return counts if self.jump == 1 else counts * self.jump

    def slope(self, x: Tensor) -> Tensor:
        """What stands for the derivative, same shape."""
        sides = (1,) if self.exponent == 0 else (1, -1)
        near = torch.zeros_like(x)
        for threshold in self.thresholds:
            for side in sides:
                near = near + ((x - side * threshold).abs() < self.width).to(x.dtype)
        height = self.jump / (2 * self.width)
        return near if height == 1 else near * height

    def extra_repr(self) -> str:
        """All settings, for those who tell networks apart by them."""
        return f"exponent={self.exponent}, limit={self.limit}, window={self.window}, width={self.width}"


class _Staircase(torch.autograd.Function):
    """The staircase forward, the slope of the smoothed one backward."""

    @staticmethod
    def forward(context: Any, x: Tensor, owner: DiscreteActivation) -> Tensor:
        context.save_for_backward(x)
        context.owner = owner
        return owner.values(x)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (x,) = context.saved_tensors
        return gradients[0] * context.owner.slope(x), None
