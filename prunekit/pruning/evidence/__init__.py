"""What a criterion may look at: second moments, gate gradients, redundancy; and the ranking it answers with.

Each statistic is collected once, when it is first asked for.
"""

from prunekit.pruning.evidence.evidence import Evidence as Evidence
from prunekit.pruning.evidence.gates import gate_gradients as gate_gradients
from prunekit.pruning.evidence.judged import Labelled as Labelled
from prunekit.pruning.evidence.judged import LabelledInputs as LabelledInputs
from prunekit.pruning.evidence.moments import POSITIONS as POSITIONS
from prunekit.pruning.evidence.moments import Moments as Moments
from prunekit.pruning.evidence.moments import at_places as at_places
from prunekit.pruning.evidence.ranking import Ranking as Ranking
from prunekit.pruning.evidence.ranking import Rankings as Rankings
from prunekit.pruning.evidence.ranking import by_score as by_score
from prunekit.pruning.evidence.ranking import unused as unused
from prunekit.pruning.evidence.redundancy_matrix import redundancy as redundancy
from prunekit.pruning.evidence.statistics import Collector as Collector
from prunekit.pruning.evidence.statistics import Statistics as Statistics
from prunekit.pruning.evidence.statistics import collect as collect
