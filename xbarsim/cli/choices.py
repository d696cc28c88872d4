"""What commands are told to take: the design, its parts, the network and its images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xbarsim.foundation.named import import_code, look_in, named_value, names_code
from xbarsim.foundation.validation import InputError, check_real
from xbarsim.foundation.words import one_of

if TYPE_CHECKING:
    from xbarsim.design import Design
    from xbarsim.sweep import Subject

__all__ = [
    "DataSet", "DesignFile", "EncodingName", "FaultsName", "NetworkName", "Parts", "Rate", "chosen_design",
    "chosen_subject", "first_design",
]  # fmt: skip

_ALL_DIGITS = 1201  # training images of scikit-learn's digits: all there are
_CALIBRATION = 128  # training images of the larger data sets

NetworkName = Annotated[
    str,
    typer.Argument(
        help="A name of 'xbarsim info networks'; module:function or file.py:function, which gives a Subject; or the "
        "path of an ONNX file."
    ),
]
DataSet = Annotated[
    str | None,
    typer.Option(
        help="Images for an ONNX file: digits, cifar10, mnist, or an .npz file of images, labels, calibration."
    ),
]
DesignFile = Annotated[
    str | None,
    typer.Option(
        help="A name of 'xbarsim info designs', or a TOML file, see Design.save (milo2021 cells, Differential, 8-bit "
        "converters, no stuck cells)."
    ),
]
EncodingName = Annotated[
    str | None,
    typer.Option(help="Instead of the design's: a name of 'xbarsim info encodings', or module:Class of your own."),
]
FaultsName = Annotated[
    str | None,
    typer.Option(
        help="Stuck cells instead of the design's: none, a name of 'xbarsim info faults', a TOML file, or module:name."
    ),
]
Rate = Annotated[
    float | None, typer.Option(help="Share of the cells that are stuck, 0 to 1, at the ratio of --faults.")
]
Parts = Annotated[
    list[str] | None,
    typer.Option(
        help="Module or file.py with parts of your own, imported before a design is read; as often as you like."
    ),
]


def first_design() -> Design:
    """The design of the project's first example, without stuck cells."""
    from xbarsim.design import Design, Periphery
    from xbarsim.devices import Cell
    from xbarsim.mapping import Differential, Mapping

    return Design(
        cell=Cell.load("milo2021"),
        mapping=Mapping(encoding=Differential(), rows=128, columns=128, weight_bits=8, cell_bits=4),
        periphery=Periphery(input_bits=8, dac_bits=1, adc_bits=8),
    )


def chosen_design(
    file: str | None,
    *,
    parts: Sequence[str] = (),
    encoding: str | None = None,
    faults: str | None = None,
    rate: float | None = None,
) -> Design:
    """The design that options say.

    Parameters
    ----------
    file
        Name of a design that comes with the project, or its file; ``None`` for :func:`first_design`.
    parts
        Modules and files to import before it is read.
    encoding, faults
        Instead of those of the file.
    rate
        Total probability that a cell is stuck.

    Raises
    ------
    InputError
        If there is no such part, or there is a rate and no fault model.
    FileFormatError
        If a file cannot be read, or holds something else.
    """
    from xbarsim.design import Design

    if parts:
        look_in(".")  # the script of this command does not lie in the working folder
    for module in parts:
        import_code("parts", module)
    design = first_design() if file is None else Design.load(file)
    if encoding is not None:
        design = design.replace(mapping=dataclasses.replace(design.mapping, encoding=_encoding(encoding)))
    if faults is not None:
        design = design.replace(faults=None if faults == "none" else _faults(faults))
    if rate is not None:
        check_real("rate", rate, at_least=0.0, at_most=1.0)
        if design.faults is None:
            raise InputError(
                "rate must be given with stuck cells to take the ratio of stuck on to stuck off from "
                f"(--faults chen2015_sa0_hrs, for example), got {rate!r} and none"
            )
        design = design.replace(faults=design.faults.with_total(rate))
    return design


def _encoding(text: str) -> Any:
    from xbarsim.mapping import ENCODINGS, Encoding

    if names_code(text):
        return named_value("encoding", text, Encoding, folder=".")
    if text not in ENCODINGS:
        fitting = one_of(text, ENCODINGS, other="or module:Class", listed="xbarsim info encodings")
        raise InputError(f"encoding must be {fitting}")
    return ENCODINGS[text]()


def _faults(text: str) -> Any:
    from xbarsim.devices import FaultModel, preset_names

    if names_code(text):
        return named_value("faults", text, FaultModel, folder=".")
    if not text.endswith(".toml") and text not in preset_names():
        other = "'none', a path ending in '.toml' or module:name"
        fitting = one_of(text, preset_names(), other=other, listed="xbarsim info faults")
        raise InputError(f"faults must be {fitting}")
    return FaultModel.load(text)


def chosen_subject(network: str, data_set: str | None, images: int | None = None) -> Subject:
    """The network that an argument names, with its images.

    The calibration is all training images of the digits, 128 of a larger data set, or all that the network's own
    function or file gives.

    Raises
    ------
    InputError
        If there is no such network, it has no stored weights, or there are not as many images.
    """
    from xbarsim.models import check_trained
    from xbarsim.sweep.subject import absolute_files, load_subject

    own = names_code(network) or network.endswith(".onnx")
    if own:
        if names_code(network):
            look_in(".")
        network, data_set = absolute_files(".", network, data_set)
        stored = data_set is not None and not data_set.endswith(".npz")
        return load_subject(network, data_set, images, _CALIBRATION if stored and network.endswith(".onnx") else None)
    check_trained(network, called="network")
    return load_subject(network, data_set, images, _ALL_DIGITS if network == "digits" else _CALIBRATION)
