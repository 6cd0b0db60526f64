"""Masks: PNGs that hold a number a pixel, or show the colour of a class.

Shapes: H height, W width.
"""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from prunekit.data.dataset import IGNORE_INDEX
from prunekit.data.images import MASK_FORMATS, is_opaque, label_array, load, rgb_array
from prunekit.data.labels.class_list import ClassList
from prunekit.data.labels.colours import Colour
from prunekit.data.labels.numbers import listed_numbers
from prunekit.errors import DataError

_NUMBERS: Final = 1 << 16  # of a mask of 16 bits a pixel
_UNKNOWN: Final = -1
_ROWS: Final = 64  # of a colour mask at a time, whose places take eight bytes a pixel
_Labels = npt.NDArray[np.uint8]
Value = int | Colour
"""What a mask says of a pixel: a number, or a colour."""
MAX_VALUES: Final = 1024
"""Different values of a mask that are told apart; classes are 255 at most."""


def read_mask(path: Path, class_list: ClassList) -> _Labels:
    """Read a mask as labels, uint8 [H, W].

    Raises:
        DataError: the file is no PNG mask, ambiguous, or holds a number or colour that is no class.
    """
    mask = load(path, MASK_FORMATS)
    if _kind(mask, path, class_list) == "colour":
        if class_list.values:
            raise DataError(
                f"Mask {path} shows colours, and data.mask_values names numbers. Leave it out and give each class its "
                "colour in the class list, or save the masks as index PNGs."
            )
        return _from_colours(mask, path, class_list)
    return _from_numbers(label_array(mask, path), path, class_list)


def unknown_values(path: Path, class_list: ClassList) -> dict[Value, int]:
    """Return the numbers or colours of a mask that are no class, with their pixels; of `MAX_VALUES` frequent ones.

    Raises:
        DataError: the mask cannot be read for another reason.
    """
    mask = load(path, MASK_FORMATS)
    coloured = _kind(mask, path, class_list) == "colour"
    values = shown_colours(mask, path) if coloured else stored_numbers(mask, path)
    known = functools.partial(_is_colour if coloured else _is_number, path=path, class_list=class_list)
    return {value: pixels for value, pixels in itertools.islice(values.items(), MAX_VALUES) if not known(value)}


def stored_numbers(mask: Image.Image, path: Path) -> dict[Value, int]:
    """Return the numbers that an index mask holds with their pixels, the most frequent first.

    Raises:
        DataError: the file holds colours.
    """
    return _by_frequency(*np.unique(label_array(mask, path), return_counts=True))


def shown_colours(mask: Image.Image, path: Path) -> dict[Value, int]:
    """Return the colours that a mask shows with their pixels, the most frequent first.

    Raises:
        DataError: the mask is transparent in places.
    """
    if not is_opaque(mask, path):
        raise DataError(f"Mask {path} is transparent in places. Save it as RGB without transparency.")
    packed = _by_frequency(*np.unique(_packed(rgb_array(mask)), return_counts=True))
    return {(int(v) >> 16, int(v) >> 8 & 255, int(v) & 255): n for v, n in packed.items() if isinstance(v, int)}


def _by_frequency(values_N: npt.NDArray[Any], pixels_N: npt.NDArray[np.int64]) -> dict[Value, int]:
    order_N = np.argsort(-pixels_N, kind="stable")
    return dict(zip(values_N[order_N].tolist(), pixels_N[order_N].tolist(), strict=True))


def _is_number(value: Value, path: Path, class_list: ClassList) -> bool:
    return _is_read(lambda: _from_numbers(np.array([[value]], dtype=np.int64), path, class_list))


def _is_colour(value: Value, path: Path, class_list: ClassList) -> bool:
    return _is_read(lambda: _from_colours(Image.new("RGB", (1, 1), value), path, class_list))


def _is_read(read: Callable[[], object]) -> bool:
    """Tell whether a mask of one value can be read: so its reader alone says what is a class."""
    try:
        read()
    except DataError:
        return False
    return True


def _kind(mask: Image.Image, path: Path, class_list: ClassList) -> Literal["index", "colour"]:
    if class_list.masks != "auto":
        return class_list.masks
    if mask.mode in ("RGB", "RGBA"):
        return "colour"
    if not is_opaque(mask, path):
        raise DataError(
            f"Mask {path} is transparent in places: do these pixels count by their number? If so, say masks = "
            '"index" in the class list (as TOML), or save the masks without transparency.'
        )
    if mask.mode != "P":
        return "index"
    if class_list.coloured and _palette_contradicts(mask, class_list):
        raise DataError(
            f"Mask {path} is a palette PNG that shows the class list's colours under other numbers than its own. "
            'Say which is meant: masks = "index" or masks = "colour" in the class list (as TOML).'
        )
    return "index"


