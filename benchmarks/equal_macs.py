"""A latency target that leaves a wanted share of the MACs: what it is worth is then the difference in time alone."""

from collections.abc import Callable

from prunekit.pruning.coupling import Coupling

Keep = dict[str, list[int]]
BISECTIONS = 9


def at_share_of_macs(coupling: Coupling, dense_ms: float, share: float, choose: Callable[[float], Keep]) -> Keep:
    """Bisect the latency asked for; of all plans on the way return the one nearest to the share of the MACs.

    Args:
        coupling: of the dense network.
        dense_ms: its latency by the table that `choose` allocates by.
        share: of the MACs that shall be kept.
        choose: the kept units for a latency [ms].
    """
    low, high = 0.5 * share, min(1.0, 2.0 * share)
    found: list[tuple[float, Keep]] = []
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        keep = choose(middle * dense_ms)
        left = coupling.macs(keep) / coupling.macs()
        found.append((abs(left - share), keep))
        low, high = (middle, high) if left < share else (low, middle)
    return min(found, key=lambda pair: pair[0])[1]
