"""Rows of random views, named and not drawn."""

import itertools
from collections.abc import Iterator
from typing import Final

from prunekit.data.loading import ViewKey, epoch_views, in_batches

_AGAIN: Final = 0xA6A1  # keeps later passes of an epoch apart from its first one


def views_of_epoch(count: int, seed: int, epoch: int) -> Iterator[ViewKey]:
    """Yield views without end: each of `count` samples once, as in an epoch of all, then once more in another view."""
    yield from epoch_views(count, seed, epoch)
    for again in itertools.count(1):
        yield from epoch_views(count, seed, epoch, _AGAIN, again)


def views_of_steps(count: int, batch_size: int, seed: int, first: int, last: int) -> list[list[ViewKey]]:
    """Return the batches of the steps from `first` to before `last` of a training that takes whole passes in turn."""
    per_pass = count // batch_size
    batches: list[list[ViewKey]] = []
    for number in range(first // per_pass, -(-last // per_pass)):
        start = number * per_pass
        whole = in_batches(epoch_views(count, seed, number), batch_size)
        batches += [list(batch) for batch in whole[max(first - start, 0) : last - start]]
    return batches
