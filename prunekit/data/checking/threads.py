"""Work on many files at once; decoding releases the GIL."""

import os
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Made = TypeVar("_Made")


def in_order(work: Callable[[_Item], _Made], items: Sequence[_Item]) -> Generator[_Made]:
    """Yield what `work` returns for each item, in their order; once it is closed, nothing more is begun."""
    pool = ThreadPoolExecutor(max_workers=os.cpu_count() or 1)
    try:
        yield from pool.map(work, items)
    finally:  # Ctrl-C waits for what is being decoded, not for what is still to come
        pool.shutdown(cancel_futures=True)
