"""Batches for training and evaluation.

A training batch depends on (seed, epoch, index) only: not on the number of workers, not on the global random
state, and not on what was drawn before, so that a resumed run sees what an uninterrupted one would have seen.

Shapes: B batch, H height, W width, N samples, K classes.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from prunekit.data.balanced import Draw, balanced_draws, focus_of, present_classes
from prunekit.data.dataset import Sample, SegmentationDataset, size_text
from prunekit.data.transforms import EvalTransform, TrainTransform, draw_seed, resize_sample
from prunekit.errors import DataUsageError, PrunekitError
from prunekit.recipe import DataConfig
from prunekit_runtime.preprocessing import Preprocessing

_DRAWN: Final = 0xD2A  # keeps the views of drawn classes apart from those of whole epochs
_MEMORY_SHARE: Final = 0.5  # of the machine's memory that cached images may take; the rest is the training's


@dataclass(frozen=True, eq=False)
class Batch:
    """A training batch; all samples have the crop's size."""

    images_B3HW: Tensor
    """float32, normalised."""
    labels_BHW: Tensor
    """int64, the ignore index where nothing counts."""
    indices_B: Tensor
    """int64, positions in the data set."""
    drawn_B: Tensor | None = None
    """int64, the class each crop was drawn for; None where images are drawn and not classes."""


@dataclass(frozen=True)
class ViewKey:
    """A random view that is named and not drawn yet."""

    index: int
    """Position in the data set."""
    seed: int
    """What `TrainTransform` draws it from."""


@dataclass(frozen=True, eq=False)
class EvalBatch:
    """An evaluation batch: images as the network sees them, labels as the data set has them."""

    images_B3HW: Tensor
    """float32, prepared by the contract."""
    labels: list[Tensor]
    """int64 [H, W] each, at the original size."""
    indices: list[int]


def steps_per_epoch(dataset: SegmentationDataset, batch_size: int) -> int:
    """Return the number of full batches in an epoch; the last, partial one is dropped.

    Raises:
        DataError: there is not one full batch.
    """
    steps = len(dataset) // batch_size
    if steps == 0:
        raise DataUsageError(
            f"The training split holds {len(dataset)} images, fewer than one batch of {batch_size}. "
            "Lower train.batch_size or add images."
        )
    return steps


def train_batches(
    dataset: SegmentationDataset,
    data: DataConfig,
    *,
    batch_size: int,
    seed: int,
    epoch: int,
    workers: int = 0,
    cache: bool = False,
    steps: int | None = None,
    chosen: Sequence[Sequence[ViewKey]] | None = None,
) -> Iterator[Batch]:
    """Return the batches of one epoch, in an order drawn from (seed, epoch).

    The uniform sampler shows each sample at most once, the balanced one as often as its classes are drawn.

    Args:
        dataset: the training split.
        data: size of the network's input, the augmentation and the sampler.
        batch_size: samples a batch.
        seed: with the epoch and the sample's position it names the random view.
        epoch: counted from 0.
        workers: processes that decode and augment; 0 does it here.
        cache: keep the samples in memory, resized, for as long as `dataset` lives.
        steps: batches; None takes `steps_per_epoch`, and the uniform sampler can give no more.
        chosen: the views of each batch, in place of the sampler's.

    Raises:
        DataError: there is not one full batch, a sample cannot be read, no pixel has a class, or the cache would not
            fit into memory.
    """
    steps = steps_per_epoch(dataset, batch_size) if steps is None else steps
    samples = _samples(dataset, data, workers, cache)
    if chosen is None and data.sampler == "balanced":
        size_hw = (data.height, data.width)
        draws = balanced_draws(_present(dataset, samples, size_hw, workers), steps * batch_size, seed, epoch)
        drawn_views = _DrawnViews(samples, TrainTransform(data), seed, epoch, draws)
        places = torch.arange(steps * batch_size).view(steps, batch_size)
        return map(_stack, _fetch(drawn_views, places.tolist(), workers))
    keys = in_batches(epoch_views(len(dataset), seed, epoch), batch_size)[:steps] if chosen is None else chosen
    views = _Views(samples, TrainTransform(data), [key for batch in keys for key in batch])
    places = iter(range(len(views)))
    chunks = [[next(places) for _ in batch] for batch in keys]
    return map(_stack, _fetch(views, chunks, workers))


