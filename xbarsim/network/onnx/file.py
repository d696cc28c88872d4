"""An ONNX file as messages: read, checked, and with all weights from inside its own folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from xbarsim.foundation.validation import FileFormatError, InputError, check_instance, read_bytes
from xbarsim.network.onnx.operations.call import Array
from xbarsim.network.onnx.types import NUMPY_TYPES, type_name

__all__ = ["HIGHEST_OPSET", "LOWEST_OPSET", "read_model", "read_tensor"]

LOWEST_OPSET, HIGHEST_OPSET = 11, 23
_EXTERNAL = 1  # TensorProto.DataLocation


def read_model(path: str | os.PathLike[str]) -> Any:
    """Read a file, without the weights that lie beside it, and check what kind of file it is.

    Parameters
    ----------
    path
        Of the file.

    Returns
    -------
    onnx.ModelProto
        With the functions of the file put in the place of the nodes that call them.

    Raises
    ------
    InputError
        If it cannot be read, is no ONNX file, or is written in a version of the operator set that is not supported.
    """
    try:
        import onnx
    except ImportError as error:
        raise ImportError("ONNX files need the package onnx: pip install 'xbarsim[onnx]'") from error
    check_instance("path", path, (str, os.PathLike))
    try:
        content = read_bytes(path, "an ONNX network")
    except FileFormatError as error:
        raise InputError(str(error)) from error
    try:
        model = onnx.load_model_from_string(content)
    except Exception as error:  # protobuf has errors of its own
        raise InputError(f"path must name an ONNX file, whole and not damaged, got {os.fspath(path)}") from error
    if not model.ir_version or not model.opset_import or not model.graph.node:
        raise InputError(f"path must name an ONNX file with a graph, got {os.fspath(path)}")
    versions = {entry.domain: entry.version for entry in model.opset_import}
    version = versions.get("", versions.get("ai.onnx", 0))
    if not LOWEST_OPSET <= version <= HIGHEST_OPSET:
        raise InputError(f"path must hold operators of version {LOWEST_OPSET} to {HIGHEST_OPSET}, got {version}")
    if model.functions:
        from onnx import inliner

        model = inliner.inline_local_functions(model)
    return model


def read_tensor(tensor: Any, folder: Path | None) -> Array:
    """The numbers of a tensor.

    Parameters
    ----------
    tensor
        ``onnx.TensorProto``.
    folder
        Where the file lies; numbers outside the file must be in it. ``None`` where they must be in the file.

    Raises
    ------
    InputError
        If they are of a type that is not supported, not as many as the shape says, or outside the folder.
    """
    from onnx import numpy_helper

    name, shape = tensor.name, tuple(int(size) for size in tensor.dims)
    if tensor.data_type not in NUMPY_TYPES:
        raise InputError(f"constant {name!r} must hold ordinary numbers, got {type_name(tensor.data_type)}")
    if any(size < 0 for size in shape):
        raise InputError(f"constant {name!r} must have a shape without negative numbers, got {shape}")
    kind, count = NUMPY_TYPES[tensor.data_type], 1
    for size in shape:
        count *= size
    if tensor.data_location == _EXTERNAL:
        array = _read_external(tensor, folder, kind, count).reshape(shape)
    elif tensor.HasField("raw_data"):
        if len(tensor.raw_data) != count * kind.itemsize:
            raise InputError(
                f"constant {name!r} must have {count * kind.itemsize} bytes for shape {shape}, "
                f"got {len(tensor.raw_data)}"
            )
        array = np.frombuffer(tensor.raw_data, kind.newbyteorder("<")).astype(kind).reshape(shape)
    else:
        fields = (tensor.float_data, tensor.int32_data, tensor.int64_data, tensor.double_data, tensor.uint64_data)
        held = max(len(field) for field in fields)
        if held != count:
            raise InputError(f"constant {name!r} must have {count} numbers for shape {shape}, got {held}")
        array = np.asarray(numpy_helper.to_array(tensor), dtype=kind)
    return array


def _read_external(tensor: Any, folder: Path | None, kind: np.dtype[Any], count: int) -> Array:
    """Numbers of a file beside the network, which must lie in its folder, also when links are followed."""
    name, entries = tensor.name, {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    if folder is None:
        raise InputError(f"constant {name!r} must be in the file, got one in {location!r}")
    home = folder.resolve()
    if not location or Path(location).is_absolute():
        raise InputError(f"data of constant {name!r} must be named relative to the network's folder, got {location!r}")
    target = (home / location).resolve()
    if not target.is_relative_to(home):
        raise InputError(f"data of constant {name!r} must lie in the network's folder, got {location!r}")
    if not target.is_file():
        raise InputError(f"data of constant {name!r} must be a file, got {location!r}")
    wanted = count * kind.itemsize
    try:
        offset, length = int(entries.get("offset", 0)), int(entries.get("length", wanted))
    except ValueError as error:
        raise InputError(
            f"data of constant {name!r} must have whole numbers as offset and length, got {error}"
        ) from error
    if offset < 0 or length != wanted or offset + length > target.stat().st_size:
        raise InputError(
            f"data of constant {name!r} must be {wanted} bytes within {location!r}, got {length} from {offset}"
        )
    return np.fromfile(target, kind.newbyteorder("<"), count, offset=offset).astype(kind)
