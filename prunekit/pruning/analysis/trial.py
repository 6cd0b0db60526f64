"""Does a pruned network run at all, and the same way? Sizes that the user's code relies on are found by trying.

The analysis ties channels as the ops demand, but a `view(n, 2, 32, h, w)` with the 32 in the source, or zeros made for
64 channels, only shows when a channel is missing. A network on the meta device computes shapes and no values, so that
a trial costs milliseconds and no memory. A group is tried in the smallest module that holds all of its layers, on what
that module was given: an attention layer's queries need no run of the whole network.
"""

import copy
import traceback
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from prunekit.equality.mode import set_mode
from prunekit.errors import PruneError
from prunekit.pruning.analysis.path import Follower, OtherPathError, Recorder, Step
from prunekit.pruning.coupling import Coupling, Group
from prunekit.pruning.surgery import Plan, Slice, make_plan, pruned
from prunekit.random_state import drawing_from

_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parents[1])


class Call(NamedTuple):
    """What a module is given, and in which mode."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    training: bool = False


_WHOLE = ""
_SEED = 0


class Trial:
    """Runs cut copies of a network, or of its modules, on shapes alone.

    Args:
        module: the network.
        calls: what it is tried on.
        coupling: the analysis of `module`.
    """

    def __init__(self, module: nn.Module, calls: Sequence[Call], coupling: Coupling) -> None:
        self.coupling = coupling
        self.module = module
        self.calls: dict[str, list[Call]] = {_WHOLE: list(calls)}
        self.steps: dict[str, list[list[Step]]] = {}
        on_meta = [without_values(call) for call in calls]
        bare = skeleton(module)
        if all(error(bare, call) is None for call in on_meta):
            self.module, self.calls[_WHOLE] = bare, on_meta
        else:  # some op knows no shapes, or the code makes tensors elsewhere: try with values
            self.module = copy.deepcopy(module)

    def written_sizes(self) -> dict[str, str]:
        """Return the groups that cannot lose a channel, with the place in the user's code that stops them."""
        groups = [group for group in self.coupling.free if group.width > 1]
        if self._failure(_WHOLE, groups) is None:
            return {}
        scopes = self._scopes(groups)
        found: dict[str, str] = {}
        for scope in sorted(set(scopes.values()) | {_WHOLE}, key=lambda name: (-_depth(name), name)):
            # What its own modules let through goes along: two groups may fail together only.
            inside = [g for g in groups if g.name not in found and _holds(scope, scopes[g.name])]
            while inside and (failure := self._failure(scope, inside)) is not None:
                found |= self._culprits(scope, inside, failure)
                inside = [group for group in inside if group.name not in found]
        return found

    def _scopes(self, groups: Sequence[Group]) -> dict[str, str]:
        """Return by group the smallest module that runs all of its layers, and note what those modules are given."""
        aliases = _aliases(self.module)
        names = {g.name: _common_module(aliases, [slot.parameter for slot in g.slots]) for g in groups}
        self._record({parent for name in names.values() for parent in _parents(name)})
        return {group: next((p for p in _parents(name) if self.calls.get(p)), _WHOLE) for group, name in names.items()}

    def _record(self, names: set[str]) -> None:
        handles = []
        for name in names - {_WHOLE}:
            calls = self.calls.setdefault(name, [])

            def note(layer: nn.Module, args: Any, kwargs: Any, calls: list[Call] = calls) -> None:
                calls.append(Call(args, kwargs, layer.training))

            handles.append(self.module.get_submodule(name).register_forward_pre_hook(note, with_kwargs=True))
        try:
            for call in self.calls[_WHOLE]:
                error(self.module, call)
        finally:
            for handle in handles:
                handle.remove()

    def _culprits(self, scope: str, groups: Sequence[Group], failure: Exception) -> dict[str, str]:
        """Find groups to freeze, of some that fail together; there may be more."""
        if len(groups) == 1:
            return {groups[0].name: f"{_reason(failure)}{_place(failure)}"}
        middle = len(groups) // 2
        found: dict[str, str] = {}
        for half in (groups[:middle], groups[middle:]):
            own = self._failure(scope, half)
            found |= self._culprits(scope, half, own) if own is not None else {}
        return found or self._odd_one(scope, groups, middle)

    def _odd_one(self, scope: str, groups: Sequence[Group], fits: int) -> dict[str, str]:
        """Find the first group that does not fit those before it, of which the first `fits` do."""
        last = len(groups)
        failure = self._failure(scope, groups)
        while last - fits > 1:
            middle = (fits + last) // 2
            found = self._failure(scope, groups[:middle])
            fits, last, failure = (middle, last, failure) if found is None else (fits, middle, found)
        assert failure is not None
        return {groups[last - 1].name: f"its size must fit another's in the network's code{_place(failure)}"}

    def _failure(self, scope: str, groups: Sequence[Group]) -> Exception | None:
        """Cut halves, then single units, then of each group another number: an odd number shows what must divide."""
        halves = [group.width // 2 for group in groups]
        one_less = [group.width - 1 for group in groups]
        # Down to two: a single channel is spread over any number.
        apart = [group.width - 1 - number % max(1, group.width - 2) for number, group in enumerate(groups)]
        for left in (halves, one_less, apart):
            failure = self._run(scope, {group.name: range(n) for group, n in zip(groups, left, strict=True)})
            if failure is not None:
                return failure
        return None

    def _run(self, scope: str, keep: Mapping[str, Sequence[int]]) -> Exception | None:
        plan = _within(scope, make_plan(self.coupling, keep))
        cut = pruned(self.module.get_submodule(scope), plan)
        if scope not in self.steps:
            self.steps[scope] = [steps(self.module.get_submodule(scope), call) for call in self.calls[scope]]
        for call, expected in zip(self.calls[scope], self.steps[scope], strict=True):
            # Some modules take a faster way where nobody watches: the whole network runs unwatched too.
            failure = (error(cut, call) if scope == _WHOLE else None) or other_path(cut, call, expected)
            if failure is not None:
                return failure
        return None


def check_path(module: nn.Module, plan: Plan, example_inputs: tuple[Any, ...]) -> None:
    """Check that the network cut by `plan` makes the same calls as the dense one, on shapes alone.

    Raises:
        PruneError: its code takes another way, or computes with other numbers, at this width.
    """
    call, bare = without_values(Call(example_inputs, {})), skeleton(module)
    if error(bare, call) is not None:
        return  # some op knows no shapes: the values tell
    failure = other_path(pruned(bare, plan), call, steps(bare, call))
    if isinstance(failure, OtherPathError):
        raise PruneError(
            f"The pruned network would not run as the dense one does: {failure}{_place(failure)}. Nothing was changed. "
            "Prune less, or write the code so that it does not depend on the number of channels."
        )


def steps(module: nn.Module, call: Call) -> list[Step]:
    """Return the calls that a network makes."""
    with Recorder() as recorder:
        error(module, call)
    return recorder.steps


def other_path(module: nn.Module, call: Call, expected: Sequence[Step]) -> Exception | None:
    """Return what stops a network, or that it makes other calls than expected."""
    if any(step.name == "cond" for step in expected):
        return error(module, call)  # torch compiles both ways of a condition, with calls of its own
    follower = Follower(expected)
    with follower:
        failure = error(module, call)
    while isinstance(failure, OtherPathError) and isinstance(failure.__context__, Exception):
        failure = failure.__context__  # a block that closes after an error calls something else too
    if failure is not None:
        return failure
    try:
        follower.finish()
    except OtherPathError as left_out:
        return left_out
    return None


def _within(scope: str, plan: Plan) -> Plan:
    """Return the plan in the names of a module inside the network."""
    if not scope:
        return plan
    skip = len(scope) + 1
    slices = tuple(Slice(row.parameter[skip:], row.dim, row.width, row.keep) for row in plan.slices)
    return Plan(slices, {name[skip:]: groups for name, groups in plan.groups.items()})


def _aliases(module: nn.Module) -> dict[str, tuple[str, ...]]:
    """Return all names of the tensor that each name of a parameter or buffer stands for."""
    tensors = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    names: dict[int, tuple[str, ...]] = {}
    for name, tensor in tensors:
        names[id(tensor)] = (*names.get(id(tensor), ()), name)
    return {name: names[id(tensor)] for name, tensor in tensors}


def _common_module(aliases: Mapping[str, tuple[str, ...]], parameters: Sequence[str]) -> str:
    paths = [name.split(".")[:-1] for parameter in parameters for name in aliases.get(parameter, (parameter,))]
    shared: list[str] = []
    for parts in zip(*paths, strict=False):
        if len(set(parts)) > 1:
            break
        shared.append(parts[0])
    return ".".join(shared)


def _parents(name: str) -> Iterator[str]:
    """Yield a module's name and those of all that hold it, the network last."""
    while name:
        yield name
        name = name.rpartition(".")[0]
    yield _WHOLE


def _holds(scope: str, name: str) -> bool:
    return not scope or name == scope or name.startswith(f"{scope}.")


def _depth(name: str) -> int:
    return len(name.split(".")) if name else 0


def without_values(call: Call) -> Call:
    """Return a call with its shapes alone."""
    return call._replace(args=pytree.tree_map_only(Tensor, lambda value: value.to("meta"), call.args))


def skeleton(module: nn.Module) -> nn.Module:
    """Return a copy without values; tied parameters stay tied, which moving a module to the meta device undoes."""
    memo: dict[int, Any] = {}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(parameter.detach().to("meta"), requires_grad=parameter.requires_grad)
    for buffer in module.buffers():
        memo[id(buffer)] = buffer.to("meta")
    return copy.deepcopy(module, memo)


def error(module: nn.Module, call: Call) -> Exception | None:
    """Return what stops a call, or None."""
    try:
        with torch.no_grad(), drawing_from(_SEED):  # numbers that the code draws do not follow a width
            set_mode(module, training=call.training)(*call.args, **call.kwargs)
    except Exception as failure:
        return failure
    return None


def _reason(failure: Exception) -> str:
    return str(failure) if isinstance(failure, OtherPathError) else "its size is written in the network's code"


def _place(failure: Exception) -> str:
    """Return " at package/file.py:12" for the innermost line that is neither torch's nor ours."""
    for frame in reversed(traceback.extract_tb(failure.__traceback__)):
        if not frame.filename.startswith((_TORCH, _HERE)):
            return f" at {'/'.join(Path(frame.filename).parts[-2:])}:{frame.lineno}"
    return ""
