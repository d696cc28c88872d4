"""What a pruning target is: a structure of weights, and the share of it that stays."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import fields, replace
from typing import Any, ClassVar, Literal, Self, get_args

from torch import Tensor

from xbarsim.compress.registry import register
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_choice, check_integer, check_real

__all__ = ["Law", "Resource", "Target"]

Law = Literal["geometric", "cubic"]
"""How shares are approached: see :meth:`Target.part_way`."""

Resource = Literal["cells", "drivers", "converters"]
"""What of a crossbar a group of weights may need alone: see :meth:`Target.frees`."""


class Target(metaclass=ABCMeta):
    """A structure of weights, and the share of it that stays.

    Subclasses are frozen dataclasses with a name of their own. Wherever one is defined, recipes can hold it, also
    those read from TOML, where its name is the ``type`` of its table; ``xbarsim.testing.check_target`` checks it.

    Each field whose name begins with ``keep`` is a share in (0, 1]: exactly that share stays, rounded to whole groups
    (halves up), at least one (:func:`xbarsim.compress.kept_count`).
    """

    known: ClassVar[dict[str, type]] = {}
    """All targets that are defined, by name."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        register(Target.known, cls)

    def __post_init__(self) -> None:
        for name, value in self._fields():
            if name.startswith("keep"):
                object.__setattr__(self, name, check_real(name, value, above=0.0, at_most=1.0))

    def _fields(self) -> list[tuple[str, Any]]:
        return [(field.name, getattr(self, field.name)) for field in fields(self)]  # type: ignore[arg-type]

    @abstractmethod
    def mask(self, matrix: Tensor, *, among: Tensor | None = None) -> Tensor:
        """Which weights stay: of all masks of the structure, one that leaves the nearest matrix.

        Parameters
        ----------
        matrix
            Weights, (filters, positions), float32 or float64; not changed.
        among
            Which weights may stay, bool of the same shape; ``None`` for all. Shares refer to the whole matrix all the
            same.

        Returns
        -------
        torch.Tensor
            Bool of the same shape; always the same for the same matrix.

        Raises
        ------
        InputError
            If the matrix is not finite, or `among` does not fit it.
        """

    @abstractmethod
    def kept_weights(self, shape: tuple[int, int]) -> tuple[int, int]:
        """The fewest and the most weights that stay of any matrix (filters, positions) if all may stay.

        They differ only where groups are of different sizes, such as tiles at an edge.
        """

    @abstractmethod
    def norms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """Norms of the groups that stay or go together, with gradients; one tensor for each kind of group."""

    @entrance
    def frees(self, kind: int) -> tuple[Resource, ...]:
        """What of the hardware is needed less when a group goes.

        Cells alone, unless the structure knows better: groups that lie across the filters of a tile free drivers of its
        rows, those that lie along its rows free converters of its columns.

        Parameters
        ----------
        kind
            Which kind of group: its place among what :meth:`norms` gives, from 0.
        """
        check_integer("kind", kind, at_least=0)
        return ("cells",)

    @entrance
    def index_bits(self, shape: tuple[int, int]) -> int:
        """Bits that say which weights of a matrix (filters, positions) stay: one for all that stay or go alone.

        One for each weight, unless the structure knows of groups.
        """
        return shape[0] * shape[1]

    @entrance
    def part_way(self, progress: float, *, law: Law = "geometric") -> Self:
        """The target on the way, from all weights at 0 to the target itself at 1.

        Parameters
        ----------
        progress
            Part of the way, 0 to 1.
        law
            ``"geometric"``: each share k is k**progress. ``"cubic"``: what is lost is (1 - k)(1 - (1 - progress)^3),
            much at first and ever less (M. Zhu, S. Gupta, 2017, doi:10.48550/arXiv.1710.01878).
        """
        check_real("progress", progress, at_least=0.0, at_most=1.0)
        check_choice("law", law, get_args(Law))

        def share(whole: float) -> float:
            if law == "geometric" or progress == 1.0:
                return float(whole**progress)
            return 1.0 - (1.0 - whole) * (1.0 - (1.0 - progress) ** 3)

        changes = {name: share(value) for name, value in self._fields() if name.startswith("keep")}
        return replace(self, **changes)  # type: ignore[type-var]
