"""Does a pruned network run at all? Sizes that the user's code writes as constants are found by trying.

The analysis ties channels as the ops demand, but a `view(n, 2, 32, h, w)` with the 32 in the source, or zeros made for
64 channels, only shows when a channel is missing. A network on the meta device computes shapes and no values, so that
a trial costs milliseconds and no memory.
"""

import copy
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunekit.pruning.coupling import Coupling, Group
from prunekit.pruning.plan import make_plan
from prunekit.pruning.surgery import pruned

_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent)


class Trial:
    """Runs cut copies of a network on shapes alone."""

    def __init__(self, module: nn.Module, example_inputs: tuple[Any, ...], coupling: Coupling) -> None:
        self.coupling = coupling
        self.module = module
        self.inputs = example_inputs
        on_meta = pytree.tree_map_only(Tensor, lambda value: value.to("meta"), example_inputs)
        skeleton = _skeleton(module).eval()
        if _error(skeleton, on_meta) is None:
            self.module, self.inputs = skeleton, on_meta
        else:  # some op knows no shapes: try with values
            self.module = copy.deepcopy(module).eval()

    def written_sizes(self) -> dict[str, str]:
        """Return the groups that cannot lose a channel, with the place in the user's code that stops them."""
        groups = [group for group in self.coupling.free if group.width > 1]
        if self._failure(groups) is None:
            return {}
        return self._culprits(groups)

    def _culprits(self, groups: Sequence[Group]) -> dict[str, str]:
        failure = self._failure(groups)
        if failure is None:
            return {}
        if len(groups) == 1:
            return {groups[0].name: f"its size is written in the network's code{_place(failure)}"}
        middle = len(groups) // 2
        found = {**self._culprits(groups[:middle]), **self._culprits(groups[middle:])}
        # Two halves that run alone and not together depend on each other's widths: all of them stay.
        return found or {
            group.name: f"its size must fit another's in the network's code{_place(failure)}" for group in groups
        }

    def _failure(self, groups: Sequence[Group]) -> Exception | None:
        """Cut half of each group, then a single unit: an odd number left shows what must divide."""
        for keep in ({g.name: range(g.width // 2) for g in groups}, {g.name: range(g.width - 1) for g in groups}):
            failure = self._run(keep)
            if failure is not None:
                return failure
        return None

    def _run(self, keep: Mapping[str, Sequence[int]]) -> Exception | None:
        return _error(pruned(self.module, make_plan(self.coupling, keep)), self.inputs)


def _skeleton(module: nn.Module) -> nn.Module:
    """Return a copy without values; tied parameters stay tied, which moving a module to the meta device undoes."""
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.to("meta")
    return copy.deepcopy(module, memo)


def _error(module: nn.Module, inputs: tuple[Any, ...]) -> Exception | None:
    try:
        with torch.no_grad():
            module.eval()(*inputs)
    except Exception as error:
        return error
    return None


def _place(error: Exception) -> str:
    """Return " at package/file.py:12" for the innermost line that is neither torch's nor ours."""
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith((_TORCH, _HERE)):
            return f" at {'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno}"
    return ""
