"""Take the build host out of a model: stack traces, source paths and doc strings.

1. Metadata of nodes, values, tensors, graphs and functions goes; the exporter writes absolute paths there.
2. Doc strings go.
3. The model's own metadata stays, but for keys of the exporter (`pkg.`).
4. Nodes without a name get one, so that later messages and lists can name them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from prunekit_export.graph.pass_base import PassResult

if TYPE_CHECKING:
    from collections.abc import Iterator

    import onnx

_EXPORTER_KEY = "pkg."


@dataclass(frozen=True)
class StripPass:
    """Remove what only the build host knows."""

    name: str = "strip"

    def __call__(self, model: onnx.ModelProto) -> PassResult:
        """Return `model` without traces of where it was built."""
        import onnx

        stripped = onnx.ModelProto()
        stripped.CopyFrom(model)
        _strip_model_(stripped)
        # By size: names are added where one is missing, all else is only taken away, and serialising both to compare
        # them costs twice the memory of the weights.
        unnamed = any(not node.name for node in model.graph.node)
        same = not unnamed and stripped.ByteSize() == model.ByteSize()
        return PassResult(model, False) if same else PassResult(stripped, True)


def _strip_model_(model: onnx.ModelProto) -> None:
    kept = [(entry.key, entry.value) for entry in model.metadata_props if not entry.key.startswith(_EXPORTER_KEY)]
    _clear_(model)
    for key, value in kept:
        model.metadata_props.add(key=key, value=value)
    _strip_graph_(model.graph)
    for function in model.functions:
        _clear_(function)
        for node in function.node:
            _strip_node_(node)


def _strip_graph_(graph: onnx.GraphProto) -> None:
    _clear_(graph)
    for part in _parts(graph):
        _clear_(part)
    taken = {node.name for node in graph.node}
    for index, node in enumerate(graph.node):
        _strip_node_(node)
        if not node.name:
            node.name = _fresh(f"{node.op_type}_{index}", taken)


def _fresh(stem: str, taken: set[str]) -> str:
    name = stem
    while name in taken:
        name += "_"
    taken.add(name)
    return name


def _parts(graph: onnx.GraphProto) -> Iterator[Any]:
    yield from graph.input
    yield from graph.output
    yield from graph.value_info
    yield from graph.initializer


def _strip_node_(node: onnx.NodeProto) -> None:
    _clear_(node)
    for attribute in node.attribute:
        attribute.doc_string = ""
        if attribute.HasField("g"):
            _strip_graph_(attribute.g)
        for graph in attribute.graphs:
            _strip_graph_(graph)


def _clear_(proto: Any) -> None:
    proto.ClearField("doc_string")
    proto.ClearField("metadata_props")
