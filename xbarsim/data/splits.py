"""Holding samples back: for validation, or part after part."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_array, check_integer

__all__ = ["folds", "validation_split"]


@entrance
def validation_split(
    labels: npt.NDArray[np.integer], validation: int, *, seed: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Split images into those to train on and those to choose settings by, each class in its share.

    Every image draws a key from a `SeedSequence`, whose output NumPy promises never to change; of every class, the
    images with the lowest keys are for validation. A class gives its exact share, rounded so that the parts add up
    (largest remainders first, then the lowest class).

    Parameters
    ----------
    labels
        Integers >= 0, shape (images,).
    validation
        How many images to hold back, fewer than there are; 0 for none.
    seed
        Of the split.

    Returns
    -------
    train, validation
        Disjoint indices into `labels` that together cover it: the first ascending, the second in the order of their
        keys, so that any first few are a fair sample.

    Raises
    ------
    InputError
        If an argument is out of bounds.

    Examples
    --------
    >>> import numpy as np
    >>> train, validation = validation_split(np.array([0, 1] * 50), 10, seed=0)
    >>> len(train), np.bincount(np.array([0, 1] * 50)[validation]).tolist()
    (90, [5, 5])
    """
    classes = check_array("labels", labels, dimensions=1, kind="integer")
    if classes.min() < 0:
        raise InputError(f"labels must be >= 0, got {classes.min()}")
    validation = check_integer("validation", validation, at_least=0, at_most=len(classes) - 1)
    seed = check_integer("seed", seed, at_least=0)
    counts = np.bincount(classes).astype(object)  # Python's integers: the shares are exact
    taken = counts * validation // len(classes)
    remainders = counts * validation % len(classes)
    short = validation - int(taken.sum())
    taken[sorted(range(len(counts)), key=lambda label: -remainders[label])[:short]] += 1
    keys = np.random.SeedSequence(seed).generate_state(len(classes), np.uint64)
    order = np.argsort(keys, kind="stable")
    held = np.zeros(len(classes), dtype=np.bool_)
    for label, count in enumerate(taken):
        held[order[classes[order] == label][:count]] = True
    return np.flatnonzero(~held), order[held[order]]


@entrance
def folds(labels: npt.NDArray[np.integer], count: int, *, seed: int) -> tuple[npt.NDArray[np.intp], ...]:
    """Cut samples into parts of equal size in which each class has its share: each judges what the others train.

    Every class is shuffled and dealt out one by one, each going on at the part where the class before ended.

    Parameters
    ----------
    labels
        Integers, shape (samples,).
    count
        How many parts, 2 to the number of samples.
    seed
        Of the shuffling.

    Returns
    -------
    tuple of ndarray
        Ascending indices, disjoint, that together are all; sizes differ by at most one.

    Raises
    ------
    InputError
        If an argument is out of bounds.

    Examples
    --------
    >>> import numpy as np
    >>> [len(part) for part in folds(np.arange(10) % 2, 3, seed=0)]
    [4, 3, 3]
    """
    classes = check_array("labels", labels, dimensions=1, kind="integer")
    count = check_integer("count", count, at_least=2, at_most=len(classes))
    seed = check_integer("seed", seed, at_least=0)
    # keys of a SeedSequence, whose output NumPy promises never to change
    keys = np.random.SeedSequence(seed).generate_state(len(classes), np.uint64)
    order = np.lexsort((keys, classes))
    return tuple(np.sort(order[part::count]) for part in range(count))
