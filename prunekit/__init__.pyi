# What type checkers and editors see of `prunekit`; `__init__.py` finds the same names when they are first used.
# It is a stub, and no block for type checkers in `__init__.py`, because `export` lies in a package above this one:
# nothing in the library imports from there, and import-linter holds that of every import statement.

from prunekit.errors import PrunekitError as PrunekitError
from prunekit.models.segmenter import Segmenter as Segmenter
from prunekit.pruning.coupling import Coupling as Coupling
from prunekit.pruning.coupling import Group as Group
from prunekit.pruning.criteria import CRITERIA as CRITERIA
from prunekit.pruning.criteria import Criterion as Criterion
from prunekit.pruning.criteria import Ranked as Ranked
from prunekit.pruning.criteria import Scored as Scored
from prunekit.pruning.evidence import Evidence as Evidence
from prunekit.pruning.evidence import Ranking as Ranking
from prunekit.pruning.surgery import Plan as Plan
from prunekit.workflows.library.loading import LoadedSegmenter as LoadedSegmenter
from prunekit.workflows.library.loading import load as load
from prunekit.workflows.library.progress import Progress as Progress
from prunekit.workflows.library.progress import ProgressLine as ProgressLine
from prunekit.workflows.library.prune import prune as prune
from prunekit.workflows.library.report import ModuleReport as ModuleReport
from prunekit.workflows.library.scores import Scores as Scores
from prunekit.workflows.library.subject import analyse as analyse
from prunekit_export.latency import open_meter as open_meter
from prunekit_export.library import evaluate as evaluate
from prunekit_export.library import export as export
from prunekit_export.library import predict as predict
from prunekit_runtime.preprocessing import Preprocessing as Preprocessing

__version__: str
