"""Criteria: which units of a group go first, and at what price.

One file each; `registry.py` has them by name.
"""

from prunekit.pruning.criteria.criterion import DATA as DATA
from prunekit.pruning.criteria.criterion import Criterion as Criterion
from prunekit.pruning.criteria.criterion import Ranked as Ranked
from prunekit.pruning.criteria.criterion import Scored as Scored
from prunekit.pruning.criteria.registry import CRITERIA as CRITERIA
from prunekit.pruning.criteria.registry import criterion_named as criterion_named
from prunekit.pruning.criteria.registry import is_foreign as is_foreign
from prunekit.pruning.criteria.sirfp_paper.folding import FoldReport as FoldReport
