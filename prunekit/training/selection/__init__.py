"""Which samples of a batch get a backward pass: one file a strategy, `registry.py` has them by name.

`base` says what a strategy does and how many samples each step keeps.
"""

from prunekit.training.selection.base import Place as Place
from prunekit.training.selection.base import Selector as Selector
from prunekit.training.selection.registry import make_selector as make_selector
