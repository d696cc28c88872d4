"""One die of a matrix: ``x @ crossbar``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.circuit import CurrentLaw, Solution
from xbarsim.cost import CostReport, Hardware
from xbarsim.design import Design
from xbarsim.devices import FaultMap
from xbarsim.die import DieLayer, TileView, check_age
from xbarsim.engine import CompiledBackend, Window
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import (
    FileFormatError,
    InputError,
    check_array,
    check_choice,
    check_instance,
    check_integer,
    check_real,
)
from xbarsim.mapping import MappedMatrix, map_matrix
from xbarsim.mitigation import Diagnosis, Mitigation, MitigationTable, check_mitigations
from xbarsim.network.calibrate import SAMPLED_IMAGES, calibrate_layer
from xbarsim.network.fabrication import fabricate_layer
from xbarsim.network.files import (
    DieRecord,
    LayerRecord,
    read_contents,
    read_die,
    read_given,
    read_layer,
    reading,
    write_contents,
    write_die,
    write_layer,
)
from xbarsim.network.layers import MOST_SAMPLES, ClippedInputs, LinearAdapter, QuantisedLayer
from xbarsim.network.overhead import digital_overhead, once_for_a_die, stored_bits
from xbarsim.network.placed import MappedLayer, PlacedNetwork, PlanTable
from xbarsim.network.report import ClippingWarning, ErrorReport, vectors_report
from xbarsim.network.samples import Samples, plain_array
from xbarsim.network.skeleton import Layer, Skeleton, Watch

__all__ = ["ClippedInputs", "Crossbar"]

_NAME = "crossbar"
_LEAST, _MOST = float(np.finfo(np.float32).smallest_subnormal), float(np.finfo(np.float32).max)  # inputs run as float32
_CLIPPED = 0.01  # share of a call's inputs that may be clipped without a warning

FloatArray = npt.NDArray[np.float64]


class _Alone(Skeleton):
    """A network of one product."""

    def run(self, samples: Samples, layers: Mapping[str, Layer] | None = None, *, watch: Watch | None = None) -> Any:
        """What its layer makes of the vectors, as :meth:`Skeleton.run`."""
        assert layers is not None  # its weights are kept as integers alone
        return layers[_NAME](samples.arguments[0])

    def doubled(self) -> Skeleton:
        """Itself."""
        return self


class Crossbar:
    """A matrix on the crossbars of one die; multiply vectors with it from the left.

    ``x @ crossbar`` takes a NumPy array or a torch tensor of shape ``(..., inputs)`` and gives one of shape ``(...,
    outputs)``, floating as `x` is, or float64 for integers. It is what a network of one linear layer without bias gives
    that is mapped for the same design, calibrated with the same vectors and fabricated from the same seed.

    Inputs become codes in one of three ways. *Floating calibration*: one code is worth the largest magnitude of the
    calibration over the largest code, and what lies beyond is clipped, counted (:attr:`clipped`), and warned of from
    1 % of a call on. *Integers*, without calibration or with a calibration of integers: they are codes, driven as they
    are, and refused beyond the largest code. *Floating inputs without calibration*: each vector is scaled so that its
    largest magnitude is the largest code, so that no answer depends on the vectors beside it and none is clipped; a
    vector of zeros gives zeros. Without calibration inputs may have signs.

    Parameters
    ----------
    weights
        Shape ``(inputs, outputs)``. Floating ones are quantised as the design says; integers are codes already.
    design
        The accelerator.
    seed
        Root of every random draw of the die.
    calibration
        Vectors that set the range of the inputs, shape ``(vectors, inputs)``. The first 64 of them also set that of
        calibrated converters, and what the cells are driven with in :meth:`cost`.
    faults
        A fault map, used instead of the design's fault model.
    mitigations, diagnosis
        What is done about the faults before the die is programmed, and what is known of them; as
        :meth:`xbarsim.network.MappedNetwork.fabricate`.
    precision
        ``"single"``, or ``"double"`` for sums of conductances off the levels that equal the reference engine bit for
        bit.
    seconds
        Age of the die, s.

    Attributes
    ----------
    layer
        The arrays of the die; see :class:`xbarsim.die.DieLayer`.
    mitigations
        What mitigations did, tile by tile.

    Raises
    ------
    InputError
        If weights or calibration have the wrong shape or type or are not finite, the design's converters need a
        calibration and there is none, or an argument is out of its bound.

    Notes
    -----
    Read noise is drawn by the number of the vector. The object counts the vectors it is given, so that a second read
    draws anew; :meth:`multiply` starts at a stated one.

    Examples
    --------
    >>> import numpy as np
    >>> import xbarsim as xb
    >>> design = xb.Design(cell=xb.devices.Cell.load("isaac2016"), mapping=xb.Mapping(cell_bits=2))
    >>> np.array([1, -2]) @ xb.Crossbar([[3, 5, 0], [0, -7, 1]], design, seed=7)
    array([ 3., 19., -2.])
    """

    # NumPy leaves `x @ crossbar` to this class.
    __array_ufunc__ = None

    @entrance
    def __init__(
        self,
        weights: npt.ArrayLike | Any,
        design: Design,
        *,
        seed: int,
        calibration: npt.ArrayLike | Any | None = None,
        faults: FaultMap | None = None,
        mitigations: Sequence[Mitigation] = (),
        diagnosis: Diagnosis | None = None,
        precision: Literal["single", "double"] = "single",
        seconds: float = 0.0,
    ) -> None:
        check_instance("design", design, Design)
        check_instance("faults", faults, (FaultMap, type(None)))
        self.seed = check_integer("seed", seed, at_least=0)
        check_choice("precision", precision, ("single", "double"))
        check_age(design.cell, seconds)
        methods = check_mitigations(mitigations, diagnosis)
        for method in methods:
            if method.needs == "images":
                raise InputError(
                    f"mitigations of a matrix must do without images, got {type(method).__name__}; a network has some"
                )
        matrix = _numbers("weights", weights)
        vectors = None if calibration is None else _numbers("calibration", calibration)
        if vectors is not None and vectors.shape[1] != matrix.shape[0]:
            raise InputError(f"calibration must have shape (vectors, {matrix.shape[0]}), got {vectors.shape}")
        self._calibrated = vectors is not None
        self._codes_given = vectors is None or vectors.dtype.kind in "iu"
        self._original, self._design = _map(matrix, design, vectors), design  # before mitigations prepare them
        network = _alone(self._original, design)
        for method in methods:
            network = method.prepare(network)
        self._given: dict[str, Any] = {"faults": faults, "mitigations": methods, "diagnosis": diagnosis}
        made = fabricate_layer(network, _NAME, seed=self.seed, seconds=seconds, **self._given)
        self._assemble(network, *made, precision)

    def _assemble(
        self,
        network: PlacedNetwork,
        layer: DieLayer,
        mitigations: MitigationTable,
        precision: Literal["single", "double"],
    ) -> None:
        self._network, self.layer, self.mitigations, self.precision = network, layer, mitigations, precision
        self._plan = layer.plan(precision)
        self._vectors = self._clipped = 0

    @entrance
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the die to a file, whole or not at all; as :meth:`xbarsim.Chip.save`.

        Parameters
        ----------
        path
            The file; one that is there is replaced.

        Raises
        ------
        InputError
            If something of it cannot be put in a file, naming it.
        FileWriteError
            If the file cannot be written.
        """
        faults = self._given["faults"]
        mapped, of_matrix = write_layer(self._original, "layer.0.")
        die, arrays = write_die(
            {_NAME: self.layer},
            {} if faults is None else {_NAME: faults},
            seed=self.seed,
            seconds=self.layer.seconds,
            precision=self.precision,
            mitigations=self._given["mitigations"],
            diagnosis=self._given["diagnosis"],
            done=self.mitigations.tiles,
            next_sample=self._vectors,
            clipped={_NAME: self.clipped},
        )
        record = _CrossbarRecord(
            design=self._design, layer=mapped, die=die, calibrated=self._calibrated, codes_given=self._codes_given
        )
        write_contents(path, "crossbar", record, arrays | of_matrix)

    @classmethod
    @entrance
    def load(cls, path: str | os.PathLike[str]) -> Crossbar:
        """Read a die that was saved: it answers as that one did, bit for bit, and counts its vectors on from there.

        Parameters
        ----------
        path
            The file.

        Raises
        ------
        FileFormatError
            As :meth:`xbarsim.Chip.load`.
        """
        contents = read_contents(path, "crossbar")
        with reading(path, "crossbar"):
            record = contents.record(_CrossbarRecord)
            die = record.die
            mapped = read_layer(record.layer, contents, "layer.0.", record.design)
            _check_matrix(record, mapped)
            network = _alone(mapped, record.design)
            made = cls.__new__(cls)
            made._original, made._design, made.seed = mapped, record.design, die.seed
            made._calibrated, made._codes_given = record.calibrated, record.codes_given
            made._given = {
                "mitigations": check_mitigations(die.mitigations, die.diagnosis),
                "diagnosis": die.diagnosis,
            }
            for method in die.mitigations:
                network = method.prepare(network)
            made._given["faults"] = read_given(die, contents, network.layers).get(_NAME)
            layers = read_die(die, contents, network.layers, network.design)
            contents.finish()
        made._assemble(network, layers[_NAME], MitigationTable(die.done), die.precision)
        made._vectors, made._clipped = die.next_sample, die.layers[0].clipped
        return made

    @property
    def design(self) -> Design:
        """The accelerator."""
        return self._network.design

    @property
    def shape(self) -> tuple[int, int]:
        """Inputs and outputs."""
        inputs, outputs = self._mapped.layer.codes.shape
        return inputs, outputs

    @property
    def faults(self) -> FaultMap:
        """What is broken."""
        return self.layer.faults

    @property
    def matrix(self) -> MappedMatrix:
        """The weights in cells."""
        return self.layer.matrix

    @property
    def clipped(self) -> ClippedInputs:
        """How many inputs were clipped since the object was made."""
        return ClippedInputs(clipped=self._clipped, inputs=self._vectors * self.shape[0])

    @property
    def _mapped(self) -> MappedLayer:
        return self._network.layers[_NAME]

    def __rmatmul__(self, x: Any) -> Any:
        return self.multiply(x)

    def multiply(self, x: Any, *, first_vector: int | None = None) -> Any:
        """``x @ crossbar``, with a stated start of the read noise.

        Parameters
        ----------
        x
            Vectors, shape ``(..., inputs)``.
        first_vector
            Number of the first vector, by which read noise is drawn; ``None`` to count on from the last call.

        Returns
        -------
        ndarray or Tensor
            As `x`, shape ``(..., outputs)``.

        Warns
        -----
        ClippingWarning
            If more than 1 % of the inputs are beyond the calibrated range.

        Raises
        ------
        InputError
            If `x` has another shape, is not of real numbers, or not finite; or if integers that are codes are too
            large.
        """
        vectors, like = _vectors("x", x, self.shape[0])
        codes, scale, clipped = self._quantise(vectors)
        first = self._vectors
        if first_vector is not None:
            first = check_integer("first_vector", first_vector, at_least=0, at_most=MOST_SAMPLES)
        product = np.zeros((len(codes), self.shape[1]))
        if len(codes):
            product = self.layer.complete(self._plan.multiply(codes[:, np.newaxis], first_image=first)[:, 0], codes)
        self._vectors += len(codes)
        self._clipped += clipped
        if clipped > _CLIPPED * codes.size:
            warnings.warn(
                f"{clipped} of {codes.size} inputs lie beyond the calibrated range and are clipped",
                ClippingWarning,
                stacklevel=3 if first_vector is None else 2,
            )
        return like(product * (scale * self._mapped.layer.weight_scale))

    def digital(self, x: Any) -> Any:
        """The product with the quantised weights and inputs, exactly: what an ideal die gives; as :meth:`multiply`."""
        vectors, like = _vectors("x", x, self.shape[0])
        codes, scale, _ = self._quantise(vectors)
        return like(self._exact(codes) * (scale * self._mapped.layer.weight_scale))

    def _exact(self, codes: npt.NDArray[np.int32]) -> FloatArray:
        return np.asarray(codes.astype(np.float64) @ self._mapped.layer.codes.astype(np.float64))

    def _quantise(self, vectors: npt.NDArray[Any]) -> tuple[npt.NDArray[np.int32], FloatArray, int]:
        """Input codes; what one code is worth, shape (1,) or (vectors, 1); and how many inputs are clipped."""
        drive = self.layer.drive
        if vectors.dtype.kind in "iu" and self._codes_given:
            beyond = (vectors < drive.min_input) | (vectors > drive.max_input)
            if beyond.any():
                raise InputError(
                    f"x must be input codes in [{drive.min_input}, {drive.max_input}] where it is of integers, got "
                    f"{vectors[beyond][0]}"
                )
            return vectors.astype(np.int32), np.ones(1), 0
        values = vectors.astype(np.float64)
        if self._calibrated:
            scale = np.full(1, self._mapped.layer.input_scale)
            inverse: FloatArray | float = self._mapped.layer.scaling.inverse_scale
        else:
            scale = np.abs(values).max(axis=1, keepdims=True, initial=0.0) / drive.max_input
            inverse = 1.0 / np.where(scale > 0.0, scale, 1.0)
        positions = np.floor(values * inverse + 0.5)
        codes = np.clip(positions, drive.min_input, drive.max_input)
        return codes.astype(np.int32), scale, int((codes != positions).sum())

    def plan(self) -> PlanTable:
        """How the products are computed, and why."""
        return PlanTable(((_NAME, self._plan.name, self._plan.reason),), str(CompiledBackend()))

    @entrance
    def cost(self, hardware: Hardware | str = "isaac2016", *, read_voltage: float | None = None) -> CostReport:
        """Power, area and peak throughput.

        Parameters
        ----------
        hardware
            A component card, or its name.
        read_voltage
            V, for a cell card that has none; ``None`` for the card's own.

        Returns
        -------
        CostReport
            With the static power of this die's own cells at the inputs of the calibration; without calibration, that
            of the card. What mitigations add is in it; what is done once for a die stands in a remark.
        """
        mapped = self._network.layers
        return self._network.cost_of(
            {_NAME: self.layer.cells()} if self._calibrated else None,
            hardware,
            read_voltage=read_voltage,
            stored_bits=stored_bits(self.mitigations, {}),
            digital=tuple(digital_overhead({_NAME: self.layer}, mapped)),
            remarks=once_for_a_die(self.mitigations, self._given["mitigations"], self._given["diagnosis"], mapped),
        )

    @entrance
    def report(self, x: Any, *, clipping: float = 0.01) -> ErrorReport:
        """Compare the die with the quantised matrix on some vectors, and count the conversions that are clipped.

        Parameters
        ----------
        x
            As for :meth:`multiply`; read noise as at vector 0.
        clipping
            Share of conversions that may be clipped without a warning.

        Warns
        -----
        ClippingWarning
            If the converters clip more.
        """
        check_real("clipping", clipping, at_least=0.0, at_most=1.0)
        vectors, _ = _vectors("x", x, self.shape[0])
        if not len(vectors):
            raise InputError(f"x must hold at least one vector, got shape {vectors.shape}")
        codes, scale, _ = self._quantise(vectors)
        worth = scale * self._mapped.layer.weight_scale
        product = self.layer.complete(self._plan.multiply(codes[:, np.newaxis])[:, 0], codes)
        return vectors_report(self.layer, codes, product * worth, self._exact(codes) * worth, clipping=clipping)

    @entrance
    def tile(self, tile: int = 0) -> TileView:
        """One tile, for looking at; see also :func:`xbarsim.plot.tile`.

        Raises
        ------
        InputError
            If there is no such tile.
        """
        return self.layer.tile(tile)

    @entrance
    def solve(self, tile: int = 0, *, voltages: Any = None, law: CurrentLaw | None = None) -> Solution:
        """Every node voltage and cell current of one tile; as :meth:`xbarsim.die.DieLayer.solve`."""
        return self.layer.solve(tile, voltages=voltages, law=law)

    def __repr__(self) -> str:
        inputs, outputs = self.shape
        return f"<Crossbar {inputs} x {outputs} on {self.matrix.tiles} tiles, seed {self.seed}>"


