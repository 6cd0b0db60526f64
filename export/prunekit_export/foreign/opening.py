"""Read an ONNX file that others made: bounded, with weights from its own folder alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prunekit_export.errors import ExportError, ExportUsageError
from prunekit_export.graph import OPSET
from prunekit_runtime.text import printable_name

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import onnx

LEAST_OPSET = 11
MOST_BYTES = (1 << 31) - 1  # where protobuf ends


def read_foreign(path: Path) -> onnx.ModelProto:
    """Return the model of a file with all its weights inside.

    Raises:
        ExportError: it is no valid ONNX file, is larger than 2 GiB, is older than opset 11, or keeps weights outside
            its own folder.
    """
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise ExportUsageError(f"{path} does not exist, or is no file. Name an ONNX file.")
    _check_bytes(path, path.stat().st_size)
    try:
        model = onnx.load_model_from_string(path.read_bytes())
    except DecodeError as error:
        raise ExportUsageError(f"{path} is no ONNX file, or is cut short. Name another one.") from error
    _load_weights_(model, path)
    _drop_weight_inputs_(model)
    opset = next((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), 0)
    if opset < LEAST_OPSET:
        raise ExportUsageError(f"{path} has opset {opset}; {LEAST_OPSET} or newer is needed. Export it again.")
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise ExportError(f"{path} is not valid ONNX: {first_line(error)}") from error
    return model


def at_our_opset(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in the opset that files here have; the same object where it has it already.

    Raises:
        ExportError: onnx's converter does not know an operator's way there.
    """
    import onnx
    import onnx.version_converter

    if next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")) == OPSET:
        return model
    try:
        return onnx.version_converter.convert_version(model, OPSET)
    except Exception as error:  # the converter is C++ and raises what its bindings make of it
        raise ExportError(f"The file cannot be converted to opset {OPSET}: {first_line(error)}") from error


def first_line(error: BaseException) -> str:
    """Return an error's first line as it may be printed: libraries quote names of the file."""
    return printable_name((str(error).strip().splitlines() or [type(error).__name__])[0])[:300]


def _drop_weight_inputs_(model: onnx.ModelProto) -> None:
    """Leave weights out of the inputs, where files of an IR version before 4 list them too."""
    weights = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in weights]
    model.graph.ClearField("input")
    model.graph.input.extend(kept)
    model.ir_version = max(model.ir_version, 4)  # which has weights that are no inputs


def _check_bytes(path: Path, size: int) -> None:
    if size > MOST_BYTES:
        raise ExportUsageError(f"{path} and its weights have {size} bytes; one ONNX file holds {MOST_BYTES} at most.")


def _load_weights_(model: onnx.ModelProto, path: Path) -> None:
    """Take weights that lie in other files of the folder into the model."""
    import onnx
    from onnx.external_data_helper import load_external_data_for_tensor

    outside = [each for each in _tensors(model.graph) if each.data_location == onnx.TensorProto.EXTERNAL]
    files = {_inside(path, each) for each in outside}
    _check_bytes(path, path.stat().st_size + sum(file.stat().st_size for file in files))
    for tensor in outside:
        try:
            load_external_data_for_tensor(tensor, str(path.parent))
        except (ValueError, OSError, onnx.checker.ValidationError) as error:
            name = printable_name(tensor.name)
            raise ExportError(f"{path}: the weights {name} cannot be read: {first_line(error)}") from error
        tensor.data_location = onnx.TensorProto.DEFAULT
        tensor.ClearField("external_data")


def _inside(path: Path, tensor: onnx.TensorProto) -> Path:
    """Return the file of a tensor's values, which has to lie in the model's folder and be no link."""
    location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
    file, folder = path.parent / location, path.parent.resolve()
    shown = f"{path} keeps weights ({printable_name(tensor.name)}) in {printable_name(location)!r}"
    if "\0" in location or not file.resolve().is_relative_to(folder) or file.is_symlink():
        raise ExportError(f"{shown}, which is not in its own folder. Save it as one file.")
    if not file.is_file():
        raise ExportUsageError(f"{shown}, which is not there. Copy that file beside it.")
    return file


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            for inner in (attribute.g, *attribute.graphs):
                yield from _tensors(inner)
