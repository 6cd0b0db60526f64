"""Values of a recipe as people write them: names and paths, numbers between commas, fractions, names of data sets."""

import difflib
import math
import re
from typing import Annotated, Any, Final, Literal, get_args

from pydantic import AfterValidator, BeforeValidator, Field

from prunekit_runtime.text import printable_name

MAX_MASK_VALUES: Final = 255  # as many as there can be classes


def _utf8(text: Any) -> Any:
    """Refuse bytes that are no UTF-8, which the system gives as lone surrogates; a recipe could not hold them."""
    if isinstance(text, str) and any("\ud800" <= character <= "\udfff" for character in text):
        raise ValueError("a recipe is UTF-8, and this name is not; rename the file or the folder, or link to it")
    return text


def _writable(text: str) -> str:
    if printable_name(text) != text:
        raise ValueError("control characters cannot be part of a setting; rename the file or the folder")
    return text


Text = Annotated[str, Field(max_length=4096), BeforeValidator(_utf8), AfterValidator(_writable)]


def _numbers(value: Any) -> Any:
    """Read numbers and ranges between commas, "0,255" or "1-150"; anything else stays for pydantic to judge."""
    if not isinstance(value, str):
        return value
    found = [_RANGE.fullmatch(part) for part in value.split(",")] if value.strip() else []
    ranges = [range(int(match[1]), int(match[2] or match[1]) + 1) for match in found if match]
    if len(ranges) != len(found) or not all(ranges):
        raise ValueError(
            f"write numbers from 0 to {MAX_LABEL} and rising ranges between commas, such as 0,255 or 1-150"
        )
    if sum(map(len, ranges)) > MAX_MASK_VALUES:
        raise ValueError(f"there are at most {MAX_MASK_VALUES} classes")
    return [number for part in ranges for number in part]


def _differing(values: tuple[int, ...]) -> tuple[int, ...]:
    repeated = [number for number in values if values.count(number) > 1]
    if repeated:
        raise ValueError(f"{repeated[0]} is named twice; give each class its own number")
    return values


def _one_or_more(value: Any) -> Any:
    """Take one number for a list of it."""
    return [value] if isinstance(value, int) else _numbers(value)


MAX_LABEL: Final = 65535  # of a mask of 16 bits
_RANGE: Final = re.compile(r"\s*([0-9]{1,5})\s*(?:-\s*([0-9]{1,5})\s*)?", re.ASCII)
MaskValues = Annotated[
    tuple[Annotated[int, Field(ge=0, le=MAX_LABEL)], ...], BeforeValidator(_numbers), AfterValidator(_differing)
]

IgnoredNumbers = Annotated[
    tuple[Annotated[int, Field(ge=0, le=MAX_LABEL)], ...], BeforeValidator(_one_or_more), AfterValidator(_differing)
]


def _triple(value: Any) -> Any:
    """Read three numbers between commas; anything else stays for pydantic to judge."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def fraction(value: Any) -> Any:
    """Read "1/255"."""
    over, slash, under = value.partition("/") if isinstance(value, str) else ("", "", "")
    try:
        return float(over) / float(under) if slash else value
    except (ValueError, ZeroDivisionError):
        return value


_Number = Annotated[float, Field(ge=-1e6, le=1e6)]
_Positive = Annotated[float, Field(ge=1e-6, le=1e6)]
Mean = Annotated[tuple[_Number, _Number, _Number], BeforeValidator(_triple)]
Std = Annotated[tuple[_Positive, _Positive, _Positive], BeforeValidator(_triple)]

DataName = Literal["shapes", "camvid", "cityscapes", "ade20k", "voc", "voc-aug", "coco-stuff", "folder"]
OWN_DATA: Final = "python:"
"""What the name of a data set of somebody's own begins with; a class in a module follows."""
_OWN_NAME: Final = re.compile(r"python:[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")


def near_data_set(name: str) -> str:
    """Return how a sentence ends that says a data set is not known: with a similar name, if there is one."""
    near = difflib.get_close_matches(name[:100].lower(), get_args(DataName), n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else "."


def _known(name: str) -> str:
    known = get_args(DataName)
    if name not in known and not _OWN_NAME.fullmatch(name):
        choices = f"{', '.join(known)} or python:package.module:Class"
        raise ValueError(f"there is no such data set{near_data_set(name)} Choose {choices}")
    return name


DataSetName = Annotated[Text, AfterValidator(_known)]


def _class_weights(value: Any) -> Any:
    """Read a word, or numbers of at least 0 as a list or between commas."""
    if isinstance(value, str) and value in CLASS_WEIGHTS:
        return value
    parts = value.split(",") if isinstance(value, str) else value
    try:
        numbers = tuple(float(part) for part in parts if not isinstance(part, bool))
        found = len(numbers) == len(parts) and 0 < len(numbers) <= MAX_MASK_VALUES and 0 < sum(numbers) < math.inf
        if found and all(0 <= number <= MAX_CLASS_WEIGHT for number in numbers):
            return numbers
    except (TypeError, ValueError):
        pass
    raise ValueError(
        f"write {', '.join(CLASS_WEIGHTS)}, or a number from 0 to {MAX_CLASS_WEIGHT:g} for each class, such as 1,1,2.5"
    )


CLASS_WEIGHTS: Final = ("none", "sqrt", "inverse")
MAX_CLASS_WEIGHT: Final = 1e6
ClassWeights = Annotated[Literal["none", "sqrt", "inverse"] | tuple[float, ...], BeforeValidator(_class_weights)]
