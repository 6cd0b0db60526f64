"""A data set of a user's own behind the same face as the others, each sample checked when it is read.

Shapes: H height, W width.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from prunekit.data.dataset import IGNORE_INDEX, ClassMap, Sample, Split, check_position, size_text
from prunekit.data.labels.colours import made_up_palette
from prunekit.data.labels.numbers import listed_numbers
from prunekit.data.own.finding import HOW, failure, find_class
from prunekit.errors import DataError, PrunekitError
from prunekit.recipe import DataConfig
from prunekit_runtime.text import printable_name

_ITEM: Final = "(image, labels): uint8 [height, width, 3] in RGB, and whole numbers [height, width]"


class OwnDataset:
    """One split of what `python:package.module:Class` returns for `Class(root=..., split=...)`.

    It has `__len__`, `__getitem__(index) -> (image_HW3 uint8, labels_HW)`, perhaps with a name as the third, and
    `classes` (or `names`): names in the order of their labels, or a mapping from name to colour. `ignore_index`, 255 if
    there is none, is the label that does not count, or several. Arrays are numpy's, or what numpy reads: tensors, PIL.

    Raises:
        DataError: the class cannot be found or made, has no classes or samples, or its first sample is not as above.
    """

    def __init__(self, config: DataConfig, split: Split) -> None:
        self._name, self._split = config.name, split
        self._given = self._asked(find_class(config.name), "cannot be made", root=config.root, split=split)
        self.classes = self._classes()
        self._ignored = self._ignored_labels(config.ignore_index)
        self._count = self._asked(lambda: len(self._given), "has no length")
        if self._count == 0:
            raise DataError(f"{self._name} holds no samples of {split}. Add images, or choose another split.")
        self[0]  # a class that does not fit shows before a training begins

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        check_position(index, self._count)
        item = self._asked(lambda: self._given[index], f"cannot give sample {index}")
        what = f"Sample {index} of {self._name}"
        if not isinstance(item, Sequence) or isinstance(item, str) or len(item) not in (2, 3):
            raise DataError(f"{what} is {_kind(item)}. Return {_ITEM}.")
        image_HW3, labels_HW = _image(item[0], what), self._labels(item[1], what)
        if image_HW3.shape[:2] != labels_HW.shape:
            raise DataError(
                f"{what} has an image of {size_text(image_HW3.shape[:2])} pixels and labels of "
                f"{size_text(labels_HW.shape)}. Make them the same size."
            )
        name = printable_name(str(item[2])) if len(item) == 3 else f"{self._split}-{index:05d}"
        image_3HW = torch.from_numpy(np.array(image_HW3)).permute(2, 0, 1).contiguous()
        return Sample(image_3HW, torch.from_numpy(labels_HW), name)

    def _asked(self, call: Callable[..., Any], what: str, **arguments: Any) -> Any:
        """Call a user's code; what it raises becomes one error that says where."""
        try:
            return call(**arguments)
        except PrunekitError:
            raise
        except Exception as error:
            raise DataError(f"{self._name} {what}: {failure(error)}. It is a class: {HOW}.") from error

    def _classes(self) -> ClassMap:
        found = getattr(self._given, "classes", None) or getattr(self._given, "names", None)
        if isinstance(found, ClassMap):
            return found
        if isinstance(found, str) or not isinstance(found, Iterable) or not found:
            raise DataError(
                f"{self._name} has no classes. Give it an attribute: classes = ['road', 'sky', ...], in the order of "
                "the labels, or {'road': (128, 64, 128), ...}."
            )
        names = tuple(found)
        if not all(isinstance(name, str) for name in names):
            raise DataError(f"{self._name} has classes that are no names: {_kind(names[0])}. Write them as text.")
        colours = found.values() if isinstance(found, Mapping) else made_up_palette(len(names))
        try:
            return ClassMap(names, tuple(_colour(colour) for colour in colours))
        except DataError as error:
            raise DataError(f"{self._name}: {error}") from None

    def _ignored_labels(self, said: tuple[int, ...]) -> list[int]:
        own = getattr(self._given, "ignore_index", IGNORE_INDEX)
        own = [own] if isinstance(own, int) else own
        if not isinstance(own, Sequence) or not all(isinstance(one, int) for one in own):
            raise DataError(f"{self._name} has the ignore_index {_kind(own)}. Write a whole number, or several.")
        ignored = list(said or own)
        clash = [number for number in ignored if 0 <= number < len(self.classes)]
        if clash:
            raise DataError(
                f"{self._name}: the label {clash[0]} is to be ignored and is the class "
                f"{self.classes.names[clash[0]]!r}. Choose a label that is no class."
            )
        return ignored

    def _labels(self, given: Any, what: str) -> npt.NDArray[np.uint8]:
        labels_HW = _array(given, what)
        if labels_HW.ndim != 2 or labels_HW.dtype.kind not in "iub":
            raise DataError(
                f"{what} has labels {list(labels_HW.shape)} of {labels_HW.dtype}. Return whole numbers [height, width]."
            )
        ignored_HW = np.isin(labels_HW, self._ignored)
        wrong = labels_HW[~ignored_HW & ((labels_HW < 0) | (labels_HW >= len(self.classes)))]
        if wrong.size:
            raise DataError(
                f"{what} has the labels {listed_numbers(np.unique(wrong).tolist())}; the classes are 0 to "
                f"{len(self.classes) - 1}, ignored is {listed_numbers(self._ignored)}. Correct the labels, or say "
                "which are to be ignored: --ignore-index N"
            )
        return np.where(ignored_HW, IGNORE_INDEX, labels_HW).astype(np.uint8)


def _image(given: Any, what: str) -> npt.NDArray[np.uint8]:
    image = _array(given, what)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        turned = image.ndim == 3 and image.shape[0] == 3
        hint = " Channels come last: image.transpose(1, 2, 0)." if turned else ""
        raise DataError(
            f"{what} has an image {list(image.shape)} of {image.dtype}.{hint} Return uint8 [height, width, 3]."
        )
    return image


def _array(given: Any, what: str) -> npt.NDArray[Any]:
    try:
        return np.asarray(given)
    except Exception as error:
        raise DataError(f"{what} holds {_kind(given)}, no array ({failure(error)}). Return {_ITEM}.") from error


def _colour(colour: Any) -> tuple[int, int, int]:
    values = tuple(colour) if isinstance(colour, Iterable) and not isinstance(colour, str) else ()
    if len(values) != 3 or not all(isinstance(value, int) for value in values):
        raise DataError(f"The colour {_kind(colour)} is none. Write three numbers from 0 to 255.")
    return values


def _kind(value: Any) -> str:
    return f"{type(value).__name__} {printable_name(repr(value)[:80])}"
