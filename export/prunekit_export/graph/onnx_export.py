"""Write a segmenter as one ONNX file, opset 20: `images` in, `logits` out, nothing of the build host inside."""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import json
import math
import re
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunekit.run import replacing
from prunekit_export.errors import ExportError
from prunekit_export.graph.guards import AXES, SizeCondition, SizeConditions, check_exportable, refuse_conditions
from prunekit_export.graph.older_route import OLDER_ROUTE, RouteError, by_torchscript
from prunekit_export.graph.pad import PadPass
from prunekit_export.graph.pass_base import run_passes
from prunekit_export.graph.scopes import scopes_of
from prunekit_export.graph.strip import StripPass
from prunekit_runtime.timing.modules import MODULES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import onnx
    import torch

# 20: every parser from TensorRT 10.0 on reads it; fp16 Q/DQ scales need 19; 23 brings Attention, which does not build.
OPSET, BF16_OPSET = 20, 22
INPUT = "images"
OUTPUT = "logits"


@dataclass(frozen=True)
class ExportReport:
    """What was written: dims of the input as in the file, a name where the dim is dynamic.

    With open sizes the file pads images to multiples of `stride` and crops the logits, all inside.
    """

    path: Path
    opset: int
    ir_version: int
    nodes: int
    onnx_bytes: int
    sha256: str
    input_dims: tuple[int | str, ...]
    output_dims: tuple[int | str, ...]
    stride: int
    edges: tuple[tuple[int, int], ...] = ()
    """Small sizes (height, width) at which the traced path may be another than the network's, to be tried."""
    route: str = "torch.export"
    """Which of torch's exporters wrote it."""
    fixed: tuple[str, ...] = ()
    """Where the older exporter may have fixed something of the image that it traced."""


def export_onnx(
    segmenter: torch.nn.Module,
    path: Path,
    *,
    height: int,
    width: int,
    dynamic: bool,
    batch: int = 1,
    stride: int = 1,
    metadata: Mapping[str, str] | None = None,
) -> ExportReport:
    """Export `segmenter` (images_B3HW -> logits_BKHW, float32) and read the file back.

    Args:
        segmenter: stays as it is; a copy on the CPU in eval mode is traced.
        path: the file, replaced atomically.
        height: of the traced image [px]; with `dynamic` any other works as well, padded inside the file.
        width: of the traced image [px].
        dynamic: leave batch, height and width open.
        batch: images at once when not `dynamic`.
        stride: with `dynamic`, what the network takes multiples of.
        metadata: strings kept inside the file.

    Raises:
        ExportError: the network does not trace, with a fixed size in neither of torch's ways; its Python depends on the
            size; or a guard refuses it.
    """
    if dynamic:
        return _of_program(segmenter, path, height, width, batch=batch, stride=stride, dynamic=True, metadata=metadata)
    try:
        return _of_program(segmenter, path, height, width, batch=batch, stride=1, dynamic=False, metadata=metadata)
    except RouteError as error:
        return _of_trace(segmenter, path, (batch, 3, height, width), metadata, error)


def _of_trace(
    segmenter: torch.nn.Module,
    path: Path,
    shape: tuple[int, int, int, int],
    metadata: Mapping[str, str] | None,
    failed: RouteError,
) -> ExportReport:
    """Export by the older exporter where the newer one has failed."""
    try:
        model, fixed = by_torchscript(frozen_copy(segmenter), shape, OPSET, (INPUT, OUTPUT))
    except RouteError as error:
        raise ExportError(f"{failed} The older exporter ({OLDER_ROUTE}) fails as well: {error}.") from failed
    model = run_passes(model, [StripPass()]).model
    set_metadata_(model, metadata or {})
    return dataclasses.replace(save_onnx(model, path), route=OLDER_ROUTE, fixed=fixed)