def epoch_views(count: int, *key: int) -> list[ViewKey]:
    """Return one view of each of `count` samples, order and views drawn from a key such as (seed, epoch)."""
    order_N = torch.randperm(count, generator=torch.Generator().manual_seed(draw_seed(*key)))
    return [ViewKey(index, draw_seed(*key, index)) for index in order_N.tolist()]


def in_batches(keys: Sequence[ViewKey], batch_size: int) -> list[Sequence[ViewKey]]:
    """Cut views into full batches; what is left over is dropped."""
    return [keys[first : first + batch_size] for first in range(0, len(keys) - batch_size + 1, batch_size)]


def of_each_sample(
    dataset: SegmentationDataset, data: DataConfig, of: Callable[[Sample], Tensor], *, workers: int, cache: bool
) -> Iterator[Tensor]:
    """Yield `of` of each sample at the network's size, in order.

    Raises:
        DataError: a sample cannot be read, or the cache would not fit into memory.
    """
    samples = _samples(dataset, data, workers, cache)
    chunks = [[index] for index in range(len(dataset))]
    return (found[0] for found in _fetch(_Of(samples, of), chunks, workers))


def eval_batches(dataset: SegmentationDataset, contract: Preprocessing, *, batch_size: int) -> Iterator[EvalBatch]:
    """Return every sample once and in order; a batch ends early where the network's input changes its size."""
    transform = EvalTransform(contract)
    images: list[Tensor] = []
    labels: list[Tensor] = []
    for index in range(len(dataset)):
        sample = dataset[index]
        image_3HW = transform(sample.image_3HW)
        if images and (len(images) == batch_size or images[0].shape != image_3HW.shape):
            yield EvalBatch(torch.stack(images), labels, list(range(index - len(images), index)))
            images, labels = [], []
        images.append(image_3HW)
        labels.append(sample.labels_HW.to(torch.int64))
    if images:
        yield EvalBatch(torch.stack(images), labels, list(range(len(dataset) - len(images), len(dataset))))


class _Resized(Dataset[Sample | PrunekitError]):
    """Samples at the network's size; what `kept` holds is not made again, and what is made is put into it."""

    def __init__(self, dataset: SegmentationDataset, size_hw: tuple[int, int], kept: dict[int, Sample] | None) -> None:
        self._dataset, self._size_hw, self._kept = dataset, size_hw, kept

    def __getitem__(self, index: int) -> Sample | PrunekitError:
        if self._kept is not None and index in self._kept:
            return self._kept[index]
        try:
            sample = resize_sample(self._dataset[index], *self._size_hw)
        except PrunekitError as error:
            return error  # as a value: raised in a worker it would come back buried in a traceback's text
        if self._kept is not None:
            self._kept[index] = sample
        return sample


class _Views(Dataset["_View | PrunekitError"]):
    """The random views of one epoch, by place in the epoch."""

    def __init__(self, samples: _Resized, transform: TrainTransform, keys: Sequence[ViewKey]) -> None:
        self._samples, self._transform, self._keys = samples, transform, keys

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, index: int) -> "_View | PrunekitError":
        key = self._keys[index]
        sample = self._samples[key.index]
        if isinstance(sample, PrunekitError):
            return sample
        return _View(*self._transform(sample.image_3HW, sample.labels_HW, key.seed), key.index)


class _DrawnViews(Dataset["_View | PrunekitError"]):
    """The random views of one epoch of drawn classes, by place in the epoch."""

    def __init__(
        self, samples: _Resized, transform: TrainTransform, seed: int, epoch: int, draws: Sequence[Draw]
    ) -> None:
        self._samples, self._transform, self._seed, self._epoch = samples, transform, seed, epoch
        self._draws = draws

    def __getitem__(self, index: int) -> "_View | PrunekitError":
        draw = self._draws[index]
        sample = self._samples[draw.index]
        if isinstance(sample, PrunekitError):
            return sample
        seed = draw_seed(self._seed, self._epoch, _DRAWN, index)
        focus = focus_of(sample.labels_HW, draw.label, seed)
        return _View(*self._transform(sample.image_3HW, sample.labels_HW, seed, focus), draw.index, draw.label)


class _Of(Dataset["Tensor | PrunekitError"]):
    """What a function gives of each sample, by position."""

    def __init__(self, samples: _Resized, of: Callable[[Sample], Tensor]) -> None:
        self._samples, self._of = samples, of

    def __getitem__(self, index: int) -> "Tensor | PrunekitError":
        sample = self._samples[index]
        return sample if isinstance(sample, PrunekitError) else self._of(sample)


