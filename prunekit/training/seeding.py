"""Global random numbers as a function of the seed and the place in the run, so that a checkpoint need not hold them."""

import contextlib
import random
from collections.abc import Generator

import numpy as np
import torch

from prunekit.data.transforms import draw_seed


@contextlib.contextmanager
def seeded(*key: int) -> Generator[None]:
    """Seed the global generators of torch, numpy and Python inside the block, and put them back after it.

    Initial weights, dropout, stochastic depth and a user's own network draw from these.
    """
    seed = draw_seed(*key)
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