def _palette_contradicts(mask: Image.Image, class_list: ClassList) -> bool:
    """Tell whether the mask shows class colours only, and some of them under another class's number."""
    flat = mask.getpalette("RGB") or []
    numbers: list[int] = np.unique(np.asarray(mask)).tolist()
    shown = {number: tuple(flat[3 * number : 3 * number + 3]) for number in numbers}
    shades = dict(enumerate(class_list.classes.palette)) | {IGNORE_INDEX: class_list.ignore_colour}
    meant = {number: shade for number, label in class_list.label_of.items() if (shade := shades[label]) is not None}
    known = set(meant.values())
    return all(colour in known for colour in shown.values()) and any(
        meant.get(number) != colour for number, colour in shown.items()
    )


def _from_numbers(stored_HW: npt.NDArray[np.int64], path: Path, class_list: ClassList) -> _Labels:
    label_of = np.full(_NUMBERS + 1, _UNKNOWN, dtype=np.int16)  # the last stands for what no mask may hold
    label_of[list(class_list.label_of)] = list(class_list.label_of.values())
    known_HW = (stored_HW >= 0) & (stored_HW < _NUMBERS)
    labels_HW = label_of[np.where(known_HW, stored_HW, _NUMBERS)]
    wrong = stored_HW[labels_HW == _UNKNOWN]
    if wrong.size:
        raise DataError(_unknown_numbers(wrong, path, class_list))
    return labels_HW.astype(np.uint8)


def _unknown_numbers(wrong_N: npt.NDArray[np.int64], path: Path, class_list: ClassList) -> str:
    numbers, counts = np.unique(wrong_N, return_counts=True)
    number, others = int(numbers[-1]), [int(one) for one in numbers[:-1]]
    also = f" (and {listed_numbers(others)}, unknown too)" if others else ""
    of_classes = [one for one, label in class_list.label_of.items() if label != IGNORE_INDEX]
    ignored = [one for one, label in class_list.label_of.items() if label == IGNORE_INDEX]
    known = f"{'data.mask_values' if class_list.values else 'the class list'} {listed_numbers(of_classes)}"
    known += f", and {listed_numbers(ignored)} for pixels not to count" if ignored else ""
    if class_list.numbers:
        remedy = f'say what it is in the class list, by id or in label_map: {number} = "ignore", or a class'
    else:
        remedy = (
            f"add the class to the class list, ignore it (--ignore-index {number}), or name the numbers of the classes "
            "in its order: --set data.mask_values=0,255"
        )
    return f"Mask {path} holds {number} at {counts[-1]} pixels{also}; {known}. Correct the mask, or {remedy}"


def _from_colours(mask: Image.Image, path: Path, class_list: ClassList) -> _Labels:
    if not class_list.coloured:
        raise DataError(f"Mask {path} shows colours, the class list names none. Give each class its colour there.")
    if mask.mode not in ("RGB", "RGBA", "P", "L", "1"):
        raise DataError(f"Mask {path} has pixels of kind {mask.mode}, which show no colours. Save it as RGB PNG.")
    if not is_opaque(mask, path):
        raise DataError(f"Mask {path} is transparent in places. Save it as RGB without transparency.")
    known = np.array(class_list.classes.palette, dtype=np.uint8).reshape(-1, 3)
    labels = list(range(len(class_list.classes)))
    if class_list.ignore_colour is not None:
        known = np.concatenate([known, np.array([class_list.ignore_colour], dtype=np.uint8)])
        labels.append(IGNORE_INDEX)
    colours_C = _packed(known)
    order_C = np.argsort(colours_C)
    sorted_C, labels_C = colours_C[order_C], np.array(labels, dtype=np.uint8)[order_C]
    colours_HW3 = rgb_array(mask)
    labels_HW = np.empty(colours_HW3.shape[:2], dtype=np.uint8)
    for top in range(0, len(labels_HW), _ROWS):
        packed_hW = _packed(colours_HW3[top : top + _ROWS])
        place_hW = np.searchsorted(sorted_C, packed_hW).clip(max=len(labels) - 1)
        if (sorted_C[place_hW] != packed_hW).any():
            packed_HW = _packed(colours_HW3)
            raise DataError(_unknown_colour(packed_HW[~np.isin(packed_HW, colours_C)], path))
        labels_HW[top : top + _ROWS] = labels_C[place_hW]
    return labels_HW


def _packed(colours: npt.NDArray[np.uint8]) -> npt.NDArray[np.int32]:
    packed = colours[..., 0].astype(np.int32)
    for channel in (1, 2):
        packed <<= 8
        packed |= colours[..., channel]
    return packed


def _unknown_colour(packed_N: npt.NDArray[np.int32], path: Path) -> str:
    values, counts = np.unique(packed_N, return_counts=True)
    value = int(values[counts.argmax()])
    return (
        f"Mask {path} shows the colour {[value >> 16, value >> 8 & 255, value & 255]} at {int(counts.max())} pixels, "
        f"which no class has ({len(values)} unknown colours in all). Add it to the class list, or as ignore_colour; "
        "many unknown colours mean that the mask was smoothed or saved lossily."
    )
