"""How far a long piece of work is, told to whoever asked, and how long the rest will take.

The library says it in passing (`counted`, `tell`) and knows nobody who listens. A caller listens by `told`: to all that
is done inside the block, however deep, without a callback in each signature on the way.
"""

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, Protocol, TypeVar

Item = TypeVar("Item")


class Progress(Protocol):
    """Told what is being done and how far it is. Any function of these three arguments will do."""

    def __call__(self, step: str, done: int, total: int, /) -> None:
        """Take note of a step: `done` of `total` parts are over; both are 0 where a step has no parts."""
        ...


_LISTENER: ContextVar[Progress | None] = ContextVar("listener", default=None)


@contextmanager
def told(listener: Progress | None) -> Generator[None]:
    """Let `listener` be told how far the work inside the block is; None leaves whoever listens already."""
    before = _LISTENER.get()
    _LISTENER.set(before if listener is None else listener)
    try:
        yield
    finally:
        _LISTENER.set(before)


def tell(step: str, done: int, total: int) -> None:
    """Say that `done` of `total` parts of a step are over."""
    if (listener := _LISTENER.get()) is not None:
        listener(step, done, total)


def counted(items: Iterable[Item], step: str, total: int) -> Iterator[Item]:
    """Yield the items, telling before the first one and after each."""
    tell(step, 0, total)
    for done, item in enumerate(items, start=1):
        yield item
        tell(step, done, total)


WINDOW_STEPS: Final = 32
WINDOW_S: Final = 20.0
"""The pace is that of the last steps: at least so many, and those of at least so many seconds."""
_APART_S: Final = 0.1  # marks that lie nearer are one, so that a thousand steps a second take no memory
_INTERRUPTIONS: Final = 3  # last ones that are averaged


class TimeLeft:
    """Reckons the time left from the pace of the last steps, and from interruptions that lie between steps.

    With steps of equal length it is right from the first one on; after a change of pace it has settled once the window
    holds the new pace alone. The first of all steps, which warms up, counts only as long as there is no other; the
    first after an interruption, which may wait for data, at most as much as others. An interruption (an evaluation
    between two epochs) is no part of the pace; one that takes d seconds more than those before moves the time left by
    at most d / 2 for each that is still to come.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._now_s = clock()
        self._marks: deque[tuple[float, int]] = deque([(0.0, 0)])  # seconds spent on steps, steps done
        self._warm = self._goes_on = False
        self._interruptions_s: deque[float] = deque(maxlen=_INTERRUPTIONS)

    def go_on(self) -> None:
        """Begin, or go on after an interruption: what has passed since the last step is no part of the next."""
        self._now_s = self._clock()
        self._goes_on = True

    def step(self, count: int = 1) -> None:
        """Note that `count` steps are over."""
        before_s, self._now_s = self._now_s, self._clock()
        spent_s, done = self._marks[-1]
        taken_s = self._now_s - before_s
        if self._goes_on and len(self._marks) > 1:
            taken_s = min(taken_s, count * self.pace_s)
        self._goes_on = False
        if len(self._marks) > 2 and spent_s - self._marks[-2][0] < _APART_S:
            self._marks.pop()
        self._marks.append((spent_s + taken_s, done + count))
        self._forget()

    def _forget(self) -> None:
        """Drop marks that lie before the window."""
        if not self._warm and len(self._marks) == 3:
            self._warm = True
            self._marks.popleft()
        while len(self._marks) > WINDOW_STEPS + 1 and self._marks[-1][0] - self._marks[1][0] >= WINDOW_S:
            self._marks.popleft()

    def interrupted(self, seconds: float) -> None:
        """Note how long an interruption took."""
        self._interruptions_s.append(seconds)

    @property
    def knows_interruptions(self) -> bool:
        """Whether one was timed."""
        return bool(self._interruptions_s)

    @property
    def pace_s(self) -> float:
        """Seconds a step; nan as long as no step is over."""
        (first_s, first), (last_s, last) = self._marks[0], self._marks[-1]
        return (last_s - first_s) / (last - first) if last > first else float("nan")

    def left_s(self, steps: int, interruptions: int = 0, *, current_s: float | None = None) -> float:
        """Return the time left, nan as long as no step is over.

        Args:
            steps: still to be taken.
            interruptions: still to come; left out as long as none was timed.
            current_s: how long one that is under way will take in all, to be averaged with those before.
        """
        timed_s = [*self._interruptions_s, *([] if current_s is None else [current_s])]
        each_s = sum(timed_s) / len(timed_s) if timed_s else 0.0
        return (steps * self.pace_s if steps else 0.0) + interruptions * each_s
