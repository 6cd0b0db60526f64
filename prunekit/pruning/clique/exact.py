"""The exact solution for few channels: branch and bound, with a proof of optimality or the gap that is left.

Best-first search over partial choices (some channels kept, some removed). Every node gets a lower bound from a convex
relaxation (`clique.convex`); it is dropped once that reaches the best choice known, and else split on the channel that
the relaxation decides least. When no node is left, the best choice is optimal; when a limit ends the search, the
smallest open bound says how far it can be from the optimum.

The `mewc` folder of the official code holds a search that is not exact (its answer is always the last channels,
sirfp.md 1.2 h); nothing of it is followed here.

C channels; N nodes.
"""

import heapq
import time
from dataclasses import dataclass, field
from itertools import count

import numpy as np
import torch
from torch import Tensor

from prunekit.errors import PruneError
from prunekit.pruning.arrays import FloatArray
from prunekit.pruning.clique.convex import ChoiceArray, Relaxation, best_relaxation
from prunekit.pruning.clique.greedy import greedy
from prunekit.pruning.clique.matrix import check_keep, edges
from prunekit.pruning.clique.swaps import Mask, swap_until_best_

NODE_LIMIT = 200_000
_BATCH = 64
"""Nodes split at once: large enough that numpy's calls cost less than their arithmetic."""
_DESCENT_STEPS = 8
_STARTS = 16
_TOLERANCE = 1e-9
"""Two objectives closer than this share of the larger are equal: bounds are computed in float64."""


@dataclass(frozen=True)
class Solution:
    """The best choice found, and what is proven of it."""

    kept: Tensor
    """Sorted int64 indices, on the matrix's device."""
    objective: float
    """Sum of |redundancy| over the pairs of kept channels."""
    bound: float
    """No choice has a smaller objective than this."""
    gap: float
    """(objective - bound) / objective; 0 where the choice is proven optimal."""
    optimal: bool
    """Proven, to a billionth of the objective."""
    nodes: int
    """Subproblems that were bounded."""


def exact(redundancy_CC: Tensor, keep: int, *, node_limit: int = NODE_LIMIT) -> Tensor:
    """Return `keep` channels that are proven to repeat each other least.

    Args:
        redundancy_CC: symmetric redundancy on any device; the sign and the diagonal are ignored. The problem is
            NP-hard: independent random weights are proven up to some 40 channels in a second, the cosines of feature
            maps up to a hundred and more (benchmarks/clique_quality.py).
        keep: how many channels stay, in 1..C.
        node_limit: as in `solve_exactly`.

    Returns:
        Sorted int64 indices, on the matrix's device.

    Raises:
        PruneError: `keep` is not in 1..C, the matrix is not square, finite and symmetric, or there is no proof after
            `node_limit` nodes.
    """
    solution = solve_exactly(redundancy_CC, keep, node_limit=node_limit)
    if not solution.optimal:
        raise PruneError(
            f"No proof that {keep} of {len(redundancy_CC)} channels are the best after {solution.nodes} nodes: the gap "
            f"is {solution.gap:.2%}. Call solve_exactly with a larger node_limit, or use greedy_with_swaps."
        )
    return solution.kept


def solve_exactly(
    redundancy_CC: Tensor, keep: int, *, node_limit: int = NODE_LIMIT, time_limit_s: float | None = None
) -> Solution:
    """Search for the `keep` channels that repeat each other least, and prove it or say what gap is left.

    Args:
        redundancy_CC: symmetric redundancy on any device; the sign and the diagonal are ignored.
        keep: how many channels stay, in 1..C.
        node_limit: subproblems to bound at most, give or take one batch.
        time_limit_s: seconds to search at most; None sets no limit. With a limit the answer depends on the machine.

    Raises:
        PruneError: `keep` is not in 1..C, or the matrix is not square, finite and symmetric.
    """
    check_keep(redundancy_CC, keep)
    weights_CC = edges(redundancy_CC).without_diagonal()
    search = _Search(weights_CC, keep, _first_choice(redundancy_CC, weights_CC, keep))
    if 1 < keep < len(weights_CC) and search.objective > 0:
        deadline_s = np.inf if time_limit_s is None else time.monotonic() + time_limit_s
        search.start()
        while search.open and search.nodes < node_limit and time.monotonic() < deadline_s:
            search.step()
    bound = min(search.bound, search.objective)
    optimal = not search.open
    return Solution(
        kept=torch.from_numpy(search.kept_C.nonzero()[0]).to(redundancy_CC.device),
        objective=search.objective,
        bound=search.objective if optimal else bound,
        gap=0.0 if optimal else (search.objective - bound) / search.objective,
        optimal=optimal,
        nodes=search.nodes,
    )


