"""What the time of a prediction goes into, stage by stage."""

import contextlib
import threading
import time
from collections.abc import Callable, Generator

STAGES = ("decoding", "preparing", "network", "labels", "writing")


class Stopwatch:
    """Adds up the seconds of each stage. Where several threads work, stages overlap and their sum passes the total."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._began_s = clock()
        self.seconds: dict[str, float] = dict.fromkeys(STAGES, 0.0)

    @contextlib.contextmanager
    def timing(self, stage: str) -> Generator[None, None, None]:
        """Count the block's time to a stage, whether it ends well or not."""
        began_s = self._clock()
        try:
            yield
        finally:
            passed_s = self._clock() - began_s
            with self._lock:
                self.seconds[stage] += passed_s

    def total_s(self) -> float:
        """Return the seconds since the stopwatch was made, what belongs to no stage included."""
        return self._clock() - self._began_s