def _alone(mapped: MappedLayer, design: Design) -> PlacedNetwork:
    """A network of one product."""
    inputs = mapped.layer.codes.shape[0]
    return PlacedNetwork(design=design, skeleton=_Alone(), layers={_NAME: mapped}, image_shape=(inputs,))


@dataclass(frozen=True, kw_only=True)
class _CrossbarRecord:
    """What a file says of a matrix.

    Attributes
    ----------
    calibrated
        Whether it was given a calibration.
    codes_given
        Whether integers that it is given are codes.
    design, layer, die
        As in :mod:`xbarsim.network.files`.
    """

    design: Design
    layer: LayerRecord
    die: DieRecord
    calibrated: bool
    codes_given: bool


def _check_matrix(record: _CrossbarRecord, mapped: MappedLayer) -> None:
    layer = mapped.layer
    inputs, outputs = layer.codes.shape
    wanted = (_NAME, LinearAdapter(features=inputs), Window(kernel=(1, inputs)), 1, ())
    found = (layer.name, layer.adapter, layer.window, layer.groups, layer.output_names)
    if found != wanted or layer.bias.any() or not (record.calibrated or (record.codes_given and layer.signed)):
        raise FileFormatError(f"layer must be a matrix of {inputs} x {outputs} without bias, got {found}")


