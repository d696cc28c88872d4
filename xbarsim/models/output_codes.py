"""Classifiers that answer in an error-correcting code instead of with one output a class.

Each class has a code word of +1 and -1; the network gives one binary answer for each place of the word, and the class
whose word agrees best is the answer. A single output that is wrong costs one place of the word.

References
----------
T. G. Dietterich, G. Bakiri, Solving multiclass learning problems via error-correcting output codes, JAIR 2 (1995)
263-286, doi:10.1613/jair.105; T. Liu et al., A fault-tolerant neural network architecture, DAC 2019,
doi:10.1145/3316781.3317742, for crossbars.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn import functional

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_array, check_instance, check_integer

__all__ = ["CodedClassifier", "exhaustive_code", "random_code"]

_EXCHANGES = 3000  # of one place for another, drawn anew
_LEAST_REST = 1e-7  # float32 tells no smaller share from 0


def _draw(classes: int, length: int, rng: np.random.Generator) -> npt.NDArray[np.int8]:
    """Random words of which no place is the same for all classes."""
    code = 2 * rng.integers(0, 2, (classes, length)) - 1
    same = np.flatnonzero(np.abs(code.sum(axis=0)) == classes)
    code[rng.integers(0, classes, len(same)), same] *= -1
    return code.astype(np.int8)


def _distinct(code: npt.NDArray[np.int8]) -> bool:
    """Whether no two places part the classes alike."""
    return len({(column * column[0]).tobytes() for column in code.T}) == len(code.T)


def _apart(code: npt.NDArray[np.int8]) -> tuple[int, int, int]:
    """How far apart words are, to be compared: the least distance, different questions, less pairs at that distance."""
    agreement = code.astype(np.int64) @ code.T
    pairs = (code.shape[1] - agreement[np.triu_indices(len(code), 1)]) // 2
    questions = len({(column * column[0]).tobytes() for column in code.T})
    return int(pairs.min()), questions, -int((pairs == pairs.min()).sum())


@entrance
def exhaustive_code(classes: int) -> npt.NDArray[np.int8]:
    """Every way to part the classes in two, once: 2**(classes - 1) - 1 places, any two words 2**(classes - 2) apart.

    Parameters
    ----------
    classes
        3 to 11: beyond, the words are longer than anyone would build.

    Returns
    -------
    ndarray
        Words, +1 and -1, int8 of shape (classes, places).

    Examples
    --------
    >>> exhaustive_code(3).tolist()
    [[1, 1, 1], [1, -1, -1], [-1, 1, -1]]
    """
    classes = check_integer("classes", classes, at_least=3, at_most=11)
    places = np.arange(2 ** (classes - 1) - 2, -1, -1)  # class 0 is always +1; not all of them are
    digits = (places[None, :] >> np.arange(classes - 2, -1, -1)[:, None]) & 1
    return np.concatenate([np.ones((1, len(places))), 2 * digits - 1]).astype(np.int8)


@entrance
def random_code(classes: int, length: int, *, seed: int = 0) -> npt.NDArray[np.int8]:
    """Words of a length, drawn and then bettered place by place: any two at least length // 2 - 1 places apart.

    No place gives all classes the same answer, and no two places ask the same question.

    Parameters
    ----------
    classes
        At least 2.
    length
        Places of a word.
    seed
        Of the draws.

    Returns
    -------
    ndarray
        Words, +1 and -1, int8 of shape (classes, length).

    Raises
    ------
    InputError
        If no such code was found: the length is too small for the classes, or beyond the questions that there are.
    """
    classes = check_integer("classes", classes, at_least=2, at_most=1000)
    length = check_integer("length", length, at_least=1, at_most=4096)
    check_integer("seed", seed, at_least=0)
    rng = np.random.default_rng(seed)
    wanted = max(1, length // 2 - 1)
    code = _draw(classes, length, rng)
    apart = _apart(code)
    for _ in range(_EXCHANGES):
        if apart[0] > wanted and apart[1] == length:
            break
        changed = code.copy()
        changed[:, rng.integers(length)] = _draw(classes, 1, rng)[:, 0]
        further = _apart(changed)
        if further >= apart:
            code, apart = changed, further
    if apart[0] < wanted or not _distinct(code):
        raise InputError(
            f"length must leave words of {classes} classes at least {wanted} places apart without asking a question "
            f"twice, got {length}, where none was found after {_EXCHANGES} exchanges"
        )
    return code


class CodedClassifier(nn.Module):
    """A network with one binary output for each place of a code, and classes as its answer.

    In evaluation mode the score of a class is the sum over the places of word x tanh(output / 2): the correlation of
    its word with the places' expected answers, which no single output can outweigh. This is digital arithmetic behind
    the last layer: classes x places multiplications by +1 or -1 and a table of tanh, and nothing of it is mapped.

    In training mode the answers are logits of the classes and of "no word of the code", whose cross entropy is the
    binary cross entropy of the places, summed: any trainer of classifiers trains the places, each on its own.

    Parameters
    ----------
    network
        Gives (images, places).
    code
        Words, +1 and -1, (classes, places), any two different.

    Raises
    ------
    InputError
        If the code is not of this kind.
    """

    code: torch.Tensor

    @entrance
    def __init__(self, network: nn.Module, code: npt.ArrayLike) -> None:
        super().__init__()
        check_instance("network", network, nn.Module)
        words: npt.NDArray[Any] = check_array("code", code, dimensions=2, kind="integer")
        if not np.isin(words, (-1, 1)).all() or len(np.unique(words, axis=0)) < max(2, len(words)):
            raise InputError("code must hold at least 2 words of +1 and -1, all different")
        self.network = network
        self.register_buffer("code", torch.from_numpy(words.astype(np.float32)))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Scores (images, classes); in training mode logits (images, classes + 1)."""
        outputs = self.network(images)
        if outputs.ndim != 2 or outputs.shape[1] != self.code.shape[1]:
            raise InputError(
                f"network must give (images, {self.code.shape[1]}), one output a place, got {tuple(outputs.shape)}"
            )
        if not self.training:
            return (torch.tanh(outputs / 2)[:, None, :] * self.code).sum(dim=2)
        words = functional.logsigmoid(outputs[:, None, :] * self.code).sum(dim=2)  # ln P of each word
        rest = -torch.expm1(torch.logsumexp(words, dim=1, keepdim=True))
        return torch.cat([words, rest.clamp(min=_LEAST_REST).log()], dim=1)
