"""Which samples are trained on: one file a strategy, `registry.py` has them by name.

`base` says what a strategy does that skips a part of each batch, `ahead` what one does that chooses before drawing.
"""

from prunekit.training.selection.ahead import Chooser as Chooser
from prunekit.training.selection.ahead import StepPlan as StepPlan
from prunekit.training.selection.base import Place as Place
from prunekit.training.selection.base import Remembering as Remembering
from prunekit.training.selection.base import Selector as Selector
from prunekit.training.selection.registry import make_chooser as make_chooser
from prunekit.training.selection.registry import make_plan as make_plan
from prunekit.training.selection.registry import make_selector as make_selector
from prunekit.training.selection.registry import remembering as remembering
