"""Prices of even shares: what a group loses costs more the more of it is gone, and as many MACs as it stands for.

Minimising them is weighted least squares on the shares that go, with MACs for weights. Where the target counts MACs,
that makes nearly equal shares; where it counts milliseconds, layers give more the longer they take for their MACs.
prunekit's own rule, no paper's.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from prunekit.pruning.allocation.costs import MacsCost
from prunekit.pruning.coupling import Coupling

if TYPE_CHECKING:
    from prunekit.pruning.evidence import Ranking, Rankings


def even_prices(coupling: Coupling, rankings: "Rankings") -> "dict[str, Ranking]":
    """Return the same orders with prices that rise evenly, the last unit's what the first one saves in MACs."""
    cost = MacsCost(coupling, {name: ranking.order_U for name, ranking in rankings.items()})
    dense = cost.total({})
    priced: dict[str, Ranking] = {}
    for group in coupling.free:
        saved = dense - cost.total({group.name: max(1, group.width - 1)})
        rising_U = np.arange(1, group.width + 1) / group.width
        # A MAC at least: what only training uses saves none, and prices of 0 would leave the search no order.
        priced[group.name] = replace(rankings[group.name], price_U=max(1.0, saved) * rising_U)
    return priced
