"""The files of a split, matched as far as they can be: what stands alone or in the way is listed, not refused."""

from dataclasses import dataclass
from pathlib import Path

from prunekit.data.dataset import Split
from prunekit.data.files.looking import Found, look
from prunekit.data.files.pattern import Place
from prunekit.data.pairs import Pair
from prunekit.errors import DataError

Where = tuple[Path, Place]
"""A folder, and the pattern of files below it."""


@dataclass(frozen=True)
class SplitFiles:
    """Images and masks of one split."""

    split: Split
    images: str
    """Where they lie, as it is shown."""
    masks: str
    pairs: tuple[Pair, ...]
    images_alone: tuple[Path, ...] = ()
    masks_alone: tuple[Path, ...] = ()
    in_the_way: tuple[Path, ...] = ()
    """Files whose name reads the same as another's: a data set refuses them."""
    not_read: tuple[Path, ...] = ()
    """Files of other kinds or names."""
    missing: tuple[str, ...] = ()
    """What is to be said of folders that are not there."""


def match(split: Split, images: Where, masks: Where, *, spare_masks: bool = False) -> SplitFiles:
    """Match images with masks by their names, in either Unicode form.

    Args:
        split: which it is.
        images: where they lie.
        masks: where they lie.
        spare_masks: masks may be more, since they lie together for all splits.
    """
    missing: list[str] = []
    one, other = _look(images, masks[1], missing), _look(masks, images[1], missing)
    both = sorted(one.files.keys() & other.files.keys())
    alone = [] if spare_masks else sorted(other.files.keys() - one.files.keys())
    matched = {*one.files.values(), *other.files.values(), *one.twins, *other.twins}
    not_read = (path for found in (one, other) for path in _not_read(found) if path not in matched)
    return SplitFiles(
        split,
        one.shown,
        other.shown,
        tuple(Pair(one.files[key], other.files[key], key) for key in both),
        tuple(one.files[key] for key in sorted(one.files.keys() - other.files.keys())),
        tuple(other.files[key] for key in alone),
        (*one.twins, *other.twins),
        tuple(dict.fromkeys(not_read)),
        tuple(missing),
    )


def _look(where: Where, other: Place, missing: list[str]) -> Found:
    folder, place = where
    try:
        return look(folder, place, other, keep_twins=True)
    except DataError as error:
        missing.append(str(error))
        return Found(folder.joinpath(*place.folder), place)


def _not_read(found: Found) -> list[Path]:
    return [*found.unread.values(), *(found.folder / name for name in found.others)]
