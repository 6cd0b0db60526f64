"""SIRFP as published (arXiv 2412.12672 and its official code): one class per idea, so that each can be exchanged.

`SirfpPaper` puts them together. Facts come from a reading of the official code, `sirfp.md` in the references; what is
our choice says so.
"""

from prunekit.pruning.criteria.sirfp_paper.collector import BnOutputs as BnOutputs
from prunekit.pruning.criteria.sirfp_paper.folding import FoldReport as FoldReport
from prunekit.pruning.criteria.sirfp_paper.folding import GaussianRelu as GaussianRelu
from prunekit.pruning.criteria.sirfp_paper.folding import MeasuredMeans as MeasuredMeans
from prunekit.pruning.criteria.sirfp_paper.folding import ReluBeta as ReluBeta
from prunekit.pruning.criteria.sirfp_paper.folding import fold_means_ as fold_means_
from prunekit.pruning.criteria.sirfp_paper.gradient import GradientTerm as GradientTerm
from prunekit.pruning.criteria.sirfp_paper.measures import CosineRedundancy as CosineRedundancy
from prunekit.pruning.criteria.sirfp_paper.measures import L1Redundancy as L1Redundancy
from prunekit.pruning.criteria.sirfp_paper.measures import SobelEdge as SobelEdge
from prunekit.pruning.criteria.sirfp_paper.paper import SirfpPaper as SirfpPaper
from prunekit.pruning.criteria.sirfp_paper.score import DeletionDegree as DeletionDegree
from prunekit.pruning.criteria.sirfp_paper.second import SirfpV2 as SirfpV2
from prunekit.pruning.criteria.sirfp_paper.stages import StageSchedule as StageSchedule
from prunekit.pruning.criteria.sirfp_paper.threshold import GlobalThreshold as GlobalThreshold
from prunekit.pruning.criteria.sirfp_paper.union import GroupScore as GroupScore
from prunekit.pruning.criteria.sirfp_paper.union import UnionOverMembers as UnionOverMembers
