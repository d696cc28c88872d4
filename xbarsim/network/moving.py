"""Dies that are computed on another device, or by another backend."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, Self

from xbarsim.engine import Backend, CompiledBackend
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, shown

__all__ = ["Movable"]


class Movable:
    """A die that can be made again for another backend.

    Attributes
    ----------
    backend
        What computes it.
    seconds
        Its age, s.
    """

    backend: Backend
    seconds: float

    @abstractmethod
    def _again(self, *, seconds: float, backend: Backend) -> Self:
        """The same die at an age, computed by a backend."""

    def to(self, device: Any, *arguments: Any, **keywords: Any) -> Self:
        """The same die, computed on a device: by compiled kernels on the CPU, by torch anywhere else.

        On a device of torch's the whole network runs there, activations stay there between its layers where it came
        from torch, and so does the answer. Layers give what the compiled kernels give, bit for bit where cells sit on
        whole levels, or the chip has double precision; see :class:`xbarsim.engine.TorchBackend`. What the network
        computes between them is torch's own on that device, which may round sums of floats in another order.

        Parameters
        ----------
        device
            ``"cpu"``, or a device as torch names it, such as ``"cuda"``.
        arguments, keywords
            Left unused: a die has no other precision, and nothing is copied that is there already.

        Returns
        -------
        Chip
            This one, if it is computed there already; else a new one, which has seen no samples; this one stays as it
            is.

        Raises
        ------
        InputError
            If torch has no such device here; or the die has what only compiled kernels compute: read noise, layers that
            are held several times, weights that are corrected digitally.
        """
        kind = device if isinstance(device, str) else getattr(device, "type", None)
        if isinstance(kind, str) and kind.partition(":")[0] == "cpu":
            return self if isinstance(self.backend, CompiledBackend) else self.with_backend(CompiledBackend())
        try:
            from xbarsim.engine import TorchBackend
        except ImportError as error:
            raise InputError(f"device must be 'cpu' where torch is not installed, got {shown(device)}") from error
        backend = TorchBackend(device)
        mine = self.backend
        return self if isinstance(mine, TorchBackend) and mine.device == backend.device else self.with_backend(backend)

    @entrance
    def with_backend(self, backend: Backend) -> Self:
        """The same die, computed by a backend, such as ``TorchBackend("cpu")``; as :meth:`to`.

        Raises
        ------
        InputError
            If the backend cannot compute a layer of this die.
        """
        return self._again(seconds=self.seconds, backend=backend)
