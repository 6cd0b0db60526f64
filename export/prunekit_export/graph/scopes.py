"""The module that each node of an exported file comes from.

torch's exporter writes the path of modules to every node, with source files and stack traces beside it; only the path
is of use elsewhere.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx

_SCOPES = "pkg.torch.onnx.name_scopes"
_WRAPPER = "network."  # of the segmenter round a user's network


def scopes_of(model: onnx.ModelProto) -> dict[str, str]:
    """Return the module of each node as the exporter tells it, called as `named_modules` of the user's network does."""
    found = {
        node.name: _module(entry.value)
        for node in model.graph.node
        for entry in node.metadata_props
        if node.name and entry.key == _SCOPES
    }
    return {name: module for name, module in found.items() if module}


def _module(text: str) -> str:
    """Return the innermost module of "['', 'enc', 'enc.0', 'conv2d']", whose last part is the operator."""
    try:
        scopes: Any = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return ""
    inner = str(scopes[-2]) if isinstance(scopes, list) and len(scopes) > 1 else ""
    while inner.startswith(_WRAPPER):
        inner = inner.removeprefix(_WRAPPER)
    return "" if inner.startswith("_") else inner  # a name of torch's own, for what its passes add
