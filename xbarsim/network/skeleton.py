"""What a network does between its products: run with floats, with the digital network's layers, or with a die's."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy.typing as npt

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError
from xbarsim.network.samples import Samples

__all__ = ["Layer", "Network", "Skeleton", "Watch", "check_fit"]

Layer = Callable[[Any], Any]
"""From activations in the layout of a product to its results, float32: arrays, or tensors on a device."""

Watch = Callable[[str, npt.NDArray[Any], npt.NDArray[Any]], None]
"""Called at each use of a product with its name, its inputs and its results."""


class Skeleton(metaclass=ABCMeta):
    """A network without its products: everything digital, and where each product stands in it.

    Attributes
    ----------
    gives_tensors : bool
        Whether it came from torch: its dies are torch modules then.
    """

    gives_tensors: ClassVar[bool] = False

    @abstractmethod
    def run(self, samples: Samples, layers: Mapping[str, Layer] | None = None, *, watch: Watch | None = None) -> Any:
        """Run the network.

        Parameters
        ----------
        samples
            What it is called with.
        layers
            Who multiplies, by the name of the product; a product that is not among them is computed in floating point,
            as the network was given.
        watch
            Told of every use of every product.

        Returns
        -------
        Any
            What the network gives: arrays or tensors in the structure that it gives them in.
        """

    @abstractmethod
    def doubled(self) -> Skeleton:
        """The same in float64, whose sums depend on no order that matters."""

    def stored(self) -> tuple[str, dict[str, npt.NDArray[Any]]]:
        """What a file must hold to make it again.

        Returns
        -------
        tuple
            Its kind, one that :func:`xbarsim.network.files.skeletons.restore` knows, and arrays by name.

        Raises
        ------
        InputError
            If it cannot be saved: so every skeleton that does not say how.
        """
        raise InputError(f"network must have a digital part that can be saved, got {type(self).__name__}")

    def own(self) -> Skeleton:
        """The same for one user: what a network remembers between its calls is not shared; weights are."""
        return self


def check_fit(run: Callable[[], Any], samples: Samples, *, name: str) -> Any:
    """Run a network on samples of a user's, or say that they do not fit it.

    Parameters
    ----------
    run
        Runs the network.
    samples, name
        What it is run on, for the message.

    Raises
    ------
    InputError
        If the network fails on them.
    """
    try:
        return run()
    except (InputError, Warning):  # a warning that was made an error stays one
        raise
    except Exception as error:  # the network is code of others
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{name} must fit the model, got samples of shape {samples.shapes}: {reason}") from error


class Network:
    """A network that runs: a skeleton and its layers.

    Parameters
    ----------
    skeleton
        What happens between the products.
    layers
        Who multiplies, by name.
    """

    @entrance
    def __init__(self, skeleton: Skeleton, layers: Mapping[str, Layer] | None = None) -> None:
        self._skeleton = skeleton.own()
        self._layers = layers

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        """Run a batch.

        Parameters
        ----------
        inputs, keywords
            As the network takes them, samples in the first dimension: arrays or tensors, floating or of integers.

        Raises
        ------
        InputError
            If they are not such, or do not fit the network.
        """
        return self.run(Samples.call(inputs, keywords))

    def run(self, samples: Samples, *, watch: Watch | None = None) -> Any:
        """Run a batch, and tell of every product; as :meth:`Skeleton.run`."""
        return check_fit(lambda: self._skeleton.run(samples, self._layers, watch=watch), samples, name="images")

    def eval(self) -> Network:
        """Itself: it has no other mode."""
        return self
