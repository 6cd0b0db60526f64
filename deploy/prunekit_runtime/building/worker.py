"""A build in a thread of its own, so that Ctrl-C and SIGTERM end it: in TensorRT's callbacks they would be lost."""

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")
_LOOK_S = 0.2
_STOP_S = 30.0  # a step of TensorRT, which looks whether to go on after each, rarely takes longer


class _Work(Generic[Result]):
    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self.results: list[Result] = []
        self.error: BaseException | None = None
        # Not Thread.join: a signal in it leaves the thread marked as ended while it runs (Python 3.10 to 3.12).
        self.done = threading.Event()

    def __call__(self) -> None:
        try:
            self.results.append(self._work())
        except BaseException as error:  # taken up by the thread that waits
            self.error = error
        finally:
            self.done.set()


def in_thread(work: Callable[[], Result], stop: threading.Event) -> Result:
    """Return what `work` returns, run in a thread while this one stays open to signals.

    When a signal raises here, `stop` is set, which `work` is to follow, and the wait for it is bounded.
    """
    job: _Work[Result] = _Work(work)
    thread = threading.Thread(target=job, name="build", daemon=True)
    try:
        thread.start()
        while not job.done.wait(_LOOK_S):
            pass
    except BaseException:
        stop.set()
        job.done.wait(_STOP_S)
        raise
    if job.error is not None:
        raise job.error
    return job.results[0]
