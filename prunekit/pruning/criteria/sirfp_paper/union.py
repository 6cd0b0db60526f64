"""From the scores of batch norms to the levels of units: what several members of a group say together.

Shapes: C channels of one batch norm, U units of one group.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from prunekit.pruning.arrays import FloatArray
from prunekit.pruning.coupling import Group
from prunekit.pruning.criteria.sirfp_paper.members import Members
from prunekit.pruning.criteria.sirfp_paper.threshold import Scored, Threshold


class Combination(Protocol):
    """How a group decides where its members disagree."""

    def __call__(
        self, members: Members, scores: Mapping[str, FloatArray], threshold: Threshold
    ) -> dict[str, FloatArray]:
        """Return level_U of every group that may be cut, by its name."""
        ...


class UnionOverMembers:
    """A unit stays as long as one member keeps it: the mask of a group is the union of its members' masks.

    In levels that is the maximum. Source: sirfp.md 1.2 f, a reading of the official code.
    """

    def __call__(
        self, members: Members, scores: Mapping[str, FloatArray], threshold: Threshold
    ) -> dict[str, FloatArray]:
        """Return level_U of every group that may be cut, by its name."""
        levels = threshold([Scored(scores[layer.name], layer.encoder) for layer in members.layers])
        by_label = _gather(members, levels, np.maximum, -np.inf)
        return {group.name: by_label[group.units] for group in members.groups}


class GroupScore:
    """Members are averaged to one score a unit before anything is ranked, so a group counts once.

    To be put in place of `UnionOverMembers`, which keeps nearly all of a long residual stream (sirfp.md 1.4, item 9).
    A group lies in the encoder if a member does.
    """

    def __call__(
        self, members: Members, scores: Mapping[str, FloatArray], threshold: Threshold
    ) -> dict[str, FloatArray]:
        """Return level_U of every group that may be cut, by its name."""
        values = [scores[layer.name] for layer in members.layers]
        total = _gather(members, values, np.add, 0.0)
        count = _gather(members, [np.ones_like(value) for value in values], np.add, 0.0)
        encoder = _gather(members, [np.full(len(value), float(_in(members, i))) for i, value in enumerate(values)])
        rows = [_row(group, total, count, encoder) for group in members.groups]
        return {group.name: level_U for group, level_U in zip(members.groups, threshold(rows), strict=True)}


def _in(members: Members, layer: int) -> bool:
    return members.layers[layer].encoder


def _row(group: Group, total: FloatArray, count: FloatArray, encoder: FloatArray) -> Scored:
    return Scored(total[group.units] / count[group.units], bool(encoder[group.units].max() > 0))


def _gather(
    members: Members, values: list[FloatArray], combine: np.ufunc = np.maximum, start: float = -np.inf
) -> FloatArray:
    """Return one value per label, combined over all channels with that label."""
    size = 1 + max(int(label) for layer in members.layers for label in layer.labels_C)
    size = max(size, *(1 + int(group.units.max()) for group in members.groups))
    result = np.full(size, start)
    for layer, value_C in zip(members.layers, values, strict=True):
        combine.at(result, layer.labels_C, value_C)
    return result
