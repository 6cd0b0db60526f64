"""What the rules see of a walk: the current op, ids of its operands, and what they record."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Node

from prunekit.errors import PruneError
from prunekit.pruning.analysis.walk.arguments import bound
from prunekit.pruning.analysis.walk.constants import Constants
from prunekit.pruning.analysis.walk.graph import op_name
from prunekit.pruning.analysis.walk.ids import NONE, IdSpace, compress, fixed, sizes, varies, without_repeats
from prunekit.pruning.analysis.walk.part_rules import PART_RULES
from prunekit.pruning.analysis.walk.parts import Derivation
from prunekit.pruning.analysis.walk.values import Computed, RawCost, RawGroups, RawSlot, Rule, Source, Weight
from prunekit.pruning.analysis.walk.zeros import Zeros

# Element ids of a learnt tensor larger than this would cost more memory than the network itself.
MAX_DATA_ELEMENTS = 1 << 23


@dataclass
class Context(ABC):
    """The current op of a walk, and everything recorded on the way."""

    rules: dict[str, Rule]
    names: Mapping[str, str] = field(default_factory=dict)
    """First name of each tied parameter and buffer, by each of its names."""
    space: IdSpace = field(default_factory=IdSpace)
    slots: dict[tuple[str, int], RawSlot] = field(default_factory=dict)
    data: dict[str, Tensor] = field(default_factory=dict)
    costs: list[RawCost] = field(default_factory=list)
    grouped: dict[tuple[str, str], RawGroups] = field(default_factory=dict)
    """Convolutions and norms with groups, by the name of a module that may keep their number and of what they read."""
    assumptions: dict[str, list[Tensor]] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    """Parameters and buffers that some op reads."""
    constants: Constants = field(default_factory=Constants)
    zeros: Zeros = field(default_factory=Zeros)
    node: Node | None = None

    def __post_init__(self) -> None:
        self.derivation = Derivation(self.space, PART_RULES)

    @abstractmethod
    def computed_ids(self, value: Computed) -> Tensor:
        """Return the ids of a tensor computed of weights, which is used as data."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the current op's (first) output."""
        assert self.node is not None
        value = self.node.meta["val"]
        return sizes(value[0] if isinstance(value, (tuple, list)) else value)

    @property
    def op(self) -> str:
        """Name of the current op, without its overload."""
        assert self.node is not None
        return op_name(self.node)

    def bound(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the arguments of the current op by name, defaults included."""
        assert self.node is not None
        return bound(self.node.target, args, kwargs)

    def like_output(self, ids: Tensor) -> object:
        """Return `ids` once for each output of the current op: values and their indices belong to the same channels."""
        assert self.node is not None
        value = self.node.meta["val"]
        return tuple(ids for _ in value) if isinstance(value, (tuple, list)) else ids

    @property
    def layer(self) -> str:
        """Name of the module that the current op belongs to, as the user's code calls it."""
        assert self.node is not None
        stack = list((self.node.meta.get("nn_module_stack") or {}).values())
        return str(stack[-1][0]) if stack else self.node.name

    def ids_of(self, value: object) -> Tensor:
        """Return the id tensor of an operand; a weight used as data gets an id per element."""
        if isinstance(value, Tensor):
            return value
        if isinstance(value, Computed):
            return self.computed_ids(value)
        if not isinstance(value, Weight):
            raise PruneError(f"The analysis met {type(value).__name__} where a tensor was due, in {self.node}.")
        if value.name not in self.data:
            small = int(np.prod(value.shape)) <= MAX_DATA_ELEMENTS
            self.data[value.name] = self.space.fresh(value.shape) if small else fixed(value.shape)
        return self.data[value.name]

    def slot(self, weight: Weight | Computed, dim: int, role: str, ids: Tensor) -> Tensor:
        """Record that `dim` of `weight` runs along `ids`, tie it to earlier uses, return the ids to go on with."""
        ids = ids.reshape(-1)
        if isinstance(weight, Computed):
            return self._computed_slot(weight, dim, role, ids)
        known = self.slots.get((weight.name, dim))
        if known is None:
            self.slots[weight.name, dim] = RawSlot(weight.name, dim, role, ids)
            return ids
        self.space.unite(known.ids, ids)
        return known.ids

    def _computed_slot(self, weight: Computed, dim: int, role: str, ids: Tensor) -> Tensor:
        found = self.derivation.of(weight)
        along = [part for part in found.parts if varies(part.ids, dim)]
        if not along:
            self.space.freeze(ids, found.stuck)
        for part in along:
            if any(varies(part.ids, d) for d in range(part.ids.dim()) if d != dim):
                self.space.freeze(part.ids, found.stuck)
                self.space.freeze(ids, found.stuck)
                continue
            self.space.unite(without_repeats(part.ids, keep=dim).reshape(-1), ids)
            if not part.vanishes:
                self.space.freeze(ids, "feeds a layer whose computed weight is not zero where its parameters are")
            for source in sorted(part.sources):
                self._source_slot(source, role)
        for source in sorted(self.derivation.followers):
            self._source_slot(source, "norm")
        return ids

    def _source_slot(self, source: Source, role: str) -> None:
        name, dim = source
        shape, ids = self.derivation.shapes[name], self.derivation.sources[source]
        self.slot(Weight(name, shape), dim, "norm" if math.prod(shape) == len(ids) else role, ids)

    def assume(self, ids: Tensor) -> None:
        """Record that the current op relies on sizes that the user's code must compute, not write as constants."""
        assert self.node is not None
        self.assumptions.setdefault(f"{self.layer}: {op_name(self.node)}", []).append(without_repeats(ids).reshape(-1))

    def channels(self, ids: Tensor, dim: int) -> Tensor:
        """Return one id per position of `dim`, tying all ids that stand at that position."""
        dim %= ids.dim()
        core = without_repeats(ids.movedim(dim, 0), keep=0)
        rows = core.reshape(core.shape[0], -1)
        if rows.shape[1] == 1:
            return rows[:, 0]
        top = rows.max(dim=1, keepdim=True).values
        self.space.unite(top.expand_as(rows), rows)
        mixed = (rows == NONE) & (top != NONE)
        if bool(mixed.any()):
            self.space.freeze(top[mixed.any(dim=1)], "shares a channel with values made by size")
        return top[:, 0]

    def resolved(self, ids: Tensor) -> Tensor:
        """Return `ids` with what is tied by now written alike, so that a tied dimension no longer varies."""
        if sum(varies(ids, dim) for dim in range(ids.dim())) < 2:
            return ids
        labels = torch.from_numpy(self.space.labels()).to(torch.int32)
        core = without_repeats(ids)
        return compress(compress(labels[core.long()]).expand(ids.shape))

    def settle(self, ids: Tensor, spatial: int) -> Tensor:
        """Tie ids over the last `spatial` dimensions and return them with length 1 there."""
        lead = ids.shape[: ids.dim() - spatial]
        core = ids
        for dim in range(ids.dim() - spatial, ids.dim()):
            if not varies(core, dim):
                core = core.narrow(dim, 0, 1)
        flat = core.reshape(*lead, -1)
        top = flat.max(dim=-1, keepdim=True).values if flat.shape[-1] > 1 else flat
        self.space.unite(top.expand_as(flat), flat)
        return compress(top.reshape(*lead, *([1] * spatial)))
