"""What an analysis found: groups of channels that go together, and the tensors they run along.

Everything else in pruning stands on this; it looks at no graph and changes nothing.
"""

from prunekit.pruning.coupling.groups import Cost as Cost
from prunekit.pruning.coupling.groups import Coupling as Coupling
from prunekit.pruning.coupling.groups import Flags as Flags
from prunekit.pruning.coupling.groups import Group as Group
from prunekit.pruning.coupling.groups import GroupedLayer as GroupedLayer
from prunekit.pruning.coupling.groups import Slot as Slot
from prunekit.pruning.coupling.groups import layer_of as layer_of
from prunekit.pruning.coupling.members import Member as Member
from prunekit.pruning.coupling.members import gathered as gathered
from prunekit.pruning.coupling.members import is_inside as is_inside
from prunekit.pruning.coupling.members import is_weight as is_weight
from prunekit.pruning.coupling.members import kernel_overlap as kernel_overlap
from prunekit.pruning.coupling.members import makers as makers
from prunekit.pruning.coupling.members import readers as readers
from prunekit.pruning.coupling.members import scale_members as scale_members
from prunekit.pruning.coupling.members import scales as scales
from prunekit.pruning.coupling.members import tensor_of as tensor_of
from prunekit.pruning.coupling.members import unit_index as unit_index
from prunekit.pruning.coupling.members import unit_sums as unit_sums
from prunekit.pruning.coupling.members import weight_users as weight_users