def _of_program(
    segmenter: torch.nn.Module,
    path: Path,
    height: int,
    width: int,
    *,
    batch: int,
    stride: int,
    dynamic: bool,
    metadata: Mapping[str, str] | None,
) -> ExportReport:
    program = _trace(segmenter, height=height, width=width, batch=batch, dynamic=dynamic, stride=stride)
    conditions = SizeConditions(program)
    if broken := conditions.broken(height, width):
        refuse_conditions(broken if stride > 1 else [], height, width)
        stride = _own_stride(segmenter, broken, height, width)
        program = _trace(segmenter, height=height, width=width, batch=batch, dynamic=True, stride=stride)
        conditions = SizeConditions(program)
        refuse_conditions(conditions.broken(height, width), height, width)
    check_exportable(program, dynamic=dynamic)
    model = _to_onnx(program)
    del program  # a copy of the weights
    modules = {MODULES: json.dumps(scopes_of(model), separators=(",", ":"), sort_keys=True)}
    _name_dims_(model, dynamic=dynamic)
    model = run_passes(model, [StripPass(), PadPass(stride)]).model
    set_metadata_(model, modules | dict(metadata or {}))
    report = save_onnx(model, path, stride=stride)
    return dataclasses.replace(report, edges=conditions.edges(height, width))


def save_onnx(model: onnx.ModelProto, path: Path, *, stride: int = 1) -> ExportReport:
    """Write `model` atomically, checked as it lies on the disk.

    Raises:
        ExportError: the checker refuses it, or its opset is neither 20 nor 22, which bf16 takes.
    """
    try:
        content = model.SerializeToString(deterministic=True)
    except ValueError as error:  # protobuf ends at 2 GiB
        raise ExportError(f"The network does not fit one ONNX file of 2 GiB: {error}") from error
    report = _report(path, model, content, stride)
    with replacing(path) as temporary:
        temporary.write_bytes(content)
        del content  # a copy of the weights, and the checker makes two of its own
        check_onnx(model, temporary)
    return report


def frozen_copy(segmenter: torch.nn.Module) -> torch.nn.Module:
    """Return a copy on the CPU, float32, in eval mode: what is traced and what parity is measured against."""
    return copy.deepcopy(segmenter).cpu().float().eval()


def check_onnx(model: onnx.ModelProto, path: Path) -> None:
    """Check the opset of a model, and structure, types and shapes of the file that holds it.

    Raises:
        ExportError: onnx.checker refuses the file, or its opset is neither 20 nor 22, which bf16 takes.
    """
    import onnx

    opsets = {entry.domain: entry.version for entry in model.opset_import}
    if opsets.get("") not in (OPSET, BF16_OPSET):
        raise ExportError(f"The exporter wrote opset {opsets.get('')}, not {OPSET}. Update onnxscript and torch.")
    try:
        onnx.checker.check_model(str(path), full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"The exported model is not valid ONNX: {_summary(error)}") from error


def set_metadata_(model: onnx.ModelProto, metadata: Mapping[str, str]) -> None:
    """Put `metadata` into `model`, replacing entries of the same key."""
    kept = {entry.key: entry.value for entry in model.metadata_props} | dict(metadata)
    model.ClearField("metadata_props")
    for key, value in sorted(kept.items()):
        model.metadata_props.add(key=key, value=value)


def value_dims(value: onnx.ValueInfoProto) -> tuple[int | str, ...]:
    """Return the dims of a graph input or output: an int, or the name of a dynamic one."""
    return tuple(dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim)


def _own_stride(segmenter: torch.nn.Module, conditions: list[SizeCondition], height: int, width: int) -> int:
    """Return the stride to which a network pads itself, where it asks for nothing else and pads as the file would.

    Raises:
        ExportError: its Python depends on the size in another way.
    """
    from prunekit_export.padding import pads_itself

    stride = math.lcm(*(condition.stride or 1 for condition in conditions))
    sides = [_rounded_up(side, stride) for side in (height, width)]
    if stride == 1 or not pads_itself(frozen_copy(segmenter), stride, *sides):
        refuse_conditions(conditions, height, width)
    return stride


