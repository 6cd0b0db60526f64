"""Settings of all tests: one thread, so that results do not depend on the machine and tests do not fight for cores.

Properties are tried on the same drawn cases each time, so that a change is judged by what it changes. Other cases:
HYPOTHESIS_PROFILE=explore pytest
"""

import os

import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("fixed", derandomize=True)
settings.register_profile("explore", derandomize=False, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))
