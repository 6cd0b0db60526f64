"""Find which channels go together: the network's graph is walked on channel ids, and cut copies are tried.

`walk` reads the graph, `rules` has one rule for each kind of op; `verify` proves a plan on the network at hand.
"""

from prunekit.pruning.analysis.analysis import analyse as analyse
from prunekit.pruning.analysis.proof import verify as verify
