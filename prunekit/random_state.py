"""The global random generators: seeded inside a block, and put back after it."""

import contextlib
import random
from collections.abc import Generator

import numpy as np
import torch


@contextlib.contextmanager
def drawing_from(seed: int) -> Generator[None]:
    """Seed the global generators of torch (all devices), numpy and Python inside the block, and put them back after.

    Dropout, drawn bases and noise of a user's own network come from these.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed & 0xFFFFFFFF)  # numpy's old global generator takes 32 bits
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)
