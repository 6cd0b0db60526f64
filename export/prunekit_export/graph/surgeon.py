"""To onnx-graphsurgeon and back: a copy of a model that can be edited, and the file-level fields kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunekit_export.errors import ExportError

if TYPE_CHECKING:
    import onnx


def editable(model: onnx.ModelProto) -> Any:
    """Return a graph-surgeon copy in which every tensor has a type, constants being initialisers."""
    import onnx
    import onnx_graphsurgeon as gs

    _refuse(model)
    graph = gs.import_onnx(onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True))
    graph.toposort()
    _lift_constants_(graph)
    for tensor in graph.tensors().values():
        if tensor.name and tensor.dtype is None:
            raise ExportError(f"The type of tensor {tensor.name} is unknown, so fp16 cannot be written. Export fp32.")
    return graph


def _refuse(model: onnx.ModelProto) -> None:
    if model.functions:
        raise ExportError("The fp16 pass takes no model with local functions. Inline them, or export fp32.")
    for node in model.graph.node:
        if node.domain not in ("", "ai.onnx"):
            raise ExportError(f"Node {node.name} is {node.domain}.{node.op_type}: no ONNX operator. Export fp32.")
        if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
            raise ExportError(f"Node {node.name} ({node.op_type}) holds a subgraph; fp16 refuses those. Export fp32.")


def _lift_constants_(graph: Any) -> None:
    """Turn Constant nodes with a tensor value into initialisers, which need no Cast."""
    for node in [node for node in graph.nodes if node.op == "Constant" and "value" in node.attrs]:
        values = node.attrs["value"].values
        tensor = node.outputs[0]
        if any(tensor is output for output in graph.outputs):
            continue
        node.outputs.clear()
        tensor.to_constant(values)
        graph.nodes.remove(node)


def exported(graph: Any, model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph as a model in topological order, with the file-level fields of `model`."""
    import onnx
    import onnx_graphsurgeon as gs

    graph.cleanup().toposort()
    converted: onnx.ModelProto = gs.export_onnx(graph)
    converted.ir_version = model.ir_version
    converted.producer_name, converted.producer_version = model.producer_name, model.producer_version
    del converted.metadata_props[:]
    converted.metadata_props.extend(model.metadata_props)
    onnx.checker.check_model(converted, full_check=True)
    return converted
