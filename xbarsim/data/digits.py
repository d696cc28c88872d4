"""scikit-learn's handwritten digits, with a train/test split that never changes."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import entrance

__all__ = ["DigitsSplit", "load_digits_split"]

_SPLIT_ENTROPY = 20_190_729  # part of the data set, not a default: another number is another test set
_TEST_FRACTION = 3  # one image in three of every class is for testing


class DigitsSplit(NamedTuple):
    """The digits in two parts.

    Attributes
    ----------
    train_images, test_images
        float32 in [0, 1], shapes (1201, 1, 8, 8) and (596, 1, 8, 8).
    train_labels, test_labels
        int64, shapes (1201,) and (596,).
    """

    train_images: npt.NDArray[np.float32]
    train_labels: npt.NDArray[np.int64]
    test_images: npt.NDArray[np.float32]
    test_labels: npt.NDArray[np.int64]


def split_indices(labels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The images for training and those for testing, in the order they are served.

    Every image draws a key from one `SeedSequence`, whose output NumPy promises never to change; of every
    class, the third with the lowest keys is for testing. Both parts are then put in the order of their keys,
    so that any first few images are a fair sample.

    Parameters
    ----------
    labels
        int64, shape (images,).

    Returns
    -------
    train, test
        Disjoint indices into `labels` that together cover it.
    """
    keys = np.random.SeedSequence(_SPLIT_ENTROPY).generate_state(len(labels), np.uint64)
    order = np.argsort(keys, kind="stable")
    is_test = np.zeros(len(labels), dtype=np.bool_)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        is_test[members[: len(members) // _TEST_FRACTION]] = True
    return order[~is_test[order]], order[is_test[order]]


@entrance
def load_digits_split() -> DigitsSplit:
    """Load scikit-learn's 1,797 digits, split into 1,201 for training and 596 for testing.

    The split is fixed and stratified. It mixes the 13 writers, so a test accuracy speaks of new images by
    known writers.

    Raises
    ------
    ImportError
        If scikit-learn is absent.

    References
    ----------
    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository,
    1998, https://doi.org/10.24432/C50P49 (CC BY 4.0; scikit-learn carries its test part).
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "the digits come with scikit-learn, which is not installed: pip install 'xbarsim[demo]'"
        ) from error
    raw: Any = load_digits()
    images = (np.asarray(raw.images) / 16).astype(np.float32)[:, None]
    labels = np.asarray(raw.target).astype(np.int64)
    train, test = split_indices(labels)
    return DigitsSplit(images[train], labels[train], images[test], labels[test])
