"""The pruning plan: which positions of which parameters are kept. Plain JSON, applied without an analysis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from prunekit.errors import PruneError
from prunekit.pruning.coupling import Coupling


@dataclass(frozen=True)
class Slice:
    """Keep the positions `keep` of dimension `dim`, `width` long before, of a parameter or buffer."""

    parameter: str
    dim: int
    width: int
    keep: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """A pruning plan for one network."""

    slices: tuple[Slice, ...]
    groups: Mapping[str, int]
    """New number of groups of each grouped convolution or norm that loses some."""

    def then(self, following: "Plan") -> "Plan":
        """Return the plan that does this one and then `following`, in positions of the first network."""
        first = {(s.parameter, s.dim): s for s in self.slices}
        second = {(s.parameter, s.dim): s for s in following.slices}
        slices: list[Slice] = []
        for key in dict.fromkeys([*first, *second]):
            before, after = first.get(key), second.get(key)
            if before is None or after is None:
                slices.append(cast(Slice, before or after))
            else:
                kept = tuple(before.keep[position] for position in after.keep)
                slices.append(Slice(before.parameter, before.dim, before.width, kept))
        return Plan(tuple(slices), {**self.groups, **following.groups})

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON values."""
        rows = [{"parameter": s.parameter, "dim": s.dim, "width": s.width, "keep": list(s.keep)} for s in self.slices]
        return {"format": 1, "slices": rows, "groups": dict(self.groups)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Plan":
        """Read a plan back.

        Raises:
            PruneError: a key is unknown, a value of the wrong kind, positions are not sorted and inside the width, or
                a dimension is cut twice.
        """
        from prunekit.pruning.surgery.plan_file import validated  # pydantic: a cut itself does without

        file = validated(values)
        return cls(tuple(Slice(r.parameter, r.dim, r.width, r.keep) for r in file.slices), dict(file.groups))


def make_plan(coupling: Coupling, keep: Mapping[str, Sequence[int]]) -> Plan:
    """Turn kept unit positions per group into a plan.

    Args:
        coupling: the analysis of the network.
        keep: for each group to prune, the positions of its units that stay; a group not named stays whole.

    Raises:
        PruneError: a group is unknown or frozen, or would lose all of its units.
    """
    known = {group.name: group for group in coupling.groups}
    for name, positions in keep.items():
        _check_group(name, positions, known)
    removed = coupling.removed(keep)
    slices: list[Slice] = []
    for slot in coupling.slots:
        gone = removed[slot.labels]
        if gone.any():
            kept = tuple(int(i) for i in (~gone).nonzero()[0])
            slices.append(Slice(slot.parameter, slot.dim, len(gone), kept))
    left = {g.layer: (g.remaining(removed), g.groups) for g in coupling.grouped if g.stored}
    groups = {layer: after for layer, (after, before) in left.items() if after != before}
    return Plan(tuple(slices), groups)


def _check_group(name: str, positions: Sequence[int], known: Mapping[str, Any]) -> None:
    if name not in known:
        raise PruneError(f"No channel group is called {name}. Known: {', '.join(known)}.")
    if known[name].frozen is not None and len(positions) != known[name].width:
        raise PruneError(f"Group {name} cannot be pruned: {known[name].frozen}.")
    if not len(positions):
        raise PruneError(f"Group {name} would lose all {known[name].width} channels. Keep at least one.")
