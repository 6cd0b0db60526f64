"""Channel pruning of any network: coupling analysis, redundancy, clique, plan, surgery.

coupling = analyse(module, (images_B3HW,))
plan = uniform_plan(coupling, ratio=0.5, scores=scores)
smaller = pruned(module, plan)
"""

from prunekit.pruning.allocation import arbitrary_plan as arbitrary_plan
from prunekit.pruning.allocation import uniform_plan as uniform_plan
from prunekit.pruning.analysis import analyse as analyse
from prunekit.pruning.analysis import verify as verify
from prunekit.pruning.coupling import Coupling as Coupling
from prunekit.pruning.coupling import Group as Group
from prunekit.pruning.surgery import Plan as Plan
from prunekit.pruning.surgery import exactness as exactness
from prunekit.pruning.surgery import masked as masked
from prunekit.pruning.surgery import prune_ as prune_
from prunekit.pruning.surgery import pruned as pruned
