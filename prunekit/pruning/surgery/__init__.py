"""What is kept of which parameter (`Plan`), and the cutting itself; exactness of a cut network.

`compensate_` changes the weights that stay, so that consumers miss less of what went.
"""

from prunekit.pruning.surgery.compensation import compensate_ as compensate_
from prunekit.pruning.surgery.compensation import reestimate_norms_ as reestimate_norms_
from prunekit.pruning.surgery.cut import GROUPED as GROUPED
from prunekit.pruning.surgery.cut import check_exact as check_exact
from prunekit.pruning.surgery.cut import exactness as exactness
from prunekit.pruning.surgery.cut import masked as masked
from prunekit.pruning.surgery.cut import prune_ as prune_
from prunekit.pruning.surgery.cut import pruned as pruned
from prunekit.pruning.surgery.plan import Plan as Plan
from prunekit.pruning.surgery.plan import Slice as Slice
from prunekit.pruning.surgery.plan import make_plan as make_plan
from prunekit.pruning.surgery.rows import weight_rows as weight_rows
