"""Many dies of one network, run together on one set of samples."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from torch.utils._pytree import tree_map

from xbarsim.engine import TorchBackend, common_fit
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_integer
from xbarsim.mitigation import Diagnosis, Mitigation, check_mitigations
from xbarsim.network.fabrication import fabricate_layer
from xbarsim.network.layers import ClippedInputs
from xbarsim.network.lowering.chip import check_plain
from xbarsim.network.lowering.skeleton import TorchSkeleton
from xbarsim.network.lowering.tensor_layers import TensorLayer
from xbarsim.network.mapped import MappedNetwork
from xbarsim.network.order import sample_orders
from xbarsim.network.placed import PlanTable
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import check_fit

__all__ = ["DieBatch"]


class DieBatch:
    """Dies of one mapped network, each layer of all of them computed together by torch on one device.

    What each die gives is what the die alone gives that is made from its seed (``network.fabricate(seed)``): layers bit
    for bit where cells sit on whole levels, or in double precision; see :class:`xbarsim.engine.TorchBackend`. One call
    runs every sample on every die, which keeps a device busy that a single die would not.

    Parameters
    ----------
    network
        The mapped network, from torch.
    seeds
        Of the dies.
    backend
        Where they run; on the CPU by default.
    mitigations, diagnosis
        What is done about the faults of each before it is programmed, as
        :meth:`xbarsim.network.MappedNetwork.fabricate`; without methods that adjust outputs by images.
    precision
        As there.

    Raises
    ------
    InputError
        If there is no seed, or the network is not from torch; if its samples do not stand one after another in the
        activations of every layer, so that the dies could not be told apart; or for what one such die is refused for by
        :meth:`xbarsim.network.Chip.to`.
    """

    @entrance
    def __init__(
        self,
        network: MappedNetwork,
        seeds: Sequence[int],
        *,
        backend: TorchBackend | None = None,
        mitigations: Sequence[Mitigation] = (),
        diagnosis: Diagnosis | None = None,
        precision: Literal["single", "double"] = "single",
    ) -> None:
        self.seeds = tuple(check_integer("seeds", seed, at_least=0) for seed in seeds)
        if not self.seeds:
            raise InputError("seeds must be at least one, got none")
        self.backend = TorchBackend("cpu") if backend is None else backend
        methods = check_mitigations(mitigations, diagnosis)
        for method in methods:
            if method.needs == "images":
                raise InputError(
                    f"mitigations must need no images for dies that are run together, got {type(method).__name__}: "
                    "make the dies one by one, by network.fabricate"
                )
            network = method.prepare(network)
        self._check_network(network)
        self.network = network
        layers: dict[str, TensorLayer] = {}
        rows = []
        for name, mapped in network.layers.items():
            cases = []
            for seed in self.seeds:
                layer, _ = fabricate_layer(network, name, seed=seed, mitigations=methods, diagnosis=diagnosis)
                check_plain(layer)
                cases.append(layer.case(precision))
            plan, reason = common_fit(cases)
            rows.append((name, plan.name, reason))
            layers[name] = TensorLayer(mapped.layer, self.backend.stack([plan.layout(case) for case in cases]))
        self._plans = PlanTable(tuple(rows), str(self.backend))
        self._layers = layers

    @staticmethod
    def _check_network(network: MappedNetwork) -> None:
        if not isinstance(network.skeleton, TorchSkeleton):
            raise InputError("network must come from torch for its dies to be run together, got one from elsewhere")
        orders = sample_orders(network.skeleton, network.layers, network.probe)
        if orders is None or set(orders.values()) - {"first"}:
            raise InputError(
                "network must keep its samples one after another in every layer for its dies to be run together, got "
                "one that does not, or whose calibration samples are too alike to see it: make the dies one by one, by "
                "network.fabricate(seed).to(device)"
            )

    def __len__(self) -> int:
        return len(self.seeds)

    @cached_property
    def _skeleton(self) -> TorchSkeleton:
        skeleton = self.network.skeleton
        assert isinstance(skeleton, TorchSkeleton)
        return skeleton.on(self.backend.device, dies=len(self))

    @property
    def clipped_inputs(self) -> dict[str, ClippedInputs]:
        """Inputs of each layer so far, of all dies, and how many of them lay beyond the range of the calibration."""
        return {name: layer.clipped for name, layer in self._layers.items()}

    def plan(self) -> PlanTable:
        """How each layer is computed, and why: by the first plan that is exact for all of these dies."""
        return self._plans

    def __call__(self, *inputs: Any, **keywords: Any) -> Any:
        """Run a batch on every die.

        Parameters
        ----------
        inputs, keywords
            As the model takes them, samples in the first dimension.

        Returns
        -------
        Any
            What the model gives, dies in a new first dimension, then samples; on the device.

        Raises
        ------
        InputError
            If the samples do not fit the model, or are not finite.
        """
        samples = Samples.call(inputs, keywords)
        result = check_fit(lambda: self._skeleton.run(samples, self._layers), samples, name="images")

        def by_die(answer: Any) -> Any:
            if not isinstance(answer, torch.Tensor):
                return answer
            if answer.ndim < 1 or answer.shape[0] != len(self) * len(samples):
                raise InputError(
                    f"model must give one answer a sample for dies to be run together, got shape {tuple(answer.shape)} "
                    f"for {len(self)} dies and {len(samples)} samples"
                )
            return answer.reshape(len(self), len(samples), *answer.shape[1:])

        return tree_map(by_die, result)

    def __repr__(self) -> str:
        return f"<DieBatch of {len(self)} dies, {len(self._layers)} layers, on {self.backend.device}>"
