"""Training that also follows the answers of another network."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance, check_real
from xbarsim.training import Callback

__all__ = ["Distillation"]


class Distillation(Callback):
    """Adds to the loss how far the answers are from those of a teacher, on the same images.

    The term is weight x T^2 x KL(teacher || network), both softened by the temperature T, the mean over the images. A
    network that is trained to bear faults keeps what the healthy one knows, beyond the labels.

    Parameters
    ----------
    teacher
        A trained network with the same inputs and classes; copied, and run in evaluation mode.
    weight
        Of the term; that of the labels' cross entropy is 1.
    temperature
        T, > 0.

    Raises
    ------
    InputError
        If a number is out of its bound.

    References
    ----------
    G. Hinton, O. Vinyals, J. Dean, Distilling the knowledge in a neural network, 2015, doi:10.48550/arXiv.1503.02531.
    """

    @entrance
    def __init__(self, teacher: nn.Module, *, weight: float = 1.0, temperature: float = 2.0) -> None:
        check_instance("teacher", teacher, nn.Module)
        self.teacher = copy.deepcopy(teacher).eval()
        self.weight = check_real("weight", weight, at_least=0.0)
        self.temperature = check_real("temperature", temperature, above=0.0)
        self._term: Tensor | None = None
        self._hook: Any = None

    def settings(self) -> str:
        """The teacher's weights (their hash), and the numbers."""
        total = hashlib.sha256()
        for name, tensor in self.teacher.state_dict().items():
            total.update(name.encode())
            total.update(tensor.cpu().contiguous().numpy().tobytes())
        return f"Distillation({total.hexdigest()[:16]}, weight={self.weight}, temperature={self.temperature})"

    def start(self, model: nn.Module, epochs: int) -> None:
        """Look at what goes into the network and comes out of it."""
        parameter = next(model.parameters())
        self.teacher.to(device=parameter.device)
        self._hook = model.register_forward_hook(self._compare)

    def _compare(self, model: nn.Module, arguments: tuple[Tensor, ...], logits: Tensor) -> None:
        if not model.training:
            return
        with torch.no_grad():
            wanted = functional.log_softmax(self.teacher(arguments[0]).float() / self.temperature, dim=1)
        found = functional.log_softmax(logits.float() / self.temperature, dim=1)
        divergence = functional.kl_div(found, wanted, reduction="batchmean", log_target=True)
        self._term = self.weight * self.temperature**2 * divergence

    def penalty(self) -> Tensor | None:
        """The term of the batch that was run last."""
        term, self._term = self._term, None
        return term

    def finish(self) -> None:
        """No longer look."""
        self._hook.remove()
