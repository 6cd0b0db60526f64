"""All steps, in the order in which they are done."""

from collections.abc import Mapping

from gpu_steps import torch_latency
from gpu_steps.step import Step

STEPS: Mapping[str, Step] = {step.name: step for step in (torch_latency.STEP,)}