def _rounded_up(side: int, stride: int) -> int:
    return -(-side // stride) * stride


def _trace(
    segmenter: torch.nn.Module, *, height: int, width: int, batch: int, dynamic: bool, stride: int
) -> torch.export.ExportedProgram:
    import torch

    from prunekit_export.graph.adaptive import SizedPooling
    from prunekit_export.graph.fold_patches import FoldedPatches

    # torch.export takes sizes 0 and 1 for constants: trace a dynamic batch with 2, and at least two strides a side.
    images_B3HW = torch.zeros(batch, 3, height, width)
    if dynamic:
        images_B3HW = torch.zeros(2, 3, *(max(_rounded_up(side, stride), 2 * stride) for side in (height, width)))
    shapes = (_dynamic_dims(stride),) if dynamic else None
    pooling = SizedPooling() if dynamic else nullcontext()
    try:
        with torch.no_grad(), FoldedPatches(), pooling:
            program = torch.export.export(frozen_copy(segmenter), (images_B3HW,), dynamic_shapes=shapes, strict=False)
            return _reshaping(program)
    except Exception as error:
        advice = " A network whose Python depends on the size exports with a fixed one (--static)." if dynamic else ""
        size = f"{tuple(images_B3HW.shape)}{' with dynamic batch, height, width' if dynamic else ''}"
        raise RouteError(f"torch.export cannot trace the network at {size}: {_summary(error)}.{advice}") from error


def _reshaping(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """Let views be reshapes: attention that is taken apart lies in memory in another way than its views were traced."""
    import torch

    for node in program.graph.nodes:
        if node.op == "call_function" and node.target == torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
    return program


def _dynamic_dims(stride: int) -> dict[int, Any]:
    from torch.export import Dim

    if stride == 1:
        # Not Dim("height"): the arithmetic of padding and cropping makes the exporter's check of named ranges fail.
        return dict.fromkeys(AXES, Dim.DYNAMIC)
    return {0: Dim.DYNAMIC, 2: stride * Dim("height", min=1), 3: stride * Dim("width", min=1)}


def _to_onnx(program: torch.export.ExportedProgram) -> onnx.ModelProto:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    try:
        # Attention is taken apart into products anyway. Taken apart from a fused kernel, the result lies in memory in
        # another way than it was traced with, and a view of it fails.
        with sdpa_kernel(SDPBackend.MATH):
            converted = torch.onnx.export(
                program,
                dynamo=True,
                opset_version=OPSET,
                external_data=False,
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
    except Exception as error:  # passes of the exporter raise errors of their own, with no base class in common
        raise RouteError(f"The network can be traced, but not written as ONNX: {_summary(_cause(error))}") from error
    if converted is None:
        raise RouteError("torch.onnx.export returned no model.")
    return converted.model_proto


def _name_dims_(model: onnx.ModelProto, *, dynamic: bool) -> None:
    """Name the dynamic dims `batch`, `height`, `width` whatever symbol the exporter chose, and refuse lost ones."""
    if not dynamic:
        return
    # Inner tensors are described in the exporter's symbols, which may count strides and be called `height` as well.
    model.graph.ClearField("value_info")
    for value in (*model.graph.input, *model.graph.output):
        dims = value.type.tensor_type.shape.dim
        for axis, name in AXES.items():
            if dims[axis].dim_value:
                raise ExportError(
                    f"The network fixes {name} of {value.name} at {dims[axis].dim_value}, so it cannot be dynamic. "
                    "Export with a fixed size (--static)."
                )
            dims[axis].dim_param = name


def _report(path: Path, model: onnx.ModelProto, content: bytes, stride: int) -> ExportReport:
    return ExportReport(
        path=path,
        opset=model.opset_import[0].version,
        ir_version=model.ir_version,
        nodes=len(model.graph.node),
        onnx_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        input_dims=value_dims(model.graph.input[0]),
        output_dims=value_dims(model.graph.output[0]),
        stride=stride,
    )


def _cause(error: BaseException) -> BaseException:
    """Return what an error comes from: the exporter's own text is about its steps."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def _summary(error: BaseException) -> str:
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)  # a KeyError shows the repr
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)  # the exporter writes in colour
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    # torch names the violated constraint on the second line.
    return " ".join(lines[:2])[:400] if lines else type(error).__name__
