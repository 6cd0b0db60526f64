"""What criteria may look at: the network, its coupling, and labelled batches. Each statistic is collected once."""

from functools import cached_property

from prunekit.pruning.evidence.gates import Gates, gate_gradients
from prunekit.pruning.evidence.judged import Judged
from prunekit.pruning.evidence.statistics import Statistics, collect


class Evidence(Judged):
    """A trained network, the data to judge its channels by, and what was collected of both."""

    @cached_property
    def statistics(self) -> Statistics:
        """Second moments of what the consumers of each group see."""
        return collect(self.network, self.coupling, self.batches(), seed=self.seed, forward=self.run)

    @cached_property
    def gates(self) -> dict[str, Gates]:
        """Gate gradients of each group, sample by sample."""
        return gate_gradients(self)
