"""The training loop: `fit` takes a built network to a trained model file, resumable after a kill at any instant.

`fitting` runs epochs and keeps the run, `step` is one step, `telling` what an observer is told.
"""

from prunekit.training.events import EpochEvent as EpochEvent
from prunekit.training.events import EvaluationEvent as EvaluationEvent
from prunekit.training.events import Observer as Observer
from prunekit.training.events import StartEvent as StartEvent
from prunekit.training.events import StepEvent as StepEvent
from prunekit.training.extras import Extras as Extras
from prunekit.training.loop.fitting import FitReport as FitReport
from prunekit.training.loop.fitting import fit as fit
