"""A file of opset 20 as one of opset 22, where convolutions and pooling take bf16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prunekit_export.errors import ExportError
from prunekit_export.graph import BF16_OPSET, OPSET, PassResult, editable, exported

if TYPE_CHECKING:
    import onnx


class NewerOpsetPass:
    """Raise the opset from 20 to 22, and write HardSwish as a product, whose bf16 form TensorRT-RTX 1.7 refuses.

    From 20 to 22 operators take further types. One changed what it computes, GroupNormalization, and is refused.
    """

    name = "opset"

    def __call__(self, model: onnx.ModelProto) -> PassResult:
        """Return the model.

        Raises:
            ExportError: it is of another opset, or holds GroupNormalization.
        """
        version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        changed = [node.name for node in model.graph.node if node.op_type == "GroupNormalization"]
        if version != OPSET or changed:
            found = f"opset {version}" if version != OPSET else f"the operator GroupNormalization ({changed[0]})"
            raise ExportError(
                f"bf16 needs opset {BF16_OPSET}, and a file with {found} is not raised to it. Export fp16 or fp32."
            )
        graph = editable(model)
        graph.opset = BF16_OPSET
        graph.import_domains = None
        for node in [node for node in graph.nodes if node.op == "HardSwish"]:
            _as_product_(graph, node)
        return PassResult(exported(graph, model), True)


def _as_product_(graph: Any, node: Any) -> None:
    """Write x * HardSigmoid(x), which is what the ONNX specification says HardSwish is."""
    import onnx_graphsurgeon as gs

    image, result = node.inputs[0], node.outputs[0]
    gate = gs.Variable(f"{result.name}__gate", dtype=result.dtype, shape=result.shape)
    sigmoid = gs.Node(
        "HardSigmoid", f"{node.name}_gate", attrs={"alpha": 1 / 6, "beta": 0.5}, inputs=[image], outputs=[gate]
    )
    node.op, node.attrs = "Mul", {}
    node.inputs = [image, gate]
    graph.nodes.append(sigmoid)
