"""Which image belongs to which mask, and what is said of one that is alone."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from prunekit.data.files.looking import Found
from prunekit.data.files.names import LISTED, listed, near
from prunekit.data.files.pattern import NAME, Pattern
from prunekit.errors import DataError

_TRIED: Final = 3  # files whose neighbours are asked what the names differ by


@dataclass(frozen=True)
class Patterns:
    """How images and masks are called, for advice; None where a data set has a layout of its own."""

    images: Pattern
    masks: Pattern


def refuse_single(images: Found, masks: Found, patterns: Patterns | None, *, spare_masks: bool = False) -> None:
    """Refuse files without a partner, and say what is there in the partner's place.

    Args:
        images: what was found of images.
        masks: the same of masks.
        patterns: what they were found by.
        spare_masks: masks may be more, since they lie together for all splits.

    Raises:
        DataError: a file has no partner, or there are no images at all.
    """
    advice = _advice(images, masks, patterns, spare_masks)
    _refuse("image", images, "mask", masks, advice)
    if not spare_masks:
        _refuse("mask", masks, "image", images, advice)
    if not images.files:
        names = list(map(images.below, images.unread.values())) or images.others
        others = f"; {listed(names)} there, of other kinds or names" if names else ""
        raise DataError(
            f"{images.shown} holds no {images.place.reads} files{others}. Put the images there, masks in {masks.shown}."
        )


def _refuse(what: str, found: Found, partner: str, other: Found, advice: str) -> None:
    single = sorted(found.files.keys() - other.files.keys())
    if not single:
        return
    unread = [other.unread[key] for key in single if key in other.unread]
    spare = {key: other.below(path) for key, path in other.files.items() if key not in found.files}
    suffixes = other.place.reads
    nearest = _nearest(single, spare)
    outside = [name for key in single[:LISTED] if (name := near(os.path.basename(key), other.others))]
    if unread:
        hint = f"{listed(map(other.below, unread))} there: {partner}s are read from {suffixes} files alone"
        remedy = f"Convert the {partner}s" if partner == "image" else "Save the masks as PNG, which loses no label"
    elif nearest:
        hint = f"{listed(nearest)} there without {_article(what)}"
        remedy = f"Give both the same name up to the suffix, or remove the {what}s"
    elif outside:
        hint = f"{listed(dict.fromkeys(outside))} there, which the pattern does not fit"
        remedy = f"Correct the pattern, or add the {partner}s"
    else:
        hint, remedy = f"{partner}s are {suffixes} files", f"Add the {partner}s or remove the {what}s"
    raise DataError(
        f"{len(single)} {what}(s) in {found.shown} have no {partner} of the same name in {other.shown}: "
        f"{listed(found.below(found.files[key]) for key in single)} ({hint}). {remedy}{advice}."
    )


def _nearest(single: list[str], spare: dict[str, str]) -> list[str]:
    """Return names of files without a partner, those first that are most like the ones that lack theirs."""
    found = [name for key in single[:LISTED] if (name := near(key, spare))]
    return [spare[key] for key in dict.fromkeys([*found, *sorted(spare)])]


def _advice(images: Found, masks: Found, patterns: Patterns | None, spare_masks: bool) -> str:
    """Return the patterns under which every image has its mask, if names differ by what they begin or end with."""
    single = sorted(images.files.keys() - masks.files.keys())
    spare = masks.files.keys() - images.files.keys()
    if patterns is None or not single or not spare:
        return ""
    for key in single[:_TRIED]:
        candidate = near(key, sorted(spare))
        for one, two in _differences(key, candidate) if candidate else ():
            if _fits(images.files, one, masks.files, two, spare_masks):
                image, mask = _with(patterns.images, one), _with(patterns.masks, two)
                return f"; or, if they differ by that alone: --images '{image}' --masks '{mask}'"
    return ""


_Affix = tuple[str, str]


def _differences(key: str, candidate: str) -> Iterable[tuple[_Affix, _Affix]]:
    """Yield what could be put before and after a name to make both keys of it."""
    if candidate.count(key) == 1:
        before, _, after = candidate.partition(key)
        yield ("", ""), (before, after)
    begin = _shared(key, candidate)
    if begin:
        yield ("", key[begin:]), ("", candidate[begin:])
    end = _shared(key[::-1], candidate[::-1])
    if end:
        yield (key[:-end], ""), (candidate[:-end], "")


def _shared(one: str, two: str) -> int:
    """Return how many characters two names begin with alike."""
    return next((at for at, (a, b) in enumerate(zip(one, two, strict=False)) if a != b), min(len(one), len(two)))


def _fits(images: Iterable[str], one: _Affix, masks: Iterable[str], two: _Affix, spare_masks: bool) -> bool:
    """Tell whether all images are called so and have their masks then, and every such mask its image."""
    of_images = {_bare(key, one) for key in images}
    of_masks = {_bare(key, two) for key in masks} - {None}
    return of_images <= of_masks and (spare_masks or of_images == of_masks)


def _bare(key: str, affix: _Affix) -> str | None:
    before, after = affix
    fits = key.startswith(before) and key.endswith(after) and len(key) > len(before) + len(after)
    return key[len(before) : len(key) - len(after)] if fits else None


def _with(pattern: Pattern, affix: _Affix) -> str:
    folder, _, last = pattern.text.rpartition(NAME)
    return f"{folder}{affix[0]}{NAME}{affix[1]}{last}"


def _article(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"
