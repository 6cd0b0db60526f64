"""A queue between two threads that holds a few things, and lets go of whoever waits when it is closed."""

import collections
import threading
from collections.abc import Iterator
from typing import Generic, Optional, TypeVar

Thing = TypeVar("Thing")


class Channel(Generic[Thing]):
    """Holds up to `room` things; one thread puts, another iterates."""

    def __init__(self, room: int) -> None:
        self._room = room
        self._things: collections.deque[Thing] = collections.deque()
        self._changed = threading.Condition()
        self._ended = self._closed = False
        self._error: Optional[BaseException] = None

    def put(self, thing: Thing) -> bool:
        """Wait for room and put; False where the reader has closed the channel."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._things) < self._room)
            if not self._closed:
                self._things.append(thing)
                self._changed.notify_all()
            return not self._closed

    def end(self, error: Optional[BaseException] = None) -> None:
        """Say that nothing more comes, or that this error came instead."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def close(self) -> None:
        """Take nothing more, and forget what is here."""
        with self._changed:
            self._closed = True
            self._things.clear()
            self._changed.notify_all()

    def __iter__(self) -> Iterator[Thing]:
        """Yield what was put, in order.

        Raises:
            BaseException: what `end` was told, after all that was put before.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._things or self._ended)
                if not self._things:
                    if self._error is not None:
                        raise self._error
                    return
                thing = self._things.popleft()
                self._changed.notify_all()
            yield thing
