"""Settings of all tests: one thread, so that results do not depend on the machine and tests do not fight for cores."""

import torch

torch.set_num_threads(1)
