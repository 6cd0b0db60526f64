"""The coupling analysis: export the network once, run it on channel ids, read off the groups."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from prunekit.equality.mode import set_mode
from prunekit.errors import PruneError
from prunekit.pruning.analysis.elsewhere import elsewhere, other_ways
from prunekit.pruning.analysis.recount import Recount
from prunekit.pruning.analysis.rules import RULES
from prunekit.pruning.analysis.trial import Call, Trial
from prunekit.pruning.analysis.walk.ids import DRAWN, compress, varies
from prunekit.pruning.analysis.walk.interpreter import Interpreter, Weight
from prunekit.pruning.arrays import IntArray
from prunekit.pruning.coupling import Cost, Coupling, Group, GroupedLayer, Slot, layer_of
from prunekit.pruning.surgery import GROUPED
from prunekit.random_state import drawing_from

_SEED = 0


def analyse(module: nn.Module, example_inputs: tuple[Any, ...]) -> Coupling:
    """Find the channel groups of `module`.

    The graph of evaluation mode is analysed, and those of training mode, of several images and of other sizes where
    they use more (auxiliary heads) or the code goes another way. Cut copies are then tried on shapes alone, and groups
    whose size the user's code writes as a constant are frozen.

    Args:
        module: any network that torch.export can trace; its mode is left as it was.
        example_inputs: positional arguments; MACs are counted at their sizes.

    Raises:
        PruneError: torch.export cannot trace the network; the message holds its reason. Or a layer keeps a weight that
            is the result of a computation, as the old torch.nn.utils.weight_norm does.
    """
    _check_copyable(module)
    walk = Interpreter(RULES, _first_names(module))
    example = Call(example_inputs, {})
    program = _export(module, example)
    walk.run(program)
    others = other_ways(module, example_inputs)
    for call in others:
        _walk_also(walk, module, call)
    if _unseen(walk, module) and not any(call.training for call in others):
        _walk_also(walk, module, *next(elsewhere(example_inputs)))
    with torch.no_grad():
        recount = Recount(walk, program, lambda copy: _export(copy, example))
        return recount.freeze(module, lambda: _running(walk, module, [example, *others]))


def _running(walk: Interpreter, module: nn.Module, calls: Sequence[Call]) -> Coupling:
    """Return the groups, those frozen that make a cut network fail."""
    coupling = _coupling(walk, module)
    written = Trial(module, calls, coupling).written_sizes()
    if not written:
        return coupling
    for group in coupling.free:
        if group.name in written:
            walk.space.freeze(torch.from_numpy(group.units).to(torch.int32), written[group.name])
    return _coupling(walk, module)


def _check_copyable(module: nn.Module) -> None:
    for owner, layer in module.named_modules():
        hooks = layer._forward_pre_hooks.values()  # pyright: ignore[reportPrivateUsage]  no public list
        hooked = [hook.name for hook in hooks if isinstance(hook, (WeightNorm, SpectralNorm))]
        kept = [name for name, value in vars(layer).items() if isinstance(value, Tensor) and not value.is_leaf]
        if hooked or kept:
            raise PruneError(
                f"Layer {owner or type(module).__name__} keeps {(hooked + kept)[0]}, the result of a computation, so "
                "the network cannot be copied. If it comes from torch.nn.utils.weight_norm or spectral_norm, remove it "
                "with torch.nn.utils.remove_weight_norm (remove_spectral_norm), or use "
                "torch.nn.utils.parametrizations.weight_norm (spectral_norm) instead."
            )


def _walk_also(walk: Interpreter, module: nn.Module, *calls: Call) -> None:
    """Add what the network does with the first call that can be traced; `verify` tells what is not seen here."""
    costs = list(walk.costs)
    for call in calls:
        try:
            program = _export(module, call)
        except PruneError:
            continue
        walk.tracing, walk.training = False, call.training
        walk.run(program)
        walk.costs = costs  # counted on the example alone
        return


def _first_names(module: nn.Module) -> dict[str, str]:
    """Map every name of a parameter or buffer to the first name of the same tensor."""
    first: dict[int, str] = {}
    names: dict[str, str] = {}
    for name, tensor in (
        *module.named_parameters(remove_duplicate=False),
        *module.named_buffers(remove_duplicate=False),
    ):
        names[name] = first.setdefault(id(tensor), name)
    return names


def _unseen(walk: Interpreter, module: nn.Module) -> tuple[str, ...]:
    return tuple(name for name, _ in module.named_parameters() if name not in walk.used)


def _export(module: nn.Module, call: Call) -> torch.export.ExportedProgram:
    modes = [(child, child.training) for child in module.modules()]
    set_mode(module, training=call.training)
    try:
        # With gradients on: without them torch takes fused inference paths that hide the layers.
        # Under one seed, since numbers that Python draws stand in the graph, and graphs are compared.
        with warnings.catch_warnings(), torch.enable_grad(), drawing_from(_SEED):
            warnings.simplefilter("ignore")  # the exporter warns about its own internals
            return torch.export.export(module, call.args, strict=False)
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise PruneError(
            f"torch.export cannot trace {type(module).__name__}: {reason[0] if reason else type(error).__name__}. "
            "Remove control flow that depends on the data, or prune the part of the network that can be traced."
        ) from error
    finally:
        for child, was_training in modes:
            child.training = was_training


def _coupling(walk: Interpreter, module: nn.Module) -> Coupling:
    _data_slots(walk)
    labels = walk.space.labels()
    slots = tuple(Slot(s.parameter, s.dim, s.role, labels[s.ids.numpy()]) for s in walk.slots.values())
    _freeze_unmade(walk, slots)
    frozen = walk.space.frozen_labels()
    return Coupling(
        groups=_groups(slots, frozen),
        slots=slots,
        costs=tuple(Cost(c.layer, c.positions, tuple(labels[d.numpy()] for d in c.dims)) for c in walk.costs),
        grouped=tuple(
            GroupedLayer(one.layer, one.groups, labels[one.ids.numpy()], _keeps_groups(module, one.layer, one.groups))
            for one in walk.grouped.values()
        ),
        shapes={name: tuple(parameter.shape) for name, parameter in module.named_parameters()},
        label_count=walk.space.count,
        unseen=_unseen(walk, module),
        assumptions={
            name: tuple(sorted({int(labels[i]) for t in tensors for i in t.tolist() if i > 1}))
            for name, tensors in walk.assumptions.items()
        },
    )


def _keeps_groups(module: nn.Module, name: str, groups: int) -> bool:
    """Tell whether a module keeps the number of its groups; otherwise the user's code computes it."""
    try:
        layer: Any = module.get_submodule(name)
    except AttributeError:  # a slice of a Sequential has a name in the graph, and is no module of the network
        return False
    kept = getattr(layer, "num_groups" if isinstance(layer, nn.GroupNorm) else "groups", None)
    return isinstance(layer, GROUPED) and kept == groups


