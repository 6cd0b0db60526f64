"""What a pruning did: the record it resumes from, and the report that people read.

`stage` is one stage, `whole` all of them, `files` writes and reads `prune.json`.
"""

from prunekit.workflows.pruning.report.files import FIGURE as FIGURE
from prunekit.workflows.pruning.report.files import FORMAT as FORMAT
from prunekit.workflows.pruning.report.files import REPORT as REPORT
from prunekit.workflows.pruning.report.files import config_of as config_of
from prunekit.workflows.pruning.report.files import is_pruning as is_pruning
from prunekit.workflows.pruning.report.files import read_report as read_report
from prunekit.workflows.pruning.report.files import write_begun as write_begun
from prunekit.workflows.pruning.report.files import write_report as write_report
from prunekit.workflows.pruning.report.stage import LayerRow as LayerRow
from prunekit.workflows.pruning.report.stage import PaddingRow as PaddingRow
from prunekit.workflows.pruning.report.stage import StageReport as StageReport
from prunekit.workflows.pruning.report.whole import PruneReport as PruneReport
