"""What exports without an error and is wrong, or is refused later with a riddle: refused here, with the way out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from prunekit_export.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch


def check_exportable(program: torch.export.ExportedProgram, *, dynamic: bool) -> None:
    """Refuse operators that do not survive the way to an engine.

    Works on the traced ATen graph, so a functional call is seen as well as a module.

    Raises:
        ExportError: an antialiased resize (TensorRT's parser has none), or with `dynamic` height and width an
            adaptive pool to more than 1 x 1 (the exporter writes the traced size's windows, wrong at any other).
    """
    for node in _calls(program):
        operator = str(node.target).removeprefix("aten.").partition(".")[0]
        where = _where(node)
        if operator.startswith("_upsample") and operator.endswith("_aa"):
            raise ExportError(f"{where} resizes with antialias=True, which TensorRT cannot parse. Use antialias=False.")
        if dynamic and "adaptive" in operator and "pool2d" in operator and _cells(node) != 1:
            raise ExportError(
                f"{where} pools to {list(node.args[1])}, which is right at one image size only. "
                "Export with a fixed size (--static), or pool to 1 x 1."
            )


def _calls(program: torch.export.ExportedProgram) -> Iterator[Any]:
    return (node for node in program.graph.nodes if node.op == "call_function")


def _cells(node: Any) -> int:
    sizes: list[int] = node.args[1]
    return math.prod(sizes)


def _where(node: Any) -> str:
    # nn_module_stack maps a key to (path in the module, class); the innermost comes last.
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    path = stack[-1][0] if stack else ""
    return f"Module {path}" if path else f"Operator {node.name}"
