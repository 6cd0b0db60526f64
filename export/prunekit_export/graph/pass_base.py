"""What a graph pass is: a model in, a model and whether it changed out; the argument stays as it was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    import onnx


@dataclass(frozen=True)
class PassResult:
    """The model after a pass; `modified` is False exactly when it is the argument itself."""

    model: onnx.ModelProto
    modified: bool


class GraphPass(Protocol):
    """A transformation of a whole model that does not change its argument."""

    @property
    def name(self) -> str:
        """The pass in messages and in the lineage."""
        ...

    def __call__(self, model: onnx.ModelProto) -> PassResult:
        """Return the transformed model."""
        ...


def run_passes(model: onnx.ModelProto, passes: Sequence[GraphPass]) -> PassResult:
    """Run `passes` in order."""
    modified = False
    for graph_pass in passes:
        result = graph_pass(model)
        model, modified = result.model, modified or result.modified
    return PassResult(model, modified)