def _first_choice(redundancy_CC: Tensor, weights_CC: FloatArray, keep: int) -> Mask:
    """Return the best of several local optima: the greedy one and some from random starts."""
    generator = np.random.default_rng(0)
    starts = [greedy(redundancy_CC, keep).cpu().numpy()]
    starts += [generator.permutation(len(weights_CC))[:keep] for _ in range(_STARTS)]
    choices: list[Mask] = []
    for start_K in starts:
        kept_C = np.zeros(len(weights_CC), dtype=bool)
        kept_C[start_K] = True
        swap_until_best_(weights_CC, kept_C)
        choices.append(kept_C)
    return min(choices, key=lambda kept_C: _objective(weights_CC, kept_C))


def _objective(weights_CC: FloatArray, kept_C: Mask) -> float:
    return float(weights_CC[np.ix_(kept_C, kept_C)].sum()) / 2


@dataclass(order=True, frozen=True)
class _Node:
    """A subproblem that may hold a better choice, and where its relaxation is least."""

    bound: float
    number: int  # of equal bounds the older node goes first: the search is the same every time
    x_C: FloatArray = field(compare=False)
    low_C: ChoiceArray = field(compare=False)
    high_C: ChoiceArray = field(compare=False)


class _Search:
    """Open nodes and the best choice so far."""

    def __init__(self, weights_CC: FloatArray, keep: int, kept_C: Mask) -> None:
        self.kept_C, self.objective = kept_C, _objective(weights_CC, kept_C)
        self.open: list[_Node] = []
        self.nodes = 0
        self._weights_CC, self._keep = weights_CC, keep
        self._numbers = count()
        self._relaxation: Relaxation | None = None

    @property
    def bound(self) -> float:
        """The smallest bound of an open node: no choice is below both it and the best one known."""
        return self.open[0].bound if self.open else self.objective

    def start(self) -> None:
        """Bound the whole problem."""
        self._relaxation = best_relaxation(self._weights_CC, self._keep)
        low_1C = np.zeros((1, len(self.kept_C)), dtype=bool)
        x_1C = np.full(low_1C.shape, self._keep / len(self.kept_C))
        self._add(x_1C, low_1C, ~low_1C, np.zeros(1), steps=10 * _DESCENT_STEPS)

    def step(self) -> None:
        """Split the most promising nodes."""
        nodes = [heapq.heappop(self.open) for _ in range(min(_BATCH, len(self.open)))]
        x_NC = np.stack([node.x_C for node in nodes])
        low_NC, high_NC = np.stack([node.low_C for node in nodes]), np.stack([node.high_C for node in nodes])
        rows_N = np.arange(len(nodes))
        undecided_NC = np.where(low_NC | ~high_NC, np.inf, np.abs(x_NC - 0.5))
        split_N = undecided_NC.argmin(axis=1)
        with_NC, without_NC = low_NC.copy(), high_NC.copy()
        with_NC[rows_N, split_N], without_NC[rows_N, split_N] = True, False
        low_NC, high_NC = np.concatenate([with_NC, low_NC]), np.concatenate([high_NC, without_NC])
        bound_N = np.tile([node.bound for node in nodes], 2)
        possible_N = (low_NC.sum(axis=1) <= self._keep) & (high_NC.sum(axis=1) >= self._keep)
        x_NC = np.tile(x_NC, (2, 1))
        self._add(x_NC[possible_N], low_NC[possible_N], high_NC[possible_N], bound_N[possible_N], _DESCENT_STEPS)

    def _add(
        self, x_NC: FloatArray, low_NC: ChoiceArray, high_NC: ChoiceArray, parent_N: FloatArray, steps: int
    ) -> None:
        """Bound nodes, learn from the choices they suggest, and keep open those that may hold a better one.

        A node without free channels, or without a choice left, suggests its only choice: it is never kept open.
        """
        assert self._relaxation is not None, "start() comes first"
        self.nodes += len(x_NC)
        found = self._relaxation.bounds(x_NC, low_NC, high_NC, steps)
        self._learn(found.rounded_NC)
        bound_N = np.maximum(found.bound_N, parent_N)
        decided_N = (low_NC.sum(axis=1) == self._keep) | (high_NC.sum(axis=1) == self._keep)
        for row in np.flatnonzero((bound_N < self.objective * (1 - _TOLERANCE)) & ~decided_N):
            heapq.heappush(
                self.open, _Node(float(bound_N[row]), next(self._numbers), found.x_NC[row], low_NC[row], high_NC[row])
            )
        while self.open and self.open[0].bound >= self.objective * (1 - _TOLERANCE):
            self.open.clear()  # the smallest bound is no better than the best choice: nor is any other

    def _learn(self, choice_NC: ChoiceArray) -> None:
        values_N = ((choice_NC @ self._weights_CC) * choice_NC).sum(axis=1) / 2
        best = int(values_N.argmin())
        if values_N[best] < self.objective * (1 - _TOLERANCE):
            self.kept_C = choice_NC[best].copy()
            swap_until_best_(self._weights_CC, self.kept_C)
            self.objective = _objective(self._weights_CC, self.kept_C)