def _numbers(name: str, value: Any) -> npt.NDArray[Any]:
    """A matrix of finite numbers, floating or integer."""
    array = plain_array(name, value)
    return check_array(name, array, dimensions=2, kind="integer" if array.dtype.kind in "iu" else "floating")


def _vectors(name: str, x: Any, inputs: int) -> tuple[npt.NDArray[Any], Any]:
    """Vectors as rows, and a function that gives results the shape and type of `x`."""
    tensor = x if hasattr(x, "detach") else None
    array = plain_array(name, x)
    if array.dtype.kind not in "iuf":
        raise InputError(f"{name} must be real numbers, got type {array.dtype}")
    if array.ndim < 1 or array.shape[-1] != inputs:
        raise InputError(f"{name} must have shape (..., {inputs}), got {array.shape}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise InputError(f"{name} must be finite, got NaN or infinity")
    kind = array.dtype if array.dtype.kind == "f" else np.dtype(np.float64)
    leading = array.shape[:-1]

    def like(product: FloatArray) -> Any:
        result = product.reshape(*leading, product.shape[-1]).astype(kind)
        if tensor is None:
            return result
        import torch

        return torch.from_numpy(result).to(tensor.device, tensor.dtype if tensor.is_floating_point() else None)

    return array.reshape(-1, inputs), like


def _map(weights: npt.NDArray[Any], design: Design, vectors: npt.NDArray[Any] | None) -> MappedLayer:
    """Quantise and place a matrix, and set its converters."""
    inputs, outputs = weights.shape
    bits = design.periphery.input_bits
    signed = True if vectors is None else bool(vectors.min() < 0)
    if signed and bits < 2:
        raise InputError(
            f"input_bits must be >= 2 for signed inputs, got {bits}; inputs are signed unless a calibration without "
            "negative numbers is given"
        )
    largest_code = 2 ** (bits - 1) - 1 if signed else 2**bits - 1
    codes, weight_scale = weights, np.ones(outputs)
    if weights.dtype.kind == "f":
        quantised = design.mapping.quantise(weights)
        codes, weight_scale = quantised.codes, quantised.scale
    input_scale = 1.0
    if vectors is None:
        if design.periphery.adc_range == "calibrated":
            raise InputError("calibration must be given for a design with adc_range 'calibrated', got None")
    elif vectors.dtype.kind == "f":
        largest = float(np.abs(vectors).max())
        if largest == 0.0:
            raise InputError("calibration must hold a number other than 0, got only zeros")
        check_real("largest magnitude of calibration", largest, at_least=_LEAST, at_most=_MOST)
        input_scale = largest / largest_code
    elif (most := max(int(vectors.max()), -int(vectors.min()))) > largest_code:
        raise InputError(
            f"calibration must be input codes of magnitude <= {largest_code} where it is of integers, got {most}"
        )
    layer = QuantisedLayer(
        name=_NAME,
        adapter=LinearAdapter(features=inputs),
        codes=codes,
        weight_scale=weight_scale,
        bias=np.zeros(outputs, np.float32),
        input_scale=input_scale,
        input_bits=bits,
        signed=signed,
        window=Window(kernel=(1, inputs)),
    )
    reading = design.reading(map_matrix(codes, design.mapping))
    given = np.zeros((1, inputs), np.float32) if vectors is None else vectors[:SAMPLED_IMAGES].astype(np.float32)
    mapped = calibrate_layer(layer, reading, layer.quantise(given), design)
    # without inputs, all are taken to be alike, and none to be 0
    return mapped if vectors is not None else replace(mapped, mean_square_input=np.ones(inputs), activity=None)
