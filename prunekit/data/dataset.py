"""What every data set gives: a class map, and samples of one image and one label map at their own size.

Shapes: H height, W width.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import torch
from torch import Tensor

from prunekit.errors import DataError
from prunekit_runtime.text import printable_name

IGNORE_INDEX: Final = 255
MAX_NAME_CHARACTERS: Final = 200
MAX_CLASSES: Final = 255  # labels are uint8 and 255 is taken by the ignored pixels

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class ClassMap:
    """The classes of a data set, in the order of their labels.

    Raises:
        DataError: names are empty, repeated, too many or hold control characters, or the palette does not fit them.
    """

    names: tuple[str, ...]
    palette: tuple[tuple[int, int, int], ...]
    """One RGB colour a class, each value 0 to 255."""
    ignore_index: int = IGNORE_INDEX
    """Label of the pixels that count neither in the loss nor in the metrics."""

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise DataError(
                f"A data set has 1 to {MAX_CLASSES} classes, got {len(self.names)}. Correct the class list."
            )
        odd = next((n for n in self.names if printable_name(n) != n or len(n) > MAX_NAME_CHARACTERS), None)
        if odd is not None:
            raise DataError(
                f"Class name {printable_name(odd[:40])!r} holds control characters, or is longer than "
                f"{MAX_NAME_CHARACTERS}. Rename it."
            )
        repeated = sorted({name for name in self.names if self.names.count(name) > 1 or not name.strip()})
        if repeated:
            raise DataError(
                f"Class names must be unique and not empty, got {repeated[:5]} twice or blank. Rename them."
            )
        if len(self.palette) != len(self.names):
            raise DataError(f"{len(self.names)} classes have {len(self.palette)} colours. Give each class one colour.")
        for name, colour in zip(self.names, self.palette, strict=True):
            if len(colour) != 3 or not all(0 <= value <= 255 for value in colour):
                raise DataError(f"Class {name!r} has the colour {colour}. Write three numbers from 0 to 255.")

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class Sample:
    """One image with its labels, both at the data set's own size.

    Raises:
        DataError: the two do not fit together.
    """

    image_3HW: Tensor
    """RGB, uint8."""
    labels_HW: Tensor
    """Class of each pixel or the ignore index, uint8."""
    name: str

    def __post_init__(self) -> None:
        image, labels = self.image_3HW, self.labels_HW
        if image.dtype != torch.uint8 or labels.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
            raise DataError(
                f"Sample {self.name}: expected a uint8 image [3, H, W] and uint8 labels [H, W], got "
                f"{image.dtype} {list(image.shape)} and {labels.dtype} {list(labels.shape)}. Correct the data set."
            )
        if image.shape[1:] != labels.shape:
            raise DataError(
                f"Sample {self.name}: the image has {size_text(image.shape[1:])} pixels, the labels "
                f"{size_text(labels.shape)}. Make them the same size."
            )


class SegmentationDataset(Protocol):
    """Anything with classes that gives samples by position, always the same one for the same position."""

    @property
    def classes(self) -> ClassMap:
        """The classes the labels refer to."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Sample: ...


def check_position(index: int, count: int) -> int:
    """Return `index`, or raise the IndexError that ends a plain `for` loop over a data set."""
    if not 0 <= index < count:
        raise IndexError(f"sample {index} of {count}")
    return index


def size_text(size_HW: Sequence[int]) -> str:
    """Return height and width as --size takes them: "480x640", height first."""
    height, width = size_HW
    return f"{height}x{width}"