def _data_slots(walk: Interpreter) -> None:
    """Find the dimension of each learnt tensor that follows channels; freeze what follows none or two."""
    labels = torch.from_numpy(walk.space.labels()).to(torch.int32)
    sizes = torch.bincount(labels.long())
    for name, ids in walk.data.items():
        roots = labels[ids.long()]
        if not bool((sizes[roots.long()] > 1).any()):
            continue
        roots = compress(roots)
        dims = [d for d in range(roots.dim()) if varies(roots, d)]
        if len(dims) == 1:
            walk.slot(
                Weight(name, tuple(ids.shape)),
                dims[0],
                "data",
                ids.movedim(dims[0], 0).reshape(ids.shape[dims[0]], -1)[:, 0],
            )
        else:
            walk.space.freeze(ids, f"meets {name}, which does not follow channels along one dimension")


def _freeze_unmade(walk: Interpreter, slots: tuple[Slot, ...]) -> None:
    """Freeze labels that no layer makes: there is nothing to cut."""
    made, used = (_union([slot.labels for slot in some]) for some in ([s for s in slots if s.role == "out"], slots))
    for label in np.setdiff1d(used, made).tolist():
        if label > DRAWN:
            walk.space.reasons.setdefault(label, "is made by no layer that can be cut")


def _union(labels: Sequence[IntArray]) -> IntArray:
    return np.unique(np.concatenate([np.empty(0, np.int64), *labels]))


def _groups(slots: tuple[Slot, ...], frozen: dict[int, str]) -> tuple[Group, ...]:
    """Gather channels that lie in the same slots: together they are one group."""
    signatures: dict[int, list[int]] = {}
    for number, slot in enumerate(slots):
        for label in slot.labels.tolist():
            signatures.setdefault(label, []).append(number)
    making = {number for number, slot in enumerate(slots) if slot.role == "out"}
    gathered: dict[tuple[object, ...], list[int]] = {}
    for label, signature in signatures.items():
        if label > DRAWN and not making.isdisjoint(signature):
            gathered.setdefault((*signature, frozen.get(label)), []).append(label)
    names: dict[str, int] = {}
    return tuple(_group(key, units, slots, names) for key, units in gathered.items())


def _group(key: tuple[object, ...], units: list[int], slots: tuple[Slot, ...], names: dict[str, int]) -> Group:
    *signature, reason = key
    members = tuple(slots[n] for n in dict.fromkeys(signature))  # type: ignore[index]
    first = next(slot for slot in members if slot.role == "out")
    base = layer_of(first.parameter) or first.parameter
    names[base] = names.get(base, 0) + 1
    name = base if names[base] == 1 else f"{base}#{names[base]}"
    return Group(name, np.asarray(units, dtype=np.int64), members, reason)  # type: ignore[arg-type]
