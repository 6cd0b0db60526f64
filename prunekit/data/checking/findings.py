"""What is wrong with the files of a split, in sentences that say what to do."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

from prunekit.data.checking.files import SplitFiles
from prunekit.data.checking.report import Finding, SplitReport
from prunekit.data.checking.seen import FaultKind, Seen
from prunekit.data.dataset import Split
from prunekit.data.images import MASK_SUFFIXES

_FEW: Final = 0.8
"""Share of the images of one size from which on the others are odd."""
_UNKNOWN_A_MASK: Final = 8
"""Values of one mask that are no class from which on it looks smoothed or compressed."""

# Of each kind of fault: its name for programs, what files it is about, what to say and what to do.
_FAULTS: Final[dict[FaultKind, tuple[str, str, str]]] = {
    "image": ("unreadable_images", "{} cannot be read", "Replace or convert them, or remove them with their masks."),
    "mask": ("unreadable_masks", "{} cannot be read", "Replace or convert them, or remove them with their images."),
    "sample": ("unreadable_samples", "{} cannot be read", "Mend what the data set reads."),
    "turned": (
        "turned_by_exif",
        "{} marked as rotated by EXIF data, and whether the mask is rotated too, nobody knows",
        "Store image and mask upright, images for instance with PIL.ImageOps.exif_transpose.",
    ),
    "swapped": (
        "swapped_sizes",
        "{} the width that the mask has as height",
        "One of the two is rotated (a camera's EXIF data that was dropped does that): rotate it back.",
    ),
    "sizes": (
        "different_sizes",
        "{} another size than the mask",
        "Make them the same size, masks by nearest neighbour.",
    ),
}
_COUNTED: Final[dict[FaultKind, tuple[str, str]]] = {
    "image": ("image", "images"),
    "mask": ("mask", "masks"),
    "sample": ("sample", "samples"),
    "turned": ("image is", "images are"),
    "swapped": ("image has", "images have"),
    "sizes": ("image has", "images have"),
}


def file_findings(files: SplitFiles) -> Iterator[Finding]:
    """Yield what is wrong with the names of a split's files."""
    for text in files.missing:
        yield Finding("mend", "missing_folder", files.split, text)
    one, other = files.images_alone, files.masks_alone
    if one and not files.missing:
        text = f"{_count(len(one), 'image has', 'images have')} no mask of the same name in {files.masks}"
        yield Finding("mend", "images_alone", files.split, f"{text}{_instead(one, files)}.", _texts(one))
    if other and not files.missing:
        text = f"{_count(len(other), 'mask has', 'masks have')} no image of the same name in {files.images}"
        yield Finding(
            "mend", "masks_alone", files.split, f"{text}. Add the images, or remove the masks.", _texts(other)
        )
    if files.in_the_way:
        text = (
            f"{_count(len(files.in_the_way), 'file has', 'files have')} the name of another, up to suffix and Unicode "
            "form. Rename or remove them."
        )
        yield Finding("mend", "in_the_way", files.split, text, _texts(files.in_the_way))
    if files.not_read:
        text = f"{_count(len(files.not_read), 'file is', 'files are')} of other kinds or names and not read."
        yield Finding("look", "other_files", files.split, text, _texts(files.not_read))
    if not files.pairs and not files.missing:
        text = (
            f"No image in {files.images} has a mask in {files.masks}. Put images there and masks of their names here."
        )
        yield Finding("mend", "empty_split", files.split, text)


def sample_findings(split: Split, seen: Sequence[Seen]) -> Iterator[Finding]:
    """Yield what is wrong with single images and masks of a split."""
    for kind, (name, what, do) in _FAULTS.items():
        texts = [fault.text for one in seen for fault in one.faults if fault.kind == kind]
        if texts:
            said = what.format(_count(len(texts), *_COUNTED[kind]))
            yield Finding("mend", name, split, f"{said}. {do}", tuple(texts))
    soft = [one for one in seen if one.smoothed or _many(one)]
    if soft:
        lossy = any(map(_many, soft))
        text = (
            f"{_count(len(soft), 'mask looks', 'masks look')} smoothed or saved lossily: "
            + ("many values occur that are no class" if lossy else "borders have numbers in between")
            + ". Save masks as PNG without soft edges, and resize them by nearest neighbour."
        )
        yield Finding("look", "smoothed_masks", split, text, tuple(one.mask or one.name for one in soft))


def unknown_findings(report: SplitReport) -> Iterator[Finding]:
    """Yield what in masks is no class."""
    if report.unknown:
        colours = any(isinstance(found.value, tuple) for found in report.unknown)
        shown = _some(tuple(value_text(found.value) for found in report.unknown))
        key = "ignore_colour" if colours else "ignore_index"
        text = (
            f"{_count(len(report.unknown), 'value in masks is', 'values in masks are')} no class: {shown}. Add what is "
            f"missing to the class list, name there what does not count ({key}), or correct the masks."
        )
        files = tuple(dict.fromkeys(found.example for found in report.unknown))
        yield Finding("mend", "unknown_values", report.split, text, files)


def size_findings(report: SplitReport, seen: Sequence[Seen], size_HW: tuple[int, int]) -> Iterator[Finding]:
    """Yield images of an odd size, and those that are much smaller than the network sees them."""
    usual = next(iter(report.image_sizes), "")
    odd = [one for one in seen if one.image_HW and _size(one) != usual]
    if odd and report.image_sizes[usual] >= _FEW * sum(report.image_sizes.values()):
        text = f"{_count(len(odd), 'image is', 'images are')} not of the usual size {usual}."
        yield Finding("look", "odd_sizes", report.split, text, _listed(odd, lambda one: f"{one.image} {_size(one)}"))
    height, width = size_HW
    small = [one for one in seen if one.image_HW and (2 * one.image_HW[0] <= height or 2 * one.image_HW[1] <= width)]
    if small:
        text = (
            f"{_count(len(small), 'image is', 'images are')} half as large as the network sees them ({height}x{width}) "
            "or smaller. Choose a smaller --size, or larger images."
        )
        yield Finding(
            "look",
            "small_images",
            report.split,
            text,
            _listed(small, lambda one: f"{one.image or one.name} {_size(one)}"),
        )


def value_text(value: int | tuple[int, ...]) -> str:
    """Return a number or colour as class lists write it."""
    return str(list(value)) if isinstance(value, tuple) else str(value)


def _size(one: Seen) -> str:
    height, width = one.image_HW or (0, 0)
    return f"{height}x{width}"


def _listed(seen: Sequence[Seen], text: Callable[[Seen], str]) -> tuple[str, ...]:
    return tuple(map(text, seen))


def _many(one: Seen) -> bool:
    return len(one.unknown) >= _UNKNOWN_A_MASK


def _instead(alone: Sequence[Path], files: SplitFiles) -> str:
    """Return what to do about images without masks; a file of another kind may be meant as one."""
    stems, folders = {path.stem for path in alone}, {path.parent for path in alone}
    meant = [path for path in files.not_read if path.parent not in folders and path.stem in stems]
    if meant:
        return f", but {_some(tuple(path.name for path in meant))}: masks are {', '.join(MASK_SUFFIXES)} files"
    return ". Add the masks, or remove the images"


def _texts(paths: Sequence[Path]) -> tuple[str, ...]:
    return tuple(map(str, paths))


def _count(number: int, one: str, many: str) -> str:
    return f"{number} {one if number == 1 else many}"


def _some(names: Sequence[str], most: int = 5) -> str:
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + rest
