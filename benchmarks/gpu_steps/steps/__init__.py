"""All steps, in the order in which they are done."""

from collections.abc import Mapping

from gpu_steps.step import Step
from gpu_steps.steps import collection, criteria, elimination, ort_latency, torch_latency, training, trt_latency

_ORDER = (torch_latency, collection, elimination, training, ort_latency, trt_latency, criteria)
STEPS: Mapping[str, Step] = {module.STEP.name: module.STEP for module in _ORDER}
