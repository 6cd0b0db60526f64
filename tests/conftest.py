"""Settings of all tests: the same numbers on every machine, in any order, one file at a time.

Every fixture and every test begins with the same global random numbers, one thread computes, and no test is judged by
the clock. Properties are tried on the same drawn cases each time, so that a change is judged by what it changes: a test
marked `drawn(count)` gets `count` seeds as its argument `seed`, and what it draws follows from those alone.

Other cases: HYPOTHESIS_PROFILE=explore pytest. More of the marked ones: PRUNEKIT_CASES=2000 pytest. A seed that was
found so, again: PRUNEKIT_FIRST_CASE=123456 PRUNEKIT_CASES=1 pytest.
"""

import os
import random
import signal

import numpy as np
import pytest
import torch
from hypothesis import register_random, settings

torch.set_num_threads(1)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # begun in the background: what tests start would not hear Ctrl-C
    signal.signal(signal.SIGINT, signal.default_int_handler)
# A first call imports, and a busy machine is slow: neither is a failure.
settings.register_profile("fixed", derandomize=True, database=None, deadline=None)
settings.register_profile("explore", derandomize=False, print_blob=True, deadline=None)
_PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "fixed")
settings.load_profile(_PROFILE)


class _TorchRandom:
    """Torch's global generator, which hypothesis then seeds for every case that it tries."""

    def seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def getstate(self) -> torch.Tensor:
        return torch.get_rng_state()

    def setstate(self, state: torch.Tensor) -> None:
        torch.set_rng_state(state)


_TORCH_RANDOM = _TorchRandom()  # hypothesis holds it weakly
register_random(_TORCH_RANDOM)


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "drawn(count): tried with `count` values of the argument `seed`")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    mark = metafunc.definition.get_closest_marker("drawn")
    if mark is None:
        return
    count = int(os.environ.get("PRUNEKIT_CASES", mark.args[0]))
    drawn = random.SystemRandom().randrange(2**30) if _PROFILE == "explore" else 0
    first = int(os.environ.get("PRUNEKIT_FIRST_CASE", drawn))
    metafunc.parametrize("seed", range(first, first + count))


@pytest.hookimpl(tryfirst=True)
def pytest_fixture_setup() -> None:
    _begin()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_call() -> None:
    _begin()


def _begin() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let `pytest tests/fuzz --fuzz-cases 10000` try more damaged files than every run of the tests does."""
    parser.addoption("--fuzz-cases", type=int, default=200, help="damaged files to try of each format (200)")