@dataclass(frozen=True, eq=False)
class _View:
    image_3HW: Tensor
    labels_HW: Tensor
    index: int
    label: int | None = None
    """The class that was drawn."""


_Item = TypeVar("_Item")

# By data set, so that the memory goes when the data set goes; one data set may be seen at several sizes.
_CACHES: WeakKeyDictionary[SegmentationDataset, dict[tuple[int, int], dict[int, Sample]]] = WeakKeyDictionary()
_PRESENT: WeakKeyDictionary[SegmentationDataset, dict[tuple[int, int], Tensor]] = WeakKeyDictionary()


def _present(dataset: SegmentationDataset, samples: _Resized, size_hw: tuple[int, int], workers: int) -> Tensor:
    """Return which classes occur in which sample, bool [N, K]; one pass over the labels, once for a data set."""
    by_size = _PRESENT.setdefault(dataset, {})
    if size_hw not in by_size:
        chunks = [[index] for index in range(len(dataset))]
        present = _Of(samples, partial(_present_in, num_classes=len(dataset.classes)))
        rows = [row for chunk in _fetch(present, chunks, workers) for row in chunk]
        by_size[size_hw] = torch.stack(rows)
    return by_size[size_hw]


def _present_in(sample: Sample, num_classes: int) -> Tensor:
    return present_classes(sample.labels_HW, num_classes)


def _samples(dataset: SegmentationDataset, data: DataConfig, workers: int, cache: bool) -> _Resized:
    size_hw = (data.height, data.width)
    return _cached(dataset, size_hw, workers) if cache else _Resized(dataset, size_hw, None)


def _cached(dataset: SegmentationDataset, size_hw: tuple[int, int], workers: int) -> _Resized:
    by_size = _CACHES.setdefault(dataset, {})
    if size_hw not in by_size:
        _check_memory(len(dataset), size_hw)
        by_size[size_hw] = {}
    kept = by_size[size_hw]
    missing = [index for index in range(len(dataset)) if index not in kept]
    if workers and missing:
        # Workers end with the epoch and their memory with them, so the cache is filled here, before they start.
        fetched = _fetch(_Resized(dataset, size_hw, None), [[index] for index in missing], workers)
        kept.update((index, samples[0]) for index, samples in zip(missing, fetched, strict=True))
    return _Resized(dataset, size_hw, kept)


def _check_memory(count: int, size_hw: tuple[int, int]) -> None:
    needed_bytes = count * size_hw[0] * size_hw[1] * 4  # three colours and one label a pixel
    limit_bytes = int(_MEMORY_SHARE * os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    if needed_bytes > limit_bytes:
        raise DataUsageError(
            f"Caching {count} images of {size_text(size_hw)} takes {needed_bytes / 2**30:.1f} GiB, more than half of "
            "this machine's memory. Switch the cache off (train.cache = false) or lower data.height and data.width."
        )


def _fetch(items: "Dataset[_Item | PrunekitError]", chunks: list[list[int]], workers: int) -> Iterator[list[_Item]]:
    """Yield the items of each chunk of positions; an error among them is raised."""
    if workers == 0:
        fetched: Iterable[list[_Item | PrunekitError]] = ([items[index] for index in chunk] for chunk in chunks)
    else:
        # Its own generator: without one DataLoader draws a base seed from the global random state.
        generator = torch.Generator().manual_seed(0)
        fetched = DataLoader(
            items, batch_sampler=chunks, num_workers=workers, collate_fn=_as_they_are, generator=generator
        )
    for chunk_items in fetched:
        yield [_value(item) for item in chunk_items]


def _value(item: _Item | PrunekitError) -> _Item:
    if isinstance(item, PrunekitError):
        raise item
    return item


def _as_they_are(items: list[_Item]) -> list[_Item]:
    return items


def _stack(views: Sequence[_View]) -> Batch:
    labels = [view.label for view in views if view.label is not None]
    return Batch(
        torch.stack([view.image_3HW for view in views]),
        torch.stack([view.labels_HW for view in views]),
        torch.tensor([view.index for view in views], dtype=torch.int64),
        torch.tensor(labels, dtype=torch.int64) if labels else None,
    )
