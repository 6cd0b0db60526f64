"""How many channels each group keeps, so that a cost is met.

Rankings and a target become widths without a forward pass; cost models are its only idea of a network.
"""

from prunekit.pruning.allocation.allocator import POLICIES as POLICIES
from prunekit.pruning.allocation.allocator import Allocation as Allocation
from prunekit.pruning.allocation.allocator import PolicyName as PolicyName
from prunekit.pruning.allocation.allocator import allocate as allocate
from prunekit.pruning.allocation.allocator import cost_model as cost_model
from prunekit.pruning.allocation.costs import CostModel as CostModel
from prunekit.pruning.allocation.costs import LatencyCost as LatencyCost
from prunekit.pruning.allocation.costs import LayerTable as LayerTable
from prunekit.pruning.allocation.costs import MacsCost as MacsCost
from prunekit.pruning.allocation.costs import ParamsCost as ParamsCost
from prunekit.pruning.allocation.enumeration import best_around as best_around
from prunekit.pruning.allocation.grid import Grid as Grid
from prunekit.pruning.allocation.padding import PaddingWaste as PaddingWaste
from prunekit.pruning.allocation.padding import padding_waste as padding_waste
from prunekit.pruning.allocation.reach import check_reach as check_reach
from prunekit.pruning.allocation.reach import least_cost as least_cost
from prunekit.pruning.allocation.search import Harm as Harm
from prunekit.pruning.allocation.search import Problem as Problem
from prunekit.pruning.allocation.search import approach as approach
from prunekit.pruning.allocation.targets import TOLERANCE as TOLERANCE
from prunekit.pruning.allocation.targets import Target as Target
from prunekit.pruning.allocation.uniform import arbitrary_plan as arbitrary_plan
from prunekit.pruning.allocation.uniform import uniform_keep as uniform_keep
from prunekit.pruning.allocation.uniform import uniform_plan as uniform_plan
