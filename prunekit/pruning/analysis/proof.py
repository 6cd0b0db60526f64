"""Is a plan safe for this network? Exactness wherever its code may go, and the cut network analysed again."""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import nn

from prunekit.equality.compare import outputs
from prunekit.errors import PruneError
from prunekit.pruning.analysis.analysis import analyse
from prunekit.pruning.analysis.elsewhere import elsewhere
from prunekit.pruning.analysis.trial import Call, check_path
from prunekit.pruning.analysis.walk.ids import FIXED, NONE
from prunekit.pruning.arrays import IntArray
from prunekit.pruning.coupling import Coupling
from prunekit.pruning.surgery import Plan, check_exact, pruned


def verify(module: nn.Module, plan: Plan, coupling: Coupling, example_inputs: tuple[Any, ...]) -> float:
    """Prove a plan on copies and return its exactness, the worst of several sizes.

    Args:
        module: the dense network; stays as it is.
        plan: made from `coupling`.
        coupling: the analysis of `module`.
        example_inputs: positional arguments. Images are tried in pairs, at half the size, larger by 32 px and in
            training mode too, where the network takes that.

    Raises:
        PruneError: the cut network is not exact, or couples its channels differently from the dense one.
    """
    check_path(module, plan, example_inputs)
    error = check_exact(module, plan, example_inputs)
    for calls in elsewhere(example_inputs):
        call = next((call for call in calls if _takes(module, call)), None)
        if call is not None:
            error = max(error, check_exact(module, plan, call.args, training=call.training))
    _check_structure(coupling, plan, analyse(pruned(module, plan), example_inputs))
    return error


def _takes(module: nn.Module, call: Call) -> bool:
    """Tell whether the dense network runs there; many are made for one size only, or want labels in training."""
    try:
        given = outputs(copy.deepcopy(module), call.args, training=call.training)
    except Exception:  # whatever the user's code does where it was not written for
        return False
    return all(bool(leaf.isfinite().all()) for leaf in given)


def _check_structure(coupling: Coupling, plan: Plan, again: Coupling) -> None:
    """Compare slot by slot: channels that went together still do, and those that did not still do not."""
    kept = {(row.parameter, row.dim): np.asarray(row.keep) for row in plan.slices}
    before = {(slot.parameter, slot.dim): slot.labels for slot in coupling.slots}
    cut = {key: labels[kept[key]] if key in kept else labels for key, labels in before.items()}
    after = {(slot.parameter, slot.dim): slot.labels for slot in again.slots}
    compared = _comparable(coupling, cut)
    stuck = {NONE, FIXED, *(int(label) for group in again.groups if group.frozen for label in group.units)}
    forward: dict[int, int] = {}
    for key, labels in cut.items():
        if key not in after and (len(labels) == 1 or _is_stuck(key[0], after, stuck)):
            continue  # one slope of a PReLU is one for all channels
        if key not in after or len(after[key]) != len(labels):
            raise PruneError(_DIFFERS.format(key[0]))
        for old, new in zip(labels.tolist(), after[key].tolist(), strict=True):
            if old in compared and new not in stuck and forward.setdefault(old, new) != new:
                raise PruneError(_DIFFERS.format(key[0]))
    if len(set(forward.values())) != len(forward):
        raise PruneError(_DIFFERS.format("its channels"))


def _is_stuck(parameter: str, after: Mapping[tuple[str, int], IntArray], stuck: set[int]) -> bool:
    """Tell whether the second analysis froze all that it has of a parameter, and so need not list the other dims."""
    left = [label for (name, _), labels in after.items() if name == parameter for label in labels.tolist()]
    return bool(left) and stuck.issuperset(left)


def _comparable(coupling: Coupling, cut: Mapping[tuple[str, int], IntArray]) -> set[int]:
    """Return the labels of groups that keep several channels.

    A single one looks like a constant, and a depthwise convolution of one channel like a plain one: of those the second
    analysis says less, or something else that is true as well.
    """
    left = {int(label) for labels in cut.values() for label in labels}
    groups = [[int(label) for label in group.units if int(label) in left] for group in coupling.free]
    return {label for labels in groups if len(labels) > 1 for label in labels}


_DIFFERS = (
    "The cut network couples {} differently from the dense one: it picks channels by positions written in its code. "
    "Nothing was changed. Please report the network's code."
)
