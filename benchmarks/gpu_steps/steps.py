"""All steps, in the order in which they are done."""

from collections.abc import Mapping

from gpu_steps import collection, elimination, torch_latency, training
from gpu_steps.step import Step

_ORDER = (torch_latency.STEP, collection.STEP, elimination.STEP, training.STEP)
STEPS: Mapping[str, Step] = {step.name: step for step in _ORDER}
