"""Does the code of a cut network do what it did? Sizes and numbers that shapes alone do not show.

A cut network may run and yet mean something else: `view(n, -1, 4, h, w)` makes fewer groups instead of narrower ones,
`split(x, 8)` other parts, `q / q.shape[-1] ** 0.5` another scale. All of these stand in the exported graph: that of a
cut copy is compared with the dense one. Every shape must be what the channels that are left say, every number the same.
"""

import math
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import ExportedProgram
from torch.fx import Node
from torch.utils import _pytree as pytree

from prunekit.errors import PruneError
from prunekit.pruning.analysis.walk.ids import NONE
from prunekit.pruning.analysis.walk.interpreter import Interpreter
from prunekit.pruning.arrays import IntArray
from prunekit.pruning.coupling import Coupling, Flags
from prunekit.pruning.surgery import make_plan, pruned

_SIZE = "is viewed, split or picked by a size written in the network's code"
_NUMBER = "their number is used as a value in the network's code"
_ROUNDS = 4  # what is wrong behind a first place shows when that is frozen


class Recount:
    """Compares the graph of a dense network with that of a copy that lacks a unit of each group."""

    def __init__(
        self, walk: Interpreter, program: ExportedProgram, export: Callable[[nn.Module], ExportedProgram]
    ) -> None:
        self.walk, self.export = walk, export
        self.nodes = list(program.graph.nodes)

    def freeze(self, module: nn.Module, gather: Callable[[], Coupling]) -> Coupling:
        """Freeze the channels whose number the code uses, and return the groups that `gather` finds then."""
        coupling = gather()
        for _ in range(_ROUNDS):
            keep = {group.name: range(group.width - 1) for group in coupling.free if group.width > 1}
            try:
                cut = self.export(pruned(module, make_plan(coupling, keep))) if keep else None
            except PruneError:
                return coupling
            found = [] if cut is None else self._differing(list(cut.graph.nodes), coupling.removed(keep))
            stopped = [self._stop(node, reason) for node, reason in found]
            if not any(stopped):
                return coupling
            coupling = gather()
        return coupling

    def _differing(self, cut: list[Node], removed: Flags) -> list[tuple[Node, str]]:
        """Return the nodes that are the first on their way to differ from what the ids say."""
        if [str(node.target) for node in cut] != [str(node.target) for node in self.nodes]:
            return []  # another path through the code; verifying a plan compares its results
        labels = self.walk.space.labels()
        behind: set[Node] = set()
        found: list[tuple[Node, str]] = []
        for old, new in zip(self.nodes, cut, strict=True):
            if old.op != "call_function" or behind.intersection(old.all_input_nodes):
                behind.add(old) if old.op == "call_function" else None
            elif _numbers(old) != _numbers(new):
                behind.add(old)
                found.append((old, _NUMBER))
            elif not self._as_left(old, new, labels, removed):
                behind.add(old)
                found.append((old, _SIZE))
        return found

    def _as_left(self, old: Node, new: Node, labels: IntArray, removed: Flags) -> bool:
        core = self.walk.trace.get(old)
        before, after = old.meta.get("val"), new.meta.get("val")
        if core is None or not isinstance(before, Tensor) or not isinstance(after, Tensor):
            return True
        gone = torch.from_numpy(removed)[torch.from_numpy(labels)[core.long()]]
        for dim, length in enumerate(core.shape):
            if length > 1:
                left = int((~gone.movedim(dim, 0).reshape(length, -1).all(dim=1)).sum())
                # Padding made by size follows what it pads for, which no id says.
                padding = int((core.movedim(dim, 0).reshape(length, -1) == NONE).all(dim=1).sum())
                if not left - padding <= after.shape[dim] <= left:
                    return False
        return True

    def _stop(self, node: Node, reason: str) -> bool:
        """Freeze the channels at a node, or the nearest before it; tell whether there are any."""
        carrying, seen, waiting = [], {node}, [node]
        while waiting:
            current = waiting.pop()
            core = self.walk.trace.get(current)
            if core is not None:
                carrying.append(core)
            if core is None or current is node:
                fresh = [source for source in current.all_input_nodes if source not in seen]
                seen.update(fresh)
                waiting += fresh
        for core in carrying:
            self.walk.space.freeze(core, f"{reason}{_place(node)}")
        return bool(carrying)


def _numbers(node: Node) -> list[float]:
    """Return the numbers an op calculates with: fractions everywhere, whole ones where they are no sizes."""
    whole = torch.Tag.pointwise in getattr(node.target, "tags", ())
    leaves: list[Any] = pytree.tree_leaves((node.args, node.kwargs))
    return [
        float(f"{leaf:.6g}")
        for leaf in leaves
        if (isinstance(leaf, float) and math.isfinite(leaf)) or (whole and type(leaf) is int)
    ]


def _place(node: Node) -> str:
    """Return " at package/file.py:12" for the line of the user's code."""
    lines = re.findall(r'File "([^"]+)", line (\d+)', str(node.meta.get("stack_trace") or ""))
    return f" at {'/'.join(lines[-1][0].split('/')[-2:])}:{lines[-1][1]}" if lines else ""
