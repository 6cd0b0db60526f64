"""The maximum-edge-weight clique (SIRFP, arXiv 2412.12672): which channels repeat each other least.

Every solver takes a symmetric redundancy matrix, on the CPU or a GPU, and how many channels to keep, and returns their
sorted indices on the same device. Signs and the diagonal are ignored (`clique.matrix` says why).
"""

from collections.abc import Callable, Mapping

from torch import Tensor

from prunekit.pruning.clique.batched import greedy_orders as greedy_orders
from prunekit.pruning.clique.controls import degree as degree
from prunekit.pruning.clique.controls import random_subset as random_subset
from prunekit.pruning.clique.exact import Solution as Solution
from prunekit.pruning.clique.exact import exact as exact
from prunekit.pruning.clique.exact import solve_exactly as solve_exactly
from prunekit.pruning.clique.greedy import Removal as Removal
from prunekit.pruning.clique.greedy import greedy as greedy
from prunekit.pruning.clique.greedy import greedy_order as greedy_order
from prunekit.pruning.clique.greedy import greedy_removal as greedy_removal
from prunekit.pruning.clique.matrix import objective as objective
from prunekit.pruning.clique.swaps import greedy_with_swaps as greedy_with_swaps
from prunekit.pruning.clique.swaps import improved_by_swaps as improved_by_swaps

Solver = Callable[[Tensor, int], Tensor]
"""(redundancy_CC, keep) -> sorted kept indices, int64."""

SOLVERS: Mapping[str, Solver] = {
    "greedy": greedy,
    "greedy-swaps": greedy_with_swaps,
    "exact": exact,
    "degree": degree,
    "random": random_subset,
}
