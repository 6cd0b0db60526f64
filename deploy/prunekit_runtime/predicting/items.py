"""Found pictures as items, each read when it is its turn."""

import functools
from collections.abc import Sequence
from pathlib import PurePath

from prunekit_runtime.pictures.reading import read_picture
from prunekit_runtime.predicting.labelling import Item
from prunekit_runtime.predicting.naming import unique_stems
from prunekit_runtime.predicting.sources import Source


def picture_items(sources: Sequence[Source]) -> list[Item]:
    """Return an item for each picture, with a stem of its own."""
    stems = unique_stems([source.name for source in sources])
    return [picture_item(source, stem) for source, stem in zip(sources, stems, strict=True)]


def picture_item(source: Source, stem: PurePath) -> Item:
    """Return the item of a picture whose results have this stem."""
    return Item(stem, functools.partial(read_picture, source.path), str(source.path))
