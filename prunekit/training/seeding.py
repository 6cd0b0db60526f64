"""Global random numbers as a function of the seed and the place in the run, so that a checkpoint need not hold them."""

import contextlib

from prunekit.data.transforms import draw_seed
from prunekit.random_state import drawing_from


def seeded(*key: int) -> contextlib.AbstractContextManager[None]:
    """Seed the global generators of torch, numpy and Python inside the block, and put them back after it.

    Initial weights, dropout, stochastic depth and a user's own network draw from these.
    """
    return drawing_from(draw_seed(*key))
